"""Draw a plot of a benchmark from its table or, the training plot, from its cells."""

import argparse
import importlib
from pathlib import Path

from centerclip.report import plots


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plot", help=f"one of {', '.join(plots.PLOTS)}, or ablation-GRID")
    parser.add_argument("--table", required=True, type=Path, help="of the benchmark, csv")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="the results of each variant and seed")
    parser.add_argument("--variants", required=True, nargs="+", metavar="NAME", help="what to show of them")
    parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write; the suffix is the format")


def job(arguments: argparse.Namespace) -> None:
    from centerclip.report import figures  # imports what `--help` need not wait for
    from centerclip.report.plots import style

    plot = importlib.import_module(plots.module(arguments.plot))
    style.apply()
    data = plot.read(arguments.table, arguments.cells)
    figure = plot.draw(data[data["variant"].isin(arguments.variants)])
    for path in arguments.out:
        figures.save(figure, path)
