# What the rules share: the checked config and how a cell's settings reach a stage.
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(workflow.basedir))
from centerclip import clustering, gpus, sources
from centerclip.config import cell, cell_names, check_cell, check_config, listed, parted, points, read_yaml, variants
from centerclip.stage import UserError, file_state, located

ENVIRONMENT = "../../environment.yml"

# --configfile overrides the Snakefile's own configfile, which Snakemake lists last
configfiles = [*workflow.configfiles[-1:], *workflow.configfiles[:-1]]
try:
    with open(workflow.source_path("../schemas/config.schema.yaml")) as schema:
        given = read_yaml(configfiles) | {"--config": workflow.config_settings.config}
        check_config(config, yaml.safe_load(schema), given)
    for benchmark in config["run"]["benchmarks"]:
        for path in {cell(config, benchmark, variant)["weights"] for variant in variants(config, benchmark)}:
            if path and not path.startswith("results/weights/") and not Path(path).is_file():
                raise UserError(f"weights {located(Path(path))}: no such file")
    for target in sys.argv:  # Snakemake itself learns of its targets later and says less
        if asked := re.fullmatch(r"results/([^/_]+)_([^/]+)\.json", target):
            check_cell(cell(config, *asked.groups()))
except UserError as error:
    raise WorkflowError(str(error))

BENCHMARKS = config["run"]["benchmarks"]
PLOTS = [
    "recall",
    "recall_at_k",
    "recall_vs_cost",
    "cost",
    "training",
    *(f"ablation-{grid}" for grid in config["run"]["grids"]),
]
if workflow.is_main_process:
    for line in sources.wishes({name: config["benchmarks"][name]["source"] for name in BENCHMARKS}):
        print(line, file=sys.stderr)
    if workflow.resource_settings.nodes is None:  # the jobs are this machine's and not a cluster's
        if workflow.global_resources.setdefault("gpu", len(gpus.visible())).value == 0:
            print("no GPU: training and evaluation run on the CPU", file=sys.stderr)


def code(*modules):
    """Source files that a rule's outcome depends on, to list as its input: Snakemake does not follow imports."""
    return [f"centerclip/{module}.py" for module in modules]


def settings(wildcards):
    """The resolved settings of a cell."""
    return cell(config, wildcards.benchmark, wildcards.variant)


def essence(wildcards):
    """Those of a cell's settings that its result depends on, json."""
    return json.dumps(parted(settings(wildcards))[0])


def conduct(wildcards, threads):
    """The others, json. Snakemake does no job again for a parameter whose function asks for `threads`."""
    return json.dumps(parted(settings(wildcards))[1])


def costly(settings):
    """Those of a cell's settings that its costs depend on."""
    essence = parted(settings)[0]
    return essence | {"training": essence["training"] | {"gpu_batch": settings["training"]["gpu_batch"]}}


def source(wildcards):
    """The `source` block of a benchmark, json."""
    return json.dumps(config["benchmarks"][wildcards.benchmark]["source"])


def video_files(wildcards):
    """A word that changes with the files of a shard's videos, so that one replaced, repaired or gone is noticed; ''
    before there is a manifest. Snakemake asks again when there is."""
    manifest = Path(f"results/{wildcards.benchmark}/manifest.csv")
    if not manifest.exists():
        return ""
    shards = config["benchmarks"][wildcards.benchmark]["shards"]
    return file_states(manifest, manifest.stat().st_mtime_ns, shards)[int(wildcards.shard)]


@cache
def file_states(manifest, changed, shards):
    """What `video_files` says of each shard, by the manifest as it was changed last."""
    from centerclip.manifest import shard_states  # pandas is not needed before there is a manifest

    return shard_states(manifest, shards)


def fetch_code(wildcards):
    """What makes a benchmark's raw files, where they are made and not downloaded."""
    reader = config["benchmarks"][wildcards.benchmark]["source"]["reader"]
    return [] if reader in sources.read_table() else code(f"benchmarks/{reader}")


def users_own(*paths):
    """Those of the user's own files that can be inputs: the jobs tell more than Snakemake of files that are not there,
    and braces in a path are wildcards to it."""
    return [path for path in paths if Path(path).is_file() and "{" not in path]


def local_files(wildcards):
    """The user's own copies of a benchmark's files."""
    return users_own(*(config["benchmarks"][wildcards.benchmark]["source"].get("local") or {}).values())


def pretrained(wildcards):
    """The file that a cell's weights start from; nothing for random ones."""
    path = settings(wildcards)["weights"] or ""
    return path if path.startswith("results/weights/") else users_own(path)


