"""Index a folder of your own videos, and answer sentences from the index.

The folder keeps the videos' vectors in a file for each model, `.centerclip-FINGERPRINT.npz`. A vector is computed again
only if its file is new or changed (size or time of change). A file that gave no vector is tried again the next time.
The index may be deleted at any time.
"""

import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from centerclip.command import UserError, atomic, shown
from centerclip.data.datasets.files import listing
from centerclip.data.video.extraction import spread_or_reason
from centerclip.data.video.reading import MachineFault, NoFrames, Reader
from centerclip.data.video.watch import STALL_SECONDS, watched
from centerclip.method.maxsim import maxsim_in_parts
from centerclip.search.retriever import Retriever

BATCH_SIZE = 2  # videos encoded together: on a CPU more are not faster
KEEP_SECONDS = 300  # between two copies of an unfinished index on the disk
AT_A_TIME = 1 << 20  # numbers of float16 vectors that become float32 together: as many as a CPU's cache holds


class Entry(NamedTuple):
    """A file in the index."""

    size: int  # bytes
    changed: int  # ns
    vector: np.ndarray  # float32 [E], or float16 [k, E] of a model with several vectors a video


def index_file(folder: Path, retriever: Retriever) -> Path:
    """The file that stores a model's index of `folder`."""
    return folder / f".centerclip-{retriever.fingerprint()[:12]}.npz"


