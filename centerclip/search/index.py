"""Search a folder of one's own videos by a sentence.

The videos' vectors are kept in the folder, in a file for each model, `.centerclip-FINGERPRINT.npz`: they are computed
once, and again only for files that are new or changed (size or time of change). A file that gave none is tried again
the next time. The index may be deleted at any time.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from torch import Tensor, from_numpy
from tqdm import tqdm

from centerclip.cell import Cell
from centerclip.command import UserError, atomic
from centerclip.datasets.files import video_files
from centerclip.search.retriever import Retriever
from centerclip.video.extraction import spread_or_reason
from centerclip.video.watch import STALL_SECONDS, watched


class Entry(NamedTuple):
    """A file in the index."""

    size: int  # bytes
    changed: int  # ns
    vector: np.ndarray  # float32 [E], of unit length


def index_file(folder: Path, retriever: Retriever) -> Path:
    """The file of the index that a model makes of `folder`."""
    return folder / f".centerclip-{retriever.fingerprint()[:12]}.npz"


def read_index(file: Path) -> dict[str, Entry]:
    """The index in `file`; empty if there is none, or a damaged one."""
    try:
        with np.load(file) as stored:
            rows = zip(*(stored[name] for name in ("path", *Entry._fields)), strict=True)
            return {str(path): Entry(int(size), int(changed), vector) for path, size, changed, vector in rows}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}


def write_index(file: Path, index: dict[str, Entry]) -> None:
    """Write the index, whole or not at all."""
    with atomic(file) as temporary, open(temporary, "wb") as out:
        columns = {name: [getattr(entry, name) for entry in index.values()] for name in Entry._fields}
        np.savez(out, path=list(index), **columns)


def update(
    index: dict[str, Entry],
    folder: Path,
    retriever: Retriever,
    processes: int = 1,
    stall_seconds: float = STALL_SECONDS,
) -> dict[str, str]:
    """Bring `index`, in place, up to the videos there are in `folder`: those gone go, those new or changed are encoded.

    They are read by `processes` others; one that gives no frame for `stall_seconds` is ended. Returns what could
    not be read: path -> why.

    Raises:
        UserError: as `video_files`.
    """
    files, failed = video_files(folder)
    for name in [name for name, entry in index.items() if files.get(name) != entry[:2]]:
        del index[name]
    pending = [name for name in files if name not in index]
    data = retriever.cell.data
    read = partial(spread_or_reason, folder=folder, count=data.frames, size=data.image_size)
    reading = watched(read, pending, min(processes, len(pending)), stall_seconds)
    for name, frames in tqdm(reading, "index", len(pending), unit="video", disable=not pending):
        if isinstance(frames, np.ndarray):
            index[name] = Entry(*files[name], retriever.encode_frames(*retriever.padded(frames)).numpy())
        else:
            failed[name] = str(frames)  # the reason
    return failed


def rank(index: dict[str, Entry], sentence: Tensor) -> list[tuple[float, str]]:
    """(cosine similarity, path) of the videos of `index` to a sentence's unit vector [E], the most similar first; equal
    ones by path."""
    if not index:
        return []
    names = sorted(index)
    similarity = from_numpy(np.stack([index[name].vector for name in names])) @ sentence
    return [(similarity[i].item(), names[i]) for i in similarity.argsort(descending=True, stable=True).tolist()]


def search(folder: Path, sentence: str, cell: Cell, top: int, stall_seconds: float = STALL_SECONDS) -> None:
    """Print the `top` videos of `folder` for `sentence` by the model of `cell`, a line each: rank, similarity, path.
    Notes, and the videos that cannot be read, go to stderr.

    Raises:
        UserError: an empty sentence, no videos, or a model that cannot be had.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty")
    video_files(folder)
    retriever = Retriever(cell)
    if retriever.too_long(sentence):
        print(f"note: only the sentence's first {cell.data.text_tokens - 2} tokens are read", file=sys.stderr)
    file = index_file(folder, retriever)
    index = read_index(file)
    before = {name: entry[:2] for name, entry in index.items()}
    try:
        failed = update(index, folder, retriever, min(4, os.cpu_count() or 1), stall_seconds)
    finally:  # interrupted, it keeps what it has
        if {name: entry[:2] for name, entry in index.items()} != before:
            try:
                write_index(file, index)
            except OSError as error:
                print(f"note: the index cannot be kept for the next time: {file}: {error.strerror}", file=sys.stderr)
    for name, reason in sorted(failed.items()):
        print(f"left out: {folder / name}: {reason}", file=sys.stderr)
    ranked = rank(index, retriever.encode_sentences([sentence])[0])
    if not ranked:
        raise UserError(f"{folder}: none of the {len(failed)} videos in it can be read")
    for place, (similarity, name) in enumerate(ranked[:top], 1):
        print(f"{place:3}  {similarity:6.3f}  {folder / name}")
