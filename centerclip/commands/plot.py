"""Draw a plot from a table or, the training plot, from the cells of a benchmark."""

import argparse
import importlib
from pathlib import Path

from centerclip.command import UserError
from centerclip.report import plots


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plot", help=f"one of {', '.join([*plots.PLOTS, plots.FULL_SIZE])}, or ablation-GRID")
    parser.add_argument("--table", required=True, type=Path, help="table of a benchmark, or of the paper's models, csv")
    parser.add_argument("--cells", default=[], nargs="+", type=Path, help="the results of each variant and seed")
    parser.add_argument("--variants", required=True, nargs="+", metavar="NAME", help="variants to show")
    parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write; the suffix is the format")


def job(arguments: argparse.Namespace) -> None:
    if not arguments.cells and arguments.plot != plots.FULL_SIZE:
        raise UserError(f"--cells is missing: only the plot {plots.FULL_SIZE} does without")
    from centerclip.report import figures  # heavy imports, after `--help`
    from centerclip.report.plots import style

    for path in arguments.out:
        figures.check_path(path)
    plot = importlib.import_module(plots.module(arguments.plot))
    style.apply()
    data = plot.read(arguments.table, arguments.cells)
    shown = data[data["variant"].isin(arguments.variants)]
    if shown.empty:
        raise UserError(f"{arguments.table}: none of the variants {', '.join(arguments.variants)} is in it")
    try:
        figure = plot.draw(shown)
    except UserError as error:
        raise UserError(f"{arguments.table}: the plot {arguments.plot} needs {error}") from None
    for path in arguments.out:
        figures.save(figure, path)
