# Input functions: what a job reads, and its options. `plan` tells what else its result depends on.


def cell(wildcards):
    """The cell that a job is about."""
    return plan.cell(wildcards.benchmark, wildcards.variant)


def users_own(*paths):
    """The user's own files that can be inputs, without a module's `prefix`. Missing files are left to the job, which
    tells more than Snakemake; braces in a path would be wildcards."""
    return [local(path) for path in paths if Path(path).is_file() and "{" not in path]


def local_files(wildcards):
    """The user's own copies of a dataset's files. Prints once how to get the others."""
    for line in plan.wishes(wildcards.dataset):
        print(line, file=sys.stderr)
    return users_own(*(plan.source(wildcards.dataset).get("local") or {}).values())


def frames(*splits):
    """An input function: the report of the stored frames, for a job that reads these splits or all of its cell's. It
    notes the splits for `plan.splits`, which Snakemake calls when it knows all jobs."""

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
    """An input function: `files` of the cells that a picture shows."""
    return lambda wildcards: [
        str(file) for cell in plan.pictured(wildcards.benchmark, wildcards.picture) for file in files(cell)
    ]


def limits(wildcards):
    """The limits that a benchmark is checked by, as options of commands."""
    return checks.limits(config["benchmarks"][wildcards.benchmark])


def options(kind):
    """A function: the options of a cell's training or evaluation that change no result."""
    return lambda wildcards: f"{plan.options(cell(wildcards), kind)} {limits(wildcards)}"


def all_cores(otherwise):
    """All cores that Snakemake may use; `otherwise` on a cluster, where no number is given."""
    try:
        return workflow.cores
    except WorkflowError:
        return otherwise
