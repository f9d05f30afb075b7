"""Compares the frames of video files that are stored and searched with the right ones, which are decoded without short
cuts: once through the file for the times of all frames, and once more for the pictures."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from av import FFmpegError
from tqdm import tqdm

from centerclip.data.datasets.files import listing
from centerclip.data.video.decoding import Video, decode, gaps
from centerclip.data.video.extraction import choose, extract, jpeg, spread, squared
from centerclip.data.video.reading import Lost, NoFrames, machine_checked
from centerclip.data.video.watch import watched

SEARCHED = 12  # frames that `search` takes of a video
COLUMNS = ["file", "container", "codec", "frames", "seconds", "gaps", "longest_gap_s", "breaks", "decoder", "stored",
           "searched", "wrong", "reason"]  # fmt: skip
COUNTS = ["frames", "gaps", "breaks", "stored", "searched", "wrong"]


def audit(name: str, beat: Callable[[], None], folder: Path, fps: float, size: int) -> dict:
    """The row of a file in `folder`, of which `fps` frames a second are stored, `size` px square. Raises Lost."""
    path, row = folder / name, {"file": name}
    (stored,) = extract(path, [(0, np.nan)], fps, size, beat)
    row |= {"decoder": stored.decoder, "stored": len(stored.frames), "reason": stored.reason}
    if stored.decoder != "pyav":
        return row

    def picture(frame: np.ndarray) -> bytes:
        return jpeg(squared(frame, size))

    video = Video(path, beat)
    shown, breaks = video.timeline([(frame.pts, frame.duration) for frame in video.frames()])
    ways = choose(shown, fps, 0, np.nan), spread(shown, SEARCHED)
    right = {index: picture(video.picture(frame)) for index, frame in enumerate(video.frames())
             if any(index in way for way in ways)}  # fmt: skip
    searched = decode(path, lambda shown: [spread(shown, SEARCHED)], picture, sparing=True, beat=beat).parts[0]
    return row | {
        "container": video.container,
        "codec": video.codec,
        "frames": len(shown.starts),
        "seconds": round(shown.end, 3),
        "gaps": len(gaps(shown)),
        "longest_gap_s": round(gaps(shown).max(initial=0), 3),
        "breaks": breaks,
        "searched": len(searched),
        "wrong": sum(different(frames, [right[index] for index in way])
                     for frames, way in zip((stored.frames, searched), ways, strict=True)),
    }  # fmt: skip


def different(frames: list[bytes], right: list[bytes]) -> int:
    """How many pictures are not the right ones, are missing or are too many."""
    unequal = sum(frame != expected for frame, expected in zip(frames, right, strict=False))
    return unequal + abs(len(frames) - len(right))


def audit_or_reason(name: str, *arguments: object, **settings: object) -> dict:
    """`audit`, or a row with the reason if a later decode gives no frames. Raises MachineFault."""
    try:
        with machine_checked():
            return audit(name, *arguments, **settings)
    except (NoFrames, FFmpegError) as error:
        return {"file": name, "stored": 0, "reason": str(error)}


def table(folder: Path, fps: float, size: int, processes: int, stall_seconds: float) -> pd.DataFrame:
    """A row for each video file in and below `folder`: its format, gaps and breaks in time, wrong frames. Raises
    UserError as `listing`."""
    found = listing(folder)
    if others := found.passed_over():
        print(f"note: {others}", file=sys.stderr)
    rows = [{"file": name, "stored": 0, "reason": reason} for name, reason in found.closed.items()]
    work = watched(partial(audit_or_reason, folder=folder, fps=fps, size=size), found.videos, processes, stall_seconds)
    for name, row in tqdm(work, "audit", len(found.videos), unit="video"):
        rows.append({"file": name, "stored": 0, "reason": str(row)} if isinstance(row, Lost) else row)
    report = pd.DataFrame(rows).reindex(columns=COLUMNS).sort_values("file", ignore_index=True)
    return report.astype(dict.fromkeys(COUNTS, "Int64"))


def summary(report: pd.DataFrame) -> str:
    """A `table` in one line."""
    good, wrong = report["stored"] > 0, report["wrong"].sum()
    remarks = good & (report["reason"].fillna("") != "")
    return (
        f"{len(report)} files: {good.sum()} give {report['stored'].sum()} frames, of which (and of those that search"
        f" takes) {wrong} are not what a decode from front to end shows; with remarks: {remarks.sum()}, without frames:"
        f" {(~good).sum()}"
    )
