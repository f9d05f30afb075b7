"""Write the results of a folder as one zip, without weights and videos, for others to compare with theirs."""

import argparse
from pathlib import Path

from centerclip.command import writable


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="the folder, results/")
    parser.add_argument("--out", required=True, type=Path, help="the zip to write")


def job(arguments: argparse.Namespace) -> None:
    writable(arguments.out)
    from centerclip.report.export import export

    counts = export(arguments.results, arguments.out)
    print(f"{arguments.out}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
