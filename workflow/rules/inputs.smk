# Input functions: what a job reads, and digests of what it depends on besides.


def code_of(*modules, cells=()):
    """The digest of the code that a job runs: of modules, as they run for cells."""
    return code_digest(modules, cells)


def last_failure(job):
    """A params function: what changes when a job fails. Snakemake records the parameters of a job that failed as if it
    had been done, and by that alone would not try it again where an earlier output is left."""
    return lambda wildcards: file_state(log_file(job).format(**wildcards) + FAILED)


def users_own(*paths):
    """Those of the user's own files that can be inputs: jobs tell more than Snakemake of files that are not there, and
    braces in a path are wildcards to it."""
    return [path for path in paths if Path(path).is_file() and "{" not in path]


def source_of(benchmark):
    return config["benchmarks"][benchmark]["source"]


def is_folder(benchmark):
    """Whether the captions are the user's own, whose digests tell what changed more finely than the manifest's date."""
    return source_of(benchmark)["reader"] == planning.FOLDER


def manifest_of(benchmark):
    path = layout.MANIFEST.format(benchmark=benchmark)
    return ancient(path) if is_folder(benchmark) else path


def manifest(wildcards):
    return manifest_of(wildcards.benchmark)


def train_digests(wildcards):
    """What a training depends on besides files and settings, json."""
    recipe = cell(wildcards).training
    splits = ["train", "val"] if recipe and recipe.select == "val" else ["train"]
    return digests("centerclip.commands.train", cell(wildcards), splits)


def evaluate_digests(wildcards):
    return digests("centerclip.commands.evaluate", cell(wildcards), ["test"])


def digests(module, cell, splits):
    captions = planning.captions(source_of(cell.benchmark), splits)
    return json.dumps({"code": code_of(module, cells=[cell]), "captions": captions}, indent=2)


def manifests_of(wildcards):
    """The manifests of the benchmarks that share a dataset's frames."""
    return [manifest_of(name) for name in resolve.benchmarks_of(config, wildcards.dataset)]


def clips_digest(wildcards):
    names = resolve.benchmarks_of(config, wildcards.dataset)
    sources_and_manifests = [(source_of(name), Path(layout.MANIFEST.format(benchmark=name))) for name in names]
    shards = config["benchmarks"][wildcards.dataset]["shards"]
    return planning.shard(sources_and_manifests, shards, int(wildcards.shard))


def shard_digest(wildcards):
    """The digest of a shard's clips as a file, where the manifest does not trigger the job: the user's own videos."""
    return layout.SHARD_DIGEST.format(**wildcards) if is_folder(wildcards.dataset) else []


def shard_reports(wildcards):
    shards = range(config["benchmarks"][wildcards.dataset]["shards"])
    return expand(layout.SHARD_REPORT, shard=[f"{number:04d}" for number in shards], **wildcards)


def of_benchmark(key):
    """A params function: what the block of the job's benchmark or dataset says at `key`."""
    return lambda wildcards: config["benchmarks"][wildcards[0]][key]


def checks(wildcards):
    """What is checked before a cell is trained or evaluated. A check made again, with other limits, changes no result."""
    return [ancient(str(cell(wildcards).path(template))) for template in (layout.COUNTS_CHECK, layout.FRAMES_CHECK)]


def expected_counts(wildcards):
    counts = config["benchmarks"][wildcards.benchmark].get("counts") or {}
    return [f"{split}.{what}={number}" for split, block in counts.items() for what, number in block.items()]


def frames_of_benchmark(wildcards):
    return layout.FRAMES.format(dataset=resolve.dataset(config, wildcards.benchmark), size=wildcards.size)


def fetch_code(wildcards):
    """The digest of what makes a dataset's files; '' where they are downloaded."""
    reader = source_of(wildcards.dataset)["reader"]
    return "" if reader in sources.read_table() else code_of(datasets.module(reader))


def manifest_code(wildcards):
    reader = source_of(wildcards.benchmark)["reader"]
    return code_of("centerclip.commands.manifest", datasets.module(reader))


def raw_files(wildcards):
    """What a manifest is read from, whose change makes it anew: fetched files, or the user's own csv."""
    if is_folder(wildcards.benchmark):
        return users_own(source_of(wildcards.benchmark)["captions"])
    return layout.SOURCE.format(dataset=resolve.dataset(config, wildcards.benchmark))


def local_files(wildcards):
    """The user's own copies of a dataset's files. What the user must do to have the rest is told, once."""
    if not Path(layout.SOURCE.format(dataset=wildcards.dataset)).exists():
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


def trained(wildcards):
    """A cell's trained weights and their history; nothing for a variant that is not trained."""
    templates = [layout.WEIGHTS, layout.HISTORY] if cell(wildcards).trained else []
    return [str(cell(wildcards).path(template)) for template in templates]


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
    names = plots.plots_of(compared(benchmark), config["run"]["grids"])
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