def model_code(*cells):
    """The modules that the features of cells (their settings) come from."""
    used = [name for one in cells for name in [*(stage["algorithm"] for stage in one["stages"]), one["shift"]]]
    algorithms = {module for name in used if name for module in clustering.modules(name)}
    shared = ["manifest", "frames", "dataset", "model", "weights", "backbones"]
    shared += ["clustering/__init__", "evaluation", "metrics"]
    return code(*shared, *(f"clustering/{name}" for name in sorted(algorithms)))


def cell_code(wildcards):
    """The modules that a cell's features come from."""
    return model_code(settings(wildcards))


def compared(wildcards):
    """The settings of each of a benchmark's variants."""
    return [cell(config, wildcards.benchmark, variant) for variant in variants(config, wildcards.benchmark)]


def cells(wildcards):
    """The results of a benchmark's variants, of every seed."""
    names = cell_names(config, wildcards.benchmark)
    return [f"results/{wildcards.benchmark}_{name}.json" for name in names]


def make_partly(job, options=""):
    """Make what a job of a failed run would have made, of what there is, or nothing. The next run makes it as usual."""
    with_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    try:
        shell("{job.shellcmd} {options} 2> /dev/null", conda_env=job.conda_env.address if with_conda else None)
    except CalledProcessError:  # there is too little
        return
    for path in job.output:  # nothing may take it for the real one: it gets a date before its inputs', and no record
        os.utime(path, (1, 1))
        workflow.persistence.cleanup_metadata(path)
    print(f"made of what there is: {job.output}", file=sys.stderr)


def plots(benchmark):
    """What is plotted of a benchmark: those of PLOTS that its variants have points for."""
    trained = [one for one in (cell(config, benchmark, name) for name in listed(config, benchmark)) if one["train"]]
    baselines = [one for one in trained if not one["stages"] and not one["shift"]]
    empty = {"training": not trained, "recall_vs_cost": not baselines}
    return [plot for plot in PLOTS if not empty.get(plot)]


def drawing(wildcards):
    """What a plot is and shows, for the command line: a grid's points, or the variants listed."""
    kind, _, grid = wildcards.plot.partition("-")
    shown = points(config, grid) if grid else listed(config, wildcards.benchmark)
    return f"{kind} --variants {' '.join(shown)}"


def frames_report(wildcards):
    """The report of the stored frames at the size of a cell's backbone."""
    return f"results/{wildcards.benchmark}/frames/{settings(wildcards)['image_size']}px/report.csv"


def captions_state(wildcards):
    """A word that changes with the user's own csv of captions, which is no input where its path has braces."""
    return file_state(config["benchmarks"][wildcards.benchmark]["source"].get("captions", ""))


def raw_files(wildcards):
    """What a benchmark's manifest is read from, whose change makes it anew: fetched files, or the user's own csv."""
    block = config["benchmarks"][wildcards.benchmark]["source"]
    return users_own(block["captions"]) if block["reader"] == "folder" else f"results/{wildcards.benchmark}/source"


def trained(wildcards):
    """A cell's trained weights and their history; nothing for a variant that is not trained."""
    cell_files = ["weights.safetensors", "history.json"] if settings(wildcards)["train"] else []
    return [f"results/{wildcards.benchmark}/{wildcards.variant}/{name}" for name in cell_files]


def clustering_variants(benchmark):
    """A benchmark's first variant of each clustering algorithm; the others of the first one's size if there is one."""
    models = [cell(config, benchmark, name) for name in variants(config, benchmark)]
    stages = [(model["variant"], stage) for model in models for stage in model["stages"][:1]]
    first = {name: stage for name, stage in stages if stage["algorithm"] not in clustering.SAMPLING}
    sizes = {name: (stage["segments"], stage["clusters"]) for name, stage in first.items()}
    found = {}
    for name in sorted(first, key=lambda name: sizes[name] != next(iter(sizes.values()))):
        found.setdefault(first[name]["algorithm"], name)
    return list(found.values())


def pictures(benchmark):
    """What is drawn of a benchmark: picture -> the variants it shows. Without clustering there are no tokens to draw."""
    clustering = clustering_variants(benchmark)
    shown = {"queries": (clustering or variants(config, benchmark))[:1], "tokens": clustering}
    return {picture: names for picture, names in shown.items() if names}


def of_each(file):
    """An input function: `file` of each cell that a picture shows; nothing where it gives nothing."""

    def found(wildcards):
        names = pictures(wildcards.benchmark).get(wildcards.picture, [])
        shown = [SimpleNamespace(benchmark=wildcards.benchmark, variant=name) for name in names]
        names = [file(one) for one in shown]
        return [name for found in names for name in ([found] if isinstance(found, str) else found)]

    return found
