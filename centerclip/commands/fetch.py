"""Fetch the raw files of a dataset: download and unpack them, or render them."""

import argparse
from pathlib import Path

from centerclip.command import UserError
from centerclip.data.datasets.planning import FOLDER
from centerclip.data.datasets.readers import read_benchmark, reader
from centerclip.data.download import sources
from centerclip.settings import layout


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", type=Path, help="results/NAME/benchmark.json of the benchmark that has the files")


def job(arguments: argparse.Namespace) -> None:
    benchmark = read_benchmark(arguments.benchmark)
    if benchmark["source"]["reader"] == FOLDER:
        raise UserError(f"{arguments.benchmark}: its videos and captions are your own: there is nothing to fetch")
    module, results = reader(benchmark["source"]["reader"]), arguments.benchmark.parent.parent
    out = layout.path(layout.SOURCE, results, dataset=benchmark["dataset"])
    if hasattr(module, "fetch"):
        module.fetch(benchmark["source"], out)
    else:
        sources.fetch(benchmark["source"], out, getattr(module, "video_names", None))
