"""Write what a run found, and judge the paper's claims by its tables."""

import argparse
from pathlib import Path

from centerclip.command import above_zero, atomic
from centerclip.report import documents, full_size, tables
from centerclip.report.summary import findings, summary


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="tables of benchmarks, csv")
    parser.add_argument("--full-size", type=Path, nargs="?", help="the table of the costs of the paper's models, csv")
    parser.add_argument("--tolerance", required=True, type=above_zero, help="points of R@1 by which a claim may miss")
    parser.add_argument("--out", required=True, type=Path, help="where to write, without .html and .md")
    parser.add_argument("--findings", type=Path, help="also write only the sentences here, markdown")


def job(arguments: argparse.Namespace) -> None:
    paper, ours = tables.read_paper(arguments.paper), list(map(tables.read_models, arguments.tables))
    costs = full_size.read(arguments.full_size) if arguments.full_size else None
    documents.write(arguments.out, summary(ours, costs, paper, arguments.tolerance), ".html", ".md")
    if arguments.findings:
        with atomic(arguments.findings) as temporary:
            text = documents.markdown(findings(tables.joined(ours), costs, paper))
            temporary.write_text(text, encoding="utf-8")
