"""Judge the paper's claims by the tables of benchmarks."""

import argparse
from pathlib import Path

import pandas as pd

from centerclip.report import claims, documents, tables


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="of benchmarks, csv")
    parser.add_argument("--out", required=True, type=Path, help="where to write, without .html and .md")


def job(arguments: argparse.Namespace) -> None:
    summary = claims.summary(list(map(pd.read_csv, arguments.tables)), tables.read_paper(arguments.paper))
    for suffix in (".html", ".md"):
        documents.write(arguments.out, suffix, summary)
