"""Video files -> the pictures a model is given, at chosen times and sizes. Nothing heavy is imported: the processes
that decode start quickly."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from centerclip.video.decoding import EPSILON, NoFrames, Shown, decode, idle

QUALITY = 95  # of the JPEGs, with full colour resolution


def choose(shown: Shown, fps: float, start_s: float, end_s: float) -> np.ndarray:
    """Which frames to keep: those shown at start_s + (i + 0.5) / fps, for each i that falls before the end.

    Args:
        shown: when the frames of the video are shown.
        fps: frames to keep a second.
        start_s, end_s: the part of the video, in seconds; end_s NaN: to its end.

    Returns:
        [k] int64 ascending indices, maybe repeated. A part too short for one gives its middle; one that holds no time
        of the video gives none.
    """
    length = np.fmin(shown.end, end_s) - start_s
    if length <= 0:
        return np.empty(0, np.int64)
    offsets = (np.arange(np.ceil(length * fps - 0.5 - EPSILON)) + 0.5) / fps
    times = start_s + (offsets if len(offsets) else np.array([length / 2]))
    return np.maximum(np.searchsorted(shown.starts, times + EPSILON, side="right") - 1, 0)


def spread(shown: Shown, count: int) -> np.ndarray:
    """Which frames to keep for `count` of the whole video, each in the middle of an equal span; all, if it has fewer.

    What is returned is as in `choose`."""
    if len(shown.starts) <= count:
        return np.arange(len(shown.starts))
    return choose(shown, count / shown.end, 0, np.nan)


def squared(frame: np.ndarray, size: int) -> Image.Image:
    """A frame [H, W, 3] uint8 as CLIP sees it: shorter side at `size` px (bicubic, antialiased), centre square."""
    height, width = frame.shape[:2]
    shorter = min(height, width)
    width, height = size * width // shorter, size * height // shorter
    scaled = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return scaled.crop((left, top, left + size, top + size))


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


class Clip(NamedTuple):
    """The stored frames of a video."""

    frames: list[bytes]  # JPEGs, in order of time
    decoder: str  # what read the file, '' where nothing could
    reason: str  # why there are none, or what is wrong with them


def extract(
    path: Path, bounds: Sequence[tuple[float, float]], fps: float, size: int, beat: Callable[[], None] = idle
) -> list[Clip]:
    """The frames of each of a video file's clips, of which `bounds` has start and end in seconds (an end of NaN: the
    file's), `size` px square. The file is decoded once, whatever the number of clips."""
    whole = any(np.isnan(end) for _, end in bounds)
    try:
        decoded = decode(
            path,
            lambda shown: [choose(shown, fps, *clip) for clip in bounds],
            lambda picture: jpeg(squared(picture, size)),
            sparing=not whole,
            beat=beat,
        )
    except NoFrames as error:
        return [Clip([], "", str(error))] * len(bounds)
    empty = [f"nothing is shown between start_s {start:g} and end_s {end:g}" for start, end in bounds]
    parts = zip(decoded.parts, empty, strict=True)
    return [Clip(part, decoded.reader, decoded.remark if part else nothing) for part, nothing in parts]


def extract_file(
    item: tuple[str, Sequence[tuple[float, float]]], beat: Callable[[], None], fps: float, size: int
) -> list[Clip]:
    """`extract` of (path, bounds), for `watched`."""
    return extract(Path(item[0]), item[1], fps, size, beat)


def spread_frames(path: str | Path, count: int, size: int, beat: Callable[[], None] = idle) -> np.ndarray:
    """`count` frames of the whole of a video file, `size` px square: uint8 [n, size, size, 3], all if it has fewer.

    Raises:
        NoFrames: why it gives none.
    """
    (pictures,) = decode(
        Path(path),
        lambda shown: [spread(shown, count)],
        lambda picture: squared(picture, size),
        sparing=True,
        beat=beat,
    ).parts
    return np.stack(pictures)


def spread_or_reason(name: str, beat: Callable[[], None], folder: Path, count: int, size: int) -> np.ndarray | NoFrames:
    """`spread_frames` of a file in `folder`, or why it gives none, for `watched`."""
    try:
        return spread_frames(folder / name, count, size, beat)
    except NoFrames as error:
        return error
