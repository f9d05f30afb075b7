# Input functions: what a job reads, and digests of what it depends on besides.


def code_of(*modules, cells=()):
    """The digest of the code that a job runs: of modules, as they run for cells."""
    return code_digest(modules, cells)


def last_failure(job):
    """A params function: what changes when a job fails or is killed, for one whose earlier output is then left.
    Snakemake records such a job as if it had been done. (A function of the output would trigger nothing.)"""
    return lambda wildcards: file_state(PREFIX + log_file(job).format(**wildcards) + FAILED)


def users_own(*paths):
    """Those of the user's own files that can be inputs: jobs tell more than Snakemake of files that are not there, and
    braces in a path are wildcards to it. A module's `prefix` is not for them."""
    return [local(path) for path in paths if Path(path).is_file() and "{" not in path]


def states(paths):
    """What tells that one of the user's own files was replaced by an older one, which Snakemake does not see."""
    return [file_state(path) for path in paths]


def source_of(benchmark):
    return config["benchmarks"][benchmark]["source"]


def is_folder(benchmark):
    """Whether the captions are the user's own, whose digests tell what changed more finely than the manifest's date."""
    return source_of(benchmark)["reader"] == planning.FOLDER


def manifest(wildcards):
    """The manifest that a job reads. There is none for captions of the user's own: a job reads them by itself, and runs
    again by their digest, as the manifest changes with captions of other splits, too. (`ancient` would not do. What
    else is to be done behind an `ancient` file, Snakemake overlooks while that file is made.)"""
    return [] if is_folder(wildcards.benchmark) else layout.MANIFEST.format(benchmark=wildcards.benchmark)


def source_option(benchmark):
    return f"--source {shlex.quote(json.dumps(source_of(benchmark)))}" if is_folder(benchmark) else ""


def captions(wildcards):
    return planning.captions(source_of(wildcards.benchmark))


