"""Check whether this machine, cluster and your files are fit for a run, and say what to do if not.

Looks at Python, PyTorch, the driver, GPUs, disk, shared memory, proxies, the hub, SLURM, local copies of videos, and
failed jobs. Downloads nothing. The exit status is 1 if there is a problem.
"""

import argparse
import json
from itertools import chain
from pathlib import Path

from centerclip import ROOT
from centerclip.command import UserError, shown
from centerclip.settings.config import read_config


def options(parser: argparse.ArgumentParser) -> None:
    changes = "changes to config.yaml, as for snakemake"
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help=changes)
    profile = ROOT / "profiles/slurm"
    parser.add_argument(
        "--profile", type=Path, default=profile, help="profile of a SLURM cluster, such as profiles/slurm"
    )
    parser.add_argument("--json", action="store_true", help="print all findings as json")


def job(arguments: argparse.Namespace) -> None:
    from centerclip.report import copies, doctor

    config = read_config(arguments.configfile)
    videos = (copies.findings(config, name) for name in config["run"]["benchmarks"])
    found = []
    for finding in chain(doctor.findings(config, arguments.profile), *videos):
        found.append(finding)
        if not arguments.json:
            remedy = f" -> {finding.remedy}" * bool(finding.remedy)
            print(shown(f"{finding.state:8}{finding.about}: {finding.line}{remedy}"), flush=True)
    if arguments.json:
        print(json.dumps([each._asdict() for each in found], indent=2), flush=True)
    if problems := sum(finding.state == doctor.PROBLEM for finding in found):
        raise UserError(f"{problems} problem{'s' * (problems > 1)}")
