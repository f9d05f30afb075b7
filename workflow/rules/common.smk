# What the rules share: the checked config, its cells, and what a job depends on.
import hashlib
import json
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(str(workflow.current_basedir)).parent.parent
sys.path.insert(0, str(ROOT))
# Jobs run this copy of the package, whatever the working directory and the environment are.
shell.prefix(f'export PYTHONPATH="{ROOT}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"; ')

from centerclip.data import datasets
from centerclip import gpus
from centerclip.settings import layout, resolve
from centerclip.settings.cell import code_digest
from centerclip.command import FAILED, UserError, file_state, hold
from centerclip.settings.config import check_config, full_size, read_yaml
from centerclip.data.datasets import checks, planning
from centerclip.data.download import sources
from centerclip.settings.checks import check_cell
from centerclip.backbones.pretrained import published
from centerclip.report import pictures, plots

# Of a module of another workflow: Snakemake puts it before the paths of all files that are not `local`.
PREFIX = workflow.modifier.path_modifier.prefix or ""
ENVIRONMENT = "../../environment.yml"

try:
    # Private, like the prefix above, but nothing public tells the files that the config came from,
    # and a mistake in it is blamed on a file. --configfile overrides the Snakefile's own, which is listed last.
    files = [*workflow.configfiles[-1:], *workflow.configfiles[:-1]]
    check_config(config, read_yaml(map(os.path.relpath, files)))
except UserError as error:
    raise WorkflowError(str(error))

BENCHMARKS = config["run"]["benchmarks"]


wildcard_constraints:
    benchmark="|".join(config["benchmarks"]),
    dataset="|".join(config["benchmarks"]),
    variant=f"({'|'.join(resolve.every_variant(config))})(-seed-[0-9]+)?",
    backbone="|".join(config["weights"]),
    weights="[^/]+|hf-hub:[^/]+/[^/]+",
    size="[0-9]+",
    shard="[0-9]{4}",
    plot="|".join([*plots.PLOTS, f"{plots.ABLATION}({'|'.join(config['grids'])})"]),
    picture="|".join(pictures.PICTURES),


onstart:
    # Until this process ends. Snakemake's own lock is beside `results/`, which may be a link that others have, too.
    try:
        hold(Path(PREFIX + "results"), "another run of snakemake writes there; wait for it or stop it")
    except UserError as error:
        raise WorkflowError(str(error))
    if not gpus.visible():
        print("no GPU on this machine: what runs here trains and evaluates on the CPU", file=sys.stderr)


@cache
def cell_named(benchmark, name):
    return resolve.cell(config, benchmark, name)


def cell(wildcards):
    """The cell that a job is about."""
    return cell_named(wildcards.benchmark, wildcards.variant)


def cells(benchmark):
    """The cells that `all` makes of a benchmark."""
    return [cell_named(benchmark, name) for name in resolve.cell_names(config, benchmark)]


def path(template):
    """An input function: where a file of `layout` lies for a job's cell."""
    return lambda wildcards: str(cell(wildcards).path(template))


def log_file(job):
    return layout.LOG.format(job=job)


def times_file(job):
    return layout.JOB_BENCHMARK.format(job=job)
