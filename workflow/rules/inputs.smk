# Input functions: what a job reads, and the options that it is given. What its result depends on besides: `plan`.


def cell(wildcards):
    """The cell that a job is about."""
    return plan.cell(wildcards.benchmark, wildcards.variant)


def users_own(*paths):
    """Those of the user's own files that can be inputs: jobs tell more than Snakemake of files that are not there, and
    braces in a path are wildcards to it. A module's `prefix` is not for them."""
    return [local(path) for path in paths if Path(path).is_file() and "{" not in path]


def local_files(wildcards):
    """The user's own copies of a dataset's files. What the user must do to have the rest is told, once."""
    for line in plan.wishes(wildcards.dataset):
        print(line, file=sys.stderr)
    return users_own(*(plan.source(wildcards.dataset).get("local") or {}).values())


def frames(*splits):
    """An input function: the report of the stored frames, for a job that reads these splits, or all of its cell's. It
    notes them for `plan.splits`, which Snakemake asks when it knows all jobs."""

    def report(wildcards):
        plan.read.setdefault(cell(wildcards).dataset, set()).update(splits or cell(wildcards).splits)
        return str(cell(wildcards).path(layout.FRAMES))

    return report


def weights_of(cell):
    """The file that a cell's weights start from; nothing for random ones."""
    return users_own(cell.model.weights) if plan.own_weights(cell) else [cell.model.weights] * bool(cell.model.weights)


def results(wildcards):
    return [str(cell.path(layout.RESULT)) for cell in plan.cells(wildcards.benchmark)]


def pictured(files):
    """An input function: `files` of each cell that a picture shows."""
    return lambda wildcards: [
        str(file) for cell in plan.pictured(wildcards.benchmark, wildcards.picture) for file in files(cell)
    ]


def limits(wildcards):
    """What a benchmark is checked for, as options of commands."""
    return checks.limits(config["benchmarks"][wildcards.benchmark])


def options(kind):
    """A function: the options of a cell's training or evaluation that change no result."""
    return lambda wildcards: f"{getattr(cell(wildcards).runtime, kind)} {limits(wildcards)} " + (
        f"--source {shlex.quote(json.dumps(plan.source(wildcards.benchmark)))}" * plan.in_folder(wildcards.benchmark)
    )


def all_cores(otherwise):
    """All that Snakemake may use; on a cluster, where a job has its cores to itself and none are said, `otherwise`."""
    try:
        return workflow.cores
    except WorkflowError:
        return otherwise
