"""The vectors of a folder's videos as a file for other programs: .npz, or .parquet by pyarrow. Nothing heavy is
imported."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from centerclip.command import UserError, atomic, writable

if TYPE_CHECKING:
    from centerclip.search.index import Entry
    from centerclip.search.retriever import Retriever


def check(out: Path) -> None:
    """Raise UserError where no such file can be written."""
    if out.suffix not in (".npz", ".parquet"):
        raise UserError(f"{out}: features are written as .npz or .parquet")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"{out}: parquet needs pyarrow (pip install pyarrow), .npz needs nothing more")
    writable(out)


def write(out: Path, index: dict[str, Entry], left_out: dict[str, str], retriever: Retriever) -> None:
    """Write the vectors of `index`, what was left out of it and why, and the model that made them.

    A .npz has `ids [V]`, the paths from the folder, `vectors [V, E]` float32 of unit length, `left_out [L]` and its
    `reasons [L]`, `model`, the fingerprint, and `settings`, json. A .parquet has a row for each video, `id, vector,
    reason`, with a null vector or a null reason, and `model` and `settings` in its schema's metadata.

    Raises:
        UserError: as `check`.
    """
    check(out)
    about = {"model": retriever.fingerprint(), "settings": json.dumps(retriever.cell.settings())}
    vectors = np.stack([entry.vector for entry in index.values()])
    with atomic(out) as temporary, open(temporary, "wb") as file:
        if out.suffix == ".npz":
            lost = {"left_out": [*left_out], "reasons": [*left_out.values()]}
            np.savez(file, ids=[*index], vectors=vectors, **{name: np.array(lost[name], str) for name in lost}, **about)
            return
        import pyarrow
        from pyarrow import parquet

        names = [name.encode(errors="backslashreplace").decode() for name in (*index, *left_out)]  # parquet's are UTF-8
        kinds = {"id": pyarrow.string(), "vector": pyarrow.list_(pyarrow.float32(), vectors.shape[1])}
        schema = pyarrow.schema(kinds | {"reason": pyarrow.string()}, about)
        columns = [names, [*vectors, *[None] * len(left_out)], [*[None] * len(index), *left_out.values()]]
        parquet.write_table(pyarrow.table(columns, schema=schema), file)