def read_index(file: Path, width: int | None = None) -> dict[str, Entry]:
    """The index in `file`; empty if the file is missing, damaged or of vectors of another `width`. Raises UserError if
    the machine cannot read the file, which may be sound."""
    try:
        with Reader(file) as reader:
            data = reader.read()
    except NoFrames:
        return {}
    except MachineFault as error:
        raise UserError(f"{file}: the index cannot be read: {error}; try again, or delete the file") from None
    try:
        with np.load(io.BytesIO(data)) as stored:
            paths, sizes, changes, vectors = (stored[name] for name in ("path", *Entry._fields))
        rows = zip(paths.tolist(), sizes.tolist(), changes.tolist(), vectors, strict=True)
        index = {path: Entry(size, changed, vector) for path, size, changed, vector in rows}
        return index if width in (None, vectors.shape[-1]) and np.isfinite(vectors).all() else {}
    except Exception:  # damage anywhere in a zip file of arrays raises nearly anything
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
    batch_size: int = BATCH_SIZE,
    encoders: int | None = None,
    keep: Callable[[dict[str, Entry]], None] = lambda _: None,
) -> dict[str, str]:
    """Update `index`, in place, to the videos in `folder`. Returns the unreadable videos: path -> reason. A note on
    stderr counts files with other suffixes.

    `processes` others read the videos; a video that gives no frame for `stall_seconds` is ended. Meanwhile `encoders`
    threads encode `batch_size` videos at a time, each with its share of PyTorch's threads; None: one thread on a GPU,
    on a CPU as many as PyTorch has. `keep` is called with the unfinished index every KEEP_SECONDS, as a process may be
    killed. Raises UserError as `listing`.
    """
    found = listing(folder)
    files, failed = found.videos, found.closed
    if others := found.passed_over():
        print(f"note: {others}", file=sys.stderr)
    for name in [name for name, entry in index.items() if files.get(name) != entry[:2]]:
        del index[name]
    pending = [name for name in files if name not in index]
    data = retriever.cell.data
    read = partial(spread_or_reason, folder=folder, count=data.frames, size=data.stored)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        reading, batch = watched(read, pending, min(processes, len(pending)), stall_seconds), {}
        for name, frames in tqdm(reading, "index", len(pending), unit="video", disable=not pending):
            if isinstance(frames, np.ndarray):
                batch[name] = frames
            else:
                failed[name] = str(frames)  # the reason
            if len(batch) == batch_size:
                yield batch
                batch = {}
        if batch:
            yield batch

    def encode(batch: dict[str, np.ndarray]) -> None:
        vectors = retriever.encode_frames([retriever.padded(frames) for frames in batch.values()])
        vectors = vectors.half() if vectors.ndim == 3 else vectors
        index.update({name: Entry(*files[name], vector) for name, vector in zip(batch, vectors.numpy(), strict=True)})

    # Threads that compute one product wait for each other, and for long where decoders have the cores: each its own
    threads = torch.get_num_threads()
    encoders = encoders or (1 if retriever.device.type == "cuda" else threads)
    torch.set_num_threads(max(1, threads // encoders))
    try:
        with ThreadPoolExecutor(encoders) as pool:
            begun, kept = deque(), time.monotonic()
            for batch in batches():
                begun.append(pool.submit(encode, batch))
                if len(begun) > encoders:  # so that few videos wait in memory
                    begun.popleft().result()
                if time.monotonic() - kept > KEEP_SECONDS:
                    keep(dict(index))  # a copy, as threads add to it
                    kept = time.monotonic()
            for task in begun:
                task.result()
    finally:
        torch.set_num_threads(threads)
    return failed


def up_to_date(
    folder: Path, retriever: Retriever, stall_seconds: float = STALL_SECONDS
) -> tuple[dict[str, Entry], dict[str, str]]:
    """The index of `folder`, updated and stored in its file, and the unreadable videos: path -> reason. Lines on stderr
    name the videos that were left out, and say if the index cannot be stored.

    Raises:
        UserError: as `listing` and `read_index`, or none of the videos can be read.
    """
    file = index_file(folder, retriever)
    index = read_index(file, retriever.width)
    before = {name: entry[:2] for name, entry in index.items()}

    def keep(index: dict[str, Entry]) -> None:
        try:
            write_index(file, index)
        except OSError as error:
            note = f"note: the index cannot be kept for the next time: {file}: {error.strerror}"
            print(shown(note), file=sys.stderr)

    try:
        failed = update(index, folder, retriever, min(4, os.cpu_count() or 1), stall_seconds, keep=keep)
    finally:  # an interrupted update keeps what it has
        if {name: entry[:2] for name, entry in index.items()} != before:
            keep(index)
    for name, reason in sorted(failed.items()):
        print(shown(f"left out: {folder / name}: {reason}"), file=sys.stderr)
    if not index:
        raise UserError(f"{folder}: none of the {len(failed)} videos in it can be read")
    return dict(sorted(index.items())), failed


class Found(NamedTuple):
    """A video that answers a sentence."""

    similarity: float  # cosine
    place: int  # in the index, from 0
    video: str  # its path from the folder


class Searcher:
    """Answers sentences from the index of a folder, sorted by path."""

    def __init__(self, index: dict[str, Entry], retriever: Retriever):
        self.videos, self.retriever = list(index), retriever
        self.vectors = torch.from_numpy(np.stack([entry.vector for entry in index.values()]))  # [V, E] or [V, k, E]
        self.mask = self.vectors.any(-1) if self.vectors.ndim == 3 else None

    def answers(self, sentences: Sequence[str], top: int) -> list[list[Found]]:
        """The `top` videos for each sentence, the most similar first; equal ones sorted by path."""
        asked = self.retriever.encode_sentences(sentences)
        if self.mask is None:
            similarities = asked @ self.vectors.T
        else:
            similarities = maxsim_in_parts(self.vectors, asked, self.mask, AT_A_TIME).T
        orders = similarities.argsort(descending=True, stable=True)[:, :top]
        values = similarities.gather(1, orders)
        return [
            [Found(value, place, self.videos[place]) for value, place in zip(*row, strict=True)]
            for row in zip(values.tolist(), orders.tolist(), strict=True)
        ]

    def note(self, sentence: str) -> str | None:
        """A note on a sentence that the model reads only in part."""
        if self.retriever.too_long(sentence):
            return f"only the sentence's first {self.retriever.cell.data.text_tokens - 2} tokens are read"
        return None

    @property
    def remark(self) -> str | None:
        """A remark on all similarities if the model is not trained."""
        cell = self.retriever.cell
        return None if cell.model.weights or cell.trained else "random weights: the order of the videos means nothing"