def digest_of(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


# What a cell depends on, however indirectly. That of a job's own inputs would not do: where a run ended behind the job
# that made an input again, and the input was deleted then, Snakemake knows of no change.
def trained_from(cell):
    splits = ["train", "val"] if "val" in cell.splits else ["train"]
    return [cell_json(cell), cell_code("train", cell), captions_of(cell, splits), videos_of(cell), users_weights(cell)]


def evaluated_from(cell):
    of_itself = [cell_code("evaluate", cell), captions_of(cell, ["test"])]
    return (
        [*trained_from(cell), *of_itself]
        if cell.trained
        else [cell_json(cell), *of_itself, videos_of(cell), users_weights(cell)]
    )


def captions_of(cell, splits):
    return planning.captions(source_of(cell.benchmark), splits)


def videos_of(cell):
    return digest_of(*clips_digests(cell.dataset))


def cell_code(command, cell):
    """The digest of the code that a command runs for a cell and, where it reads the user's own captions, of their
    reader."""
    reader = [datasets.module(planning.FOLDER)] if is_folder(cell.benchmark) else []
    return code_of(f"centerclip.commands.{command}", *reader, cells=[cell])


def shown_from(*benchmarks):
    """The digest of what tables of benchmarks depend on."""
    recalls = [evaluated_from(made) for name in benchmarks for made in cells(name)]
    measured = [name for name in benchmarks if config["run"]["costs"]]
    costs = [[made.cost_settings() for made in compared(name)] + [costs_code(compared(name))] for name in measured]
    return digest_of(recalls, costs)


def limits(wildcards):
    """What a benchmark is checked for, as options of commands."""
    return checks.limits(config["benchmarks"][wildcards.benchmark])


def training_options(wildcards):
    options = [cell(wildcards).runtime.training_options, limits(wildcards), source_option(wildcards.benchmark)]
    return " ".join(options)


def evaluation_options(wildcards):
    options = [cell(wildcards).runtime.evaluation_options, limits(wildcards), source_option(wildcards.benchmark)]
    return " ".join(options)


READ = {}  # dataset -> the splits of it that jobs of this run read


def frames(*splits):
    """An input function: the report of the stored frames, for a job that reads these splits, or all of its cell's. It
    notes them for `splits_stored`, which Snakemake asks when it knows all jobs."""

    def report(wildcards):
        READ.setdefault(cell(wildcards).dataset, set()).update(splits or cell(wildcards).splits)
        return str(cell(wildcards).path(layout.FRAMES))

    return report


def splits_stored(dataset):
    """The splits whose frames are stored: those that this run reads or an earlier run read; all where none reads any."""
    file = Path(PREFIX + layout.SPLITS.format(dataset=dataset))
    read = READ.get(dataset, set()) | set(checks.needed_splits(file) if file.exists() else [])
    return [split for split in datasets.SPLITS if split in (read or datasets.SPLITS)]


def manifests_of(wildcards):
    """The manifests of the benchmarks that share a dataset's frames; none for the user's own captions, as `manifest`."""
    names = resolve.benchmarks_of(config, wildcards.dataset)
    return [] if is_folder(wildcards.dataset) else expand(layout.MANIFEST, benchmark=names)


def frames_options(wildcards):
    options = ["--stall-seconds", str(config["stall_seconds"])]
    if is_folder(wildcards.dataset):
        names = resolve.benchmarks_of(config, wildcards.dataset)
        options += ["--sources", *(json.dumps(source_of(name)) for name in names)]
    return shlex.join(options)


def clips_digests(dataset):
    """A digest for each shard of a dataset, of its clips and of their files' states."""
    names = resolve.benchmarks_of(config, dataset)
    benchmarks = [(source_of(name), Path(PREFIX + layout.MANIFEST.format(benchmark=name))) for name in names]
    return planning.shards(benchmarks, splits_stored(dataset), config["benchmarks"][dataset]["shards"])


def shard_reports(wildcards):
    shards = range(config["benchmarks"][wildcards.dataset]["shards"])
    return expand(layout.SHARD_REPORT, shard=[f"{number:04d}" for number in shards], **wildcards)


def of_benchmark(key):
    """A params function: what the block of the job's benchmark or dataset says at `key`."""
    return lambda wildcards: config["benchmarks"][wildcards[0]][key]


def fetch_code(wildcards):
    """The digest of what makes a dataset's files; '' where they are downloaded."""
    reader = source_of(wildcards.dataset)["reader"]
    return "" if reader in sources.read_table() else code_of(datasets.module(reader))


def manifest_code(wildcards):
    reader = source_of(wildcards.benchmark)["reader"]
    return code_of("centerclip.commands.manifest", datasets.module(reader))


def raw_files(wildcards):
    """The fetched files that a manifest is read from; the user's own captions tell by their digest that they changed."""
    if is_folder(wildcards.benchmark):
        return []
    return layout.SOURCE.format(dataset=resolve.dataset(config, wildcards.benchmark))


def local_files(wildcards):
    """The user's own copies of a dataset's files. What the user must do to have the rest is told, once."""
    if not Path(PREFIX + layout.SOURCE.format(dataset=wildcards.dataset)).exists():
        tell_wishes(wildcards.dataset)
    return users_own(*(source_of(wildcards.dataset).get("local") or {}).values())


@cache
def tell_wishes(dataset):
    for line in sources.wishes(dataset, source_of(dataset)):
        print(line, file=sys.stderr)


def pretrained_of(cell):
    """The file that a cell's weights start from; nothing for random ones."""
    weights = cell.model.weights
    if published(config["weights"][cell.model.backbone]):
        return [weights]
    return users_own(weights) if weights else []


def pretrained(wildcards):
    return pretrained_of(cell(wildcards))


def users_weights(cell):
    """The state of the user's own file that a cell's weights start from."""
    return "" if published(config["weights"][cell.model.backbone]) else states(pretrained_of(cell))


def trained(wildcards):
    """A cell's trained weights and their history; nothing for a variant that is not trained."""
    templates = [layout.WEIGHTS, layout.HISTORY] if cell(wildcards).trained else []
    return [str(cell(wildcards).path(template)) for template in templates]


def cell_json(cell):
    """A cell's settings, json. A relative path to weights is one from where `results/` lies: with a module's `prefix`,
    not where that of the user's own weights starts."""
    settings = cell.settings()
    weights = config["weights"][settings["model"]["backbone"]]
    if PREFIX and weights and not published(weights):
        settings["model"]["weights"] = os.path.relpath(weights, PREFIX)
    return json.dumps(settings, indent=2)


def misfit(wildcards):
    """Nothing, or why a cell's settings do not fit each other: as a file that is missing, of which Snakemake tells in a
    line and without a traceback."""
    try:
        check_cell(cell(wildcards))
    except UserError as error:
        return str(error)
    return []


def untrained(wildcards):
    """Nothing, or that a cell has no weights of its own, told as `misfit` tells."""
    return [] if cell(wildcards).trained else f"{wildcards.variant} is evaluated as it starts, and not trained"


def not_run(wildcards):
    """Nothing, or that an ablation's points are not made, told as `misfit` tells."""
    _, _, grid = wildcards.plot.partition("-")
    return [] if not grid or grid in config["run"]["grids"] else f"{grid} is not one of run.grids"


def compared(benchmark):
    """The cells of a benchmark whose costs are measured beside each other."""
    return [cell_named(benchmark, name) for name in resolve.variants(config, benchmark)]


def results(wildcards):
    return [str(cell.path(layout.RESULT)) for cell in cells(wildcards.benchmark)]


def figures(benchmark):
    """The plots and pictures of a benchmark that would not come out empty."""
    names = plots.plots_of(compared(benchmark), config["run"]["grids"], config["run"]["costs"])
    drawn = expand(f"{layout.PLOT}.{{kind}}", benchmark=benchmark, plot=names, kind=["png", "svg"])
    return drawn + expand(layout.PICTURE, benchmark=benchmark, picture=pictures.pictures_of(compared(benchmark)))


def plotted(wildcards):
    """The variants that a plot shows: a grid's points, or those listed."""
    _, _, grid = wildcards.plot.partition("-")
    return list(resolve.points(config, grid)) if grid else resolve.listed(config, wildcards.benchmark)


def pictured_cells(wildcards):
    return pictures.pictures_of(compared(wildcards.benchmark)).get(wildcards.picture, [])


def pictured(template):
    """An input function: a file of `layout` of each cell that a picture shows."""
    return lambda wildcards: [str(cell.path(template)) for cell in pictured_cells(wildcards)]


def pictured_weights(wildcards):
    weights = [
        [str(cell.path(layout.WEIGHTS))] if cell.trained else pretrained_of(cell) for cell in pictured_cells(wildcards)
    ]
    return [file for files in weights for file in files]


def plot_code(wildcards):
    return code_of("centerclip.commands.plot", plots.module(wildcards.plot))


def picture_code(wildcards):
    return code_of("centerclip.commands.picture", pictures.module(wildcards.picture), cells=pictured_cells(wildcards))


def plot_labels(wildcards):
    return {"plot": wildcards.plot.replace("-", " ").replace("_", " ")}


def stem(wildcards, output):
    """The outputs of a job without their suffix."""
    return output[0].rpartition(".")[0]


def costs(wildcards):
    """What a benchmark's variants cost; nothing where run.costs is false."""
    return layout.COSTS.format(benchmark=wildcards.benchmark) if config["run"]["costs"] else []


def costs_option(wildcards, input):
    return f"--costs {input.costs}" if input.costs else ""


def costs_code(cells):
    """The digest of what measures the costs of cells, on random weights."""
    algorithms = [name for cell in cells for name in cell.algorithms]
    return code_of("centerclip.evaluate.efficiency", *algorithms)


def all_cores(otherwise):
    """All that Snakemake may use; on a cluster, where a job has its cores to itself and none are said, `otherwise`."""
    try:
        return workflow.cores
    except WorkflowError:
        return otherwise
