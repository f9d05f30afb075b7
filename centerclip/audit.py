"""Whether frames can be trusted: every video file of a directory, and if what is stored of it is what it shows.

    centerclip audit path/to/videos --out audit.csv

A row a file: container, codec, frames, seconds, gaps and breaks in time, what reads it, how many frames are stored and
searched, and how many of those differ from a decode from front to end. That decode takes no short cut: once through for
the times of all frames, and once more for the pictures.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from av import FFmpegError
from tqdm import tqdm

from centerclip.decoding import NoFrames, Video, decode, gaps
from centerclip.extraction import choose, extract, jpeg, spread, squared
from centerclip.manifest import video_files
from centerclip.stage import UserError, atomic
from centerclip.watch import Lost, watched

SEARCHED = 12  # frames that `search` takes of a video


def audit(name: str, beat: Callable[[], None], folder: Path, fps: float, size: int) -> dict:
    """The row of a file in `folder`, of which `fps` frames a second are stored, `size` px square."""
    path, row = folder / name, {"file": name}
    (stored,) = extract(path, [(0, np.nan)], fps, size, beat)
    row |= {"reader": stored.decoder, "stored": len(stored.frames), "reason": stored.reason}
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
        "wrong": sum(different(found, [right[index] for index in way])
                     for found, way in zip((stored.frames, searched), ways, strict=True)),
    }  # fmt: skip


def different(found: list[bytes], right: list[bytes]) -> int:
    """How many pictures are not what they should be, or are too many or too few."""
    return sum(one != other for one, other in zip(found, right, strict=False)) + abs(len(found) - len(right))


def audit_or_reason(name: str, *arguments: object, **settings: object) -> dict:
    """`audit`, of a file that gives frames once and not again too."""
    try:
        return audit(name, *arguments, **settings)
    except (NoFrames, FFmpegError) as error:
        return {"file": name, "stored": 0, "reason": str(error)}


def table(folder: Path, fps: float, size: int, processes: int, stall_seconds: float) -> pd.DataFrame:
    """A row for each video file in and below `folder`. Raises UserError as `video_files`."""
    files, closed = video_files(folder)
    rows = [{"file": name, "stored": 0, "reason": reason} for name, reason in closed.items()]
    work = partial(audit_or_reason, folder=folder, fps=fps, size=size)
    for name, row in tqdm(watched(work, files, processes, stall_seconds), "audit", len(files), unit="video"):
        rows.append({"file": name, "stored": 0, "reason": str(row)} if isinstance(row, Lost) else row)
    counts = ["frames", "gaps", "breaks", "stored", "searched", "wrong"]
    columns = ["file", "container", "codec", "frames", "seconds", "gaps", "longest_gap_s", "breaks", "reader", "stored",
               "searched", "wrong", "reason"]  # fmt: skip
    found = pd.DataFrame(rows).reindex(columns=columns).sort_values("file", ignore_index=True)
    return found.astype(dict.fromkeys(counts, "Int64"))


def summary(found: pd.DataFrame) -> str:
    """The line that says it all."""
    good, wrong = found["stored"] > 0, found["wrong"].sum()
    remarks = good & (found["reason"].fillna("") != "")
    return (
        f"{len(found)} files: {good.sum()} give {found['stored'].sum()} frames, of which (and of those that search"
        f" takes) {wrong} are not what a decode from front to end shows; with remarks: {remarks.sum()}, without frames:"
        f" {(~good).sum()}"
    )


def job(arguments: argparse.Namespace) -> None:
    """`centerclip audit`. Raises UserError where a frame is not right."""
    found = table(arguments.folder, arguments.fps, arguments.size, arguments.processes, arguments.stall_seconds)
    with atomic(arguments.out) as temporary:
        found.to_csv(temporary, index=False)
    if found["wrong"].sum():
        raise UserError(summary(found))
    print(summary(found))
