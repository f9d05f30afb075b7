"""Make the table of a benchmark: its cells and their costs beside the paper's numbers."""

import argparse
from pathlib import Path

from centerclip.command import above_zero
from centerclip.report import beside_paper, documents, fastest, tables


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--costs", type=Path, nargs="?", help="costs of the variants, json (default: unknown)")
    price = "what an hour of a GPU costs (default: unknown)"
    parser.add_argument("--gpu-hour-price", type=above_zero, nargs="?", help=price)
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="the results of each variant and seed")
    parser.add_argument("--out", required=True, type=Path, help="where to write, without .csv, .html, .md and .tex")


def job(arguments: argparse.Namespace) -> None:
    rows = [tables.read_result(path)[0] for path in arguments.cells]
    costs = tables.read_costs(arguments.costs) if arguments.costs else None
    table, apart = tables.combine(rows, costs, tables.read_paper(arguments.paper), arguments.gpu_hour_price)
    document = beside_paper.document(table, apart, costs, *fastest.document(table))
    documents.write(arguments.out, document, ".html", ".md", ".tex", table=tables.for_programs(table))
