"""Search a folder of one's own videos by a sentence.

The videos' vectors are kept in the folder, in a file for each model, `.centerclip-FINGERPRINT.npz`: they are computed
once, and again only for files that are new or changed (size or time of change). It may be deleted at any time.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from centerclip.frames import NoFrames
from centerclip.manifest import VIDEO_SUFFIXES
from centerclip.retriever import Retriever, read_frames
from centerclip.stage import UserError, atomic


class Entry(NamedTuple):
    """A file in the index."""

    size: int  # bytes
    changed: int  # ns
    vector: np.ndarray | None  # float32 [E], of unit length; None for a video that gives no frame
    reason: str  # why it gives none


def video_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The videos in and below `folder` by their suffix, hidden ones apart: path from there -> (size, time of change).

    Raises:
        UserError: no such folder, or no videos in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not any(part[0] == "." for part in name.parts):
            found[str(name)] = (path.stat().st_size, path.stat().st_mtime_ns)
    if not found:
        raise UserError(f"{folder}: no videos in it ({' '.join(VIDEO_SUFFIXES)})")
    return found


def index_file(folder: Path, retriever: Retriever) -> Path:
    """Where the index of `folder` by one model is kept."""
    return folder / f".centerclip-{retriever.fingerprint()[:12]}.npz"


def read_index(file: Path) -> dict[str, Entry]:
    """The index in `file`; empty if there is none, or a damaged one."""
    try:
        with np.load(file) as stored:
            rows = zip(*(stored[name] for name in ("path", "size", "changed", "vector", "reason")), strict=True)
            return {
                str(path): Entry(int(size), int(changed), None if reason else vector, str(reason))
                for path, size, changed, vector, reason in rows
            }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}


def write_index(file: Path, index: dict[str, Entry]) -> None:
    width = max((len(entry.vector) for entry in index.values() if entry.vector is not None), default=0)
    nothing = np.zeros(width, np.float32)
    with atomic(file) as temporary, open(temporary, "wb") as out:
        np.savez(
            out,
            path=list(index),
            size=[entry.size for entry in index.values()],
            changed=[entry.changed for entry in index.values()],
            vector=[nothing if entry.vector is None else entry.vector for entry in index.values()],
            reason=[entry.reason for entry in index.values()],
        )


class Files(Dataset):
    """Video files as `(path, frames, mask, reason)`; frames and mask are None where there is a reason."""

    def __init__(self, folder: Path, names: list[str], count: int, size: int):
        self.folder, self.names, self.count, self.size = folder, names, count, size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, Tensor | None, Tensor | None, str]:
        name = self.names[index]
        try:
            return name, *read_frames(self.folder / name, self.count, self.size), ""
        except NoFrames as error:
            return name, None, None, str(error)


def update(index: dict[str, Entry], folder: Path, retriever: Retriever, workers: int = 0) -> dict[str, Entry]:
    """Bring `index`, in place, up to the videos there are in `folder`: those gone go, those new or changed are encoded,
    read by `workers` other processes. Returns it.

    Raises:
        UserError: as `video_files`.
    """
    files = video_files(folder)
    for name in [name for name, entry in index.items() if files.get(name) != entry[:2]]:
        del index[name]
    pending = [name for name in files if name not in index]
    reader = Files(folder, pending, retriever.settings["frames"], retriever.settings["image_size"])
    loader = DataLoader(reader, batch_size=None, num_workers=min(workers, len(pending)))
    for name, frames, mask, reason in tqdm(loader, "index", unit="video", disable=not pending):
        vector = None if reason else retriever.encode_frames(frames, mask).numpy()
        index[name] = Entry(*files[name], vector, reason)
    return index


def rank(index: dict[str, Entry], sentence: Tensor) -> list[tuple[float, str]]:
    """(cosine similarity, path) of the videos of `index` to a sentence's unit vector [E], the most similar first; equal
    ones by path."""
    found = {name: entry.vector for name, entry in sorted(index.items()) if entry.vector is not None}
    if not found:
        return []
    similarity = torch.from_numpy(np.stack(list(found.values()))) @ sentence
    names = list(found)
    return [(similarity[i].item(), names[i]) for i in similarity.argsort(descending=True, stable=True).tolist()]


def search(folder: Path, sentence: str, settings: dict, top: int) -> None:
    """Print the `top` videos of `folder` for `sentence`, a line each: rank, similarity, path. What else is to be said,
    the videos that cannot be read too, goes to stderr.

    Raises:
        UserError: an empty sentence, no videos, or a model that cannot be had.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty")
    video_files(folder)
    retriever = Retriever(settings)
    if retriever.too_long(sentence):
        print(f"note: only the sentence's first {settings['words'] - 2} tokens are read", file=sys.stderr)
    file = index_file(folder, retriever)
    index = read_index(file)
    before = dict(index)
    try:
        update(index, folder, retriever, workers=min(4, os.cpu_count() or 1))
    finally:  # interrupted, it keeps what it has
        if index != before:
            keep(file, index)
    for name, entry in index.items():
        if entry.reason:
            print(f"left out: {folder / name}: {entry.reason}", file=sys.stderr)
    found = rank(index, retriever.encode_sentences([sentence])[0])
    if not found:
        raise UserError(f"{folder}: none of the {len(index)} videos in it can be read")
    for place, (similarity, name) in enumerate(found[:top], 1):
        print(f"{place:3}  {similarity:6.3f}  {folder / name}")


def keep(file: Path, index: dict[str, Entry]) -> None:
    """`write_index`, or a note that it cannot be."""
    try:
        write_index(file, index)
    except OSError as error:
        print(f"note: the index cannot be kept for the next time: {file}: {error.strerror}", file=sys.stderr)
