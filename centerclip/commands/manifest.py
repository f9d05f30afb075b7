"""Make the manifest of a benchmark, a row a caption, from the raw files of its dataset.

Fails if counts differ from the expected ones, or if too many videos that the run needs are missing.
"""

import argparse
from pathlib import Path

from centerclip.command import atomic
from centerclip.data.datasets.checks import add_limits, check_files, needed_splits
from centerclip.data.datasets.manifest import check_counts, check_manifest
from centerclip.data.datasets.readers import read, read_benchmark
from centerclip.settings import layout


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", type=Path, help="results/NAME/benchmark.json; the manifest is written beside it")
    parser.add_argument("--splits", type=Path, help="the splits whose videos must be there (default: all), splits.json")
    add_limits(parser)


def job(arguments: argparse.Namespace) -> None:
    benchmark, results = read_benchmark(arguments.benchmark), arguments.benchmark.parent.parent
    source, name = layout.path(layout.SOURCE, results, dataset=benchmark["dataset"]), benchmark["benchmark"]
    manifest = read(benchmark["source"], source)
    check_manifest(manifest, name)
    check_counts(manifest, dict(arguments.expect), name)
    allowed = 1.0 if arguments.partial else arguments.max_unreadable_share
    check_files(manifest, needed_splits(arguments.splits), allowed, name)
    with atomic(layout.path(layout.MANIFEST, results, benchmark=name)) as temporary:
        manifest.to_csv(temporary, index=False)
