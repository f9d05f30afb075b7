"""Write tables and a summary of the cells that a failed run has finished, NAME.partial.md."""

import argparse
from pathlib import Path

from centerclip.command import above_zero, tell
from centerclip.report import partial, tables
from centerclip.settings.cell import read_cell


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--benchmarks", required=True, nargs="+", help="the benchmarks of the run")
    parser.add_argument("--full-size", action="store_true", help="the run also measures the paper's models")
    parser.add_argument("--tolerance", required=True, type=above_zero, help="points of R@1 by which a claim may miss")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="cell.json of all cells, finished or not")


def job(arguments: argparse.Namespace) -> None:
    cells = [read_cell(path) for path in arguments.cells if path.exists()]
    paper = tables.read_paper(arguments.paper)
    for path in partial.write(paper, arguments.benchmarks, cells, arguments.full_size, arguments.tolerance):
        tell(f"written from the finished cells: {path}")
