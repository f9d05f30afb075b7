# What the rules share: the checked config, its plan, and the wildcards.
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

ROOT = Path(str(workflow.current_basedir)).parent.parent
sys.path.insert(0, str(ROOT))
# Jobs run this copy of the package, whatever the working directory and the environment are.
shell.prefix(f'export PYTHONPATH="{ROOT}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"; ')

from centerclip import gpus
from centerclip.settings import layout, resolve, revisions
from centerclip.command import FAILED, UserError, file_state, hold
from centerclip.settings.config import check_config, read_yaml
from centerclip.data.datasets import checks
from centerclip.plan import Plan
from centerclip.report import pictures, plots

PACKAGES = DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method  # jobs use this Python's
PREFIX = workflow.modifier.path_modifier.prefix or ""  # of a module, before the paths of all files not `local`
ENVIRONMENT = "../../environment.yml"

try:
    # Private, like the prefix above: nothing public tells the config's files, which errors name. Those of --configfile
    # override the Snakefile's own, which is listed last.
    files = [*workflow.configfiles[-1:], *workflow.configfiles[:-1]]
    check_config(config, read_yaml(map(os.path.relpath, files)), PACKAGES)
except UserError as error:
    raise WorkflowError(str(error))

plan = Plan(config, PREFIX, PACKAGES)
BENCHMARKS = config["run"]["benchmarks"]
COMPARED = layout.COMPARED.replace("{benchmark}", "{compared}")  # a benchmark, or the paper's models


wildcard_constraints:
    benchmark="|".join(config["benchmarks"]),
    compared="|".join([*config["benchmarks"], layout.FULL_SIZE]),
    dataset="|".join(config["benchmarks"]),
    variant=f"({'|'.join(resolve.every_variant(config))})(-seed-[0-9]+)?",
    backbone="|".join(config["weights"]),
    weights="[^/]+|hf-hub:[^/]+/[^/]+",
    size="(squash-)?(bilinear-)?[0-9]+",
    shard="[0-9]{4}",
    plot="|".join([*plots.PLOTS, f"{plots.ABLATION}({'|'.join(config['grids'])})"]),
    picture="|".join(pictures.PICTURES),


onstart:
    # Until this process ends. Snakemake's own lock is beside `results/`, which may be a link that other runs share.
    try:
        hold(Path(PREFIX + "results"), "another run of snakemake writes there; wait for it or stop it")
    except UserError as error:
        raise WorkflowError(str(error))
    if not gpus.visible():
        print("no GPU on this machine: what runs here trains and evaluates on the CPU", file=sys.stderr)


def log_file(job):
    return layout.LOG.format(job=job)


def last_failure(job):
    """A params function whose value changes when a job fails or is killed, so that Snakemake runs it again although its
    earlier output is left. (A function of the output would trigger nothing.)"""
    return lambda wildcards: file_state(PREFIX + log_file(job).format(**wildcards) + FAILED)
