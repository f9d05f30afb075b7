"""Where every file of the workflow lies: templates of paths, for the rules' wildcards and for `Cell.path`.

A `variant` in them is a cell's name: VARIANT or VARIANT-seed-N.
"""

from pathlib import Path

RESULT = "results/{benchmark}_{variant}.json"
RANKS = "results/{benchmark}_{variant}.ranks.npz"  # of the queries of RESULT
CELL = "results/{benchmark}/{variant}/cell.json"
WEIGHTS = "results/{benchmark}/{variant}/weights.safetensors"
HISTORY = "results/{benchmark}/{variant}/history.json"
CHECKPOINTS = "results/{benchmark}/{variant}/checkpoints"
EVALUATION = "results/{benchmark}/{variant}/evaluation.json"  # becomes RESULT when the benchmark passes its checks
EVALUATION_RANKS = "results/{benchmark}/{variant}/evaluation.ranks.npz"  # becomes RANKS with it
TENSORBOARD = "results/{benchmark}/{variant}/tensorboard"

BENCHMARK = "results/{benchmark}/benchmark.json"
MANIFEST = "results/{benchmark}/manifest.csv"
COMPARED = "results/{benchmark}/compared.json"
COSTS = "results/{benchmark}/costs.json"
FULL_SIZE = "full_size"  # in COMPARED, COSTS and TABLE: the paper's models, of no benchmark of the run

SOURCE = "results/{dataset}/source"
SPLITS = "results/{dataset}/splits.json"  # the splits whose frames are stored
SHARD = "results/{dataset}/frames/{size}px/{shard}.lmdb"
SHARD_REPORT = "results/{dataset}/frames/{size}px/{shard}.csv"
FRAMES = "results/{dataset}/frames/{size}px/report.csv"

PRETRAINED = "results/weights/{backbone}/{weights}.safetensors"  # published ones, by their name in the config
DOWNLOADS = "results/downloads"

TABLE = "results/tables/{benchmark}"  # .csv .html .md .tex
SUMMARY = "results/tables/summary"  # .html .md
FINDINGS = "results/tables/findings.md"
PLOT = "results/plots/{benchmark}_{plot}"  # .png .svg
PICTURE = "results/plots/{benchmark}_{picture}.png"
FULL_SIZE_PLOT = "results/plots/full_size"  # .png .svg

LOG = "results/logs/{job}.log"
JOB_BENCHMARK = "results/benchmarks/{job}.tsv"


def path(template: str, results: Path, **names: object) -> Path:
    """The path of a template in the directory `results`."""
    return results / Path(template.format(**names)).relative_to("results")


def remake(path: Path, template: str) -> str:
    """How to make a file of `template` again without the files that were made of it."""
    target = Path("results", *path.parts[1 - len(Path(template).parts) :])
    return f"make it again by your snakemake command with {target} as its only target"
