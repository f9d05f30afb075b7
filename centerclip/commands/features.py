"""Write the vectors of a folder of videos to a file, for other programs."""

import argparse
from pathlib import Path

from centerclip.data.datasets.files import listing
from centerclip.data.video.watch import add_stall_seconds
from centerclip.search import features, models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="videos, in subfolders too")
    parser.add_argument("--out", required=True, type=Path, help="the file to write: .npz or .parquet")
    add_stall_seconds(parser)
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    cell = models.single(arguments)
    features.check(arguments.out)
    listing(arguments.folder)  # reports mistakes before anything slow
    from centerclip.search.index import up_to_date
    from centerclip.search.retriever import Retriever

    retriever = Retriever(models.in_fast_precision(cell))
    features.write(arguments.out, *up_to_date(arguments.folder, retriever, arguments.stall_seconds), retriever)
