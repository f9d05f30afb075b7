"""Make the table of the costs of the paper's models on this machine."""

import argparse
from pathlib import Path

from centerclip.report import documents, full_size, tables
from centerclip.settings.cell import read_compared


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--cells", required=True, type=Path, help="the models measured, compared.json")
    parser.add_argument("--costs", required=True, type=Path, help="costs of these models, json")
    parser.add_argument("--out", required=True, type=Path, help="where to write, without .csv, .html, .md and .tex")


def job(arguments: argparse.Namespace) -> None:
    paper, costs = tables.read_paper(arguments.paper), tables.read_costs(arguments.costs)
    table = full_size.table(read_compared(arguments.cells), costs, paper, arguments.cells)
    documents.write(arguments.out, full_size.document(table), ".html", ".md", ".tex", table=table)
