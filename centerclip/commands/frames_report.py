"""Join the reports of the shards of stored frames."""

import argparse
from pathlib import Path

from centerclip.command import atomic
from centerclip.data.video.shards import combine


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", nargs="+", type=Path, help="the shards' reports, csv")
    parser.add_argument("--out", required=True, type=Path)


def job(arguments: argparse.Namespace) -> None:
    report = combine(arguments.shards, arguments.out.parent)
    with atomic(arguments.out) as temporary:
        report.to_csv(temporary, index=False)
