"""Write the vectors of a folder of videos to a file, for other programs."""

import argparse
import json
from pathlib import Path

from centerclip.command import UserError, atomic, writable
from centerclip.data.datasets.files import listing
from centerclip.data.video.watch import add_stall_seconds
from centerclip.search import models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of videos, with its subfolders")
    parser.add_argument("--out", required=True, type=Path, help="the file to write: .npz")
    add_stall_seconds(parser)
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    folder, out, cell = arguments.folder, arguments.out, models.single(arguments)
    if out.suffix != ".npz":
        raise UserError(f"{out}: features are written as .npz")
    writable(out)
    listing(folder)  # fails before anything slow
    import numpy as np

    from centerclip.search.index import up_to_date
    from centerclip.search.retriever import Retriever

    retriever = Retriever(models.in_fast_precision(cell))
    index, left_out = up_to_date(folder, retriever, arguments.stall_seconds)
    vectors = np.stack([entry.vector for entry in index.values()])
    arrays = {
        "ids": [*index],
        "vectors": vectors,
        **({"mask": vectors.any(-1)} if vectors.ndim == 3 else {}),
        "left_out": np.array([*left_out], str),
        "reasons": np.array([*left_out.values()], str),
        "model": retriever.fingerprint(),
        "settings": json.dumps(retriever.cell.settings()),
    }
    with atomic(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
