"""Copy the evaluation of a cell and its ranks to results/BENCHMARK_VARIANT.json, if its benchmark passes its checks.

It takes a second: changed limits are checked again without training or evaluation.
"""

import argparse
from pathlib import Path

from centerclip.command import UserError, atomic, read_json, write_json
from centerclip.data.datasets.checks import add_limits, check_benchmark
from centerclip.settings import layout
from centerclip.settings.cell import read_cell


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", type=Path, help="results/BENCHMARK/VARIANT/cell.json")
    add_limits(parser)


def job(arguments: argparse.Namespace) -> None:
    cell = read_cell(arguments.cell)
    evaluation = read_json(cell.path(layout.EVALUATION))
    if read_cell(cell.path(layout.EVALUATION)).settings() != cell.settings():
        raise UserError(f"{cell.path(layout.EVALUATION)}: made with other settings than {arguments.cell}; delete it")
    check_benchmark(cell, arguments)
    with atomic(cell.path(layout.RANKS)) as temporary:
        temporary.write_bytes(cell.path(layout.EVALUATION_RANKS).read_bytes())
    write_json(cell.path(layout.RESULT), evaluation)
