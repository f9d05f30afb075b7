"""Make the manifest of a benchmark, a row a caption, from the raw files of its dataset."""

import argparse
from pathlib import Path

from centerclip import layout
from centerclip.command import atomic
from centerclip.datasets.manifest import check_manifest
from centerclip.datasets.readers import read, read_benchmark


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", type=Path, help="results/NAME/benchmark.json; the manifest is written beside it")


def job(arguments: argparse.Namespace) -> None:
    benchmark, results = read_benchmark(arguments.benchmark), arguments.benchmark.parent.parent
    source = layout.path(layout.SOURCE, results, dataset=benchmark["dataset"])
    manifest = read(benchmark["source"], source)
    check_manifest(manifest, benchmark["benchmark"])
    with atomic(layout.path(layout.MANIFEST, results, benchmark=benchmark["benchmark"])) as temporary:
        manifest.to_csv(temporary, index=False)
