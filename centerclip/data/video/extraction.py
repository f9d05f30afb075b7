"""Makes pictures for a model from video files. Imports nothing heavy, so that decoding processes start quickly."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from centerclip.data.video.decoding import EPSILON, Shown, decode, idle
from centerclip.data.video.reading import NoFrames

MOST = 1_000_000  # stored frames of a video; damaged time stamps could ask for more than the disk can hold
QUALITY, SUBSAMPLING = 85, "420"  # of stored frames
Size = int | str  # of stored frames, as `squared` takes it


def choose(shown: Shown, fps: float | None, start_s: float, end_s: float) -> np.ndarray:
    """The indices [k] int64 of the frames shown at start_s + (i + 0.5) / fps, ascending, maybe repeated.

    An end of NaN is the video's end. The first frame counts as shown from 0 s on. A part too short for a frame gives
    the frame in its middle; a part outside the video gives none. With `fps` None, every frame that first appears from
    start_s to end_s, both included, as the authors' code reads its re-encoded videos. Raises NoFrames for more than
    MOST frames.
    """
    length = np.fmin(shown.end, end_s) - start_s
    if length <= 0:
        return np.empty(0, np.int64)
    if fps is None:
        return np.flatnonzero((shown.starts > start_s - EPSILON) & (shown.starts < start_s + length + EPSILON))
    if (count := np.ceil(length * fps - 0.5 - EPSILON)) > MOST:
        raise NoFrames(f"damaged: {count:,.0f} frames to store by its time stamps, at most {MOST:,} are allowed")
    offsets = (np.arange(count) + 0.5) / fps
    times = start_s + (offsets if len(offsets) else np.array([length / 2]))
    return np.maximum(np.searchsorted(shown.starts, times + EPSILON, side="right") - 1, 0)


def spread(shown: Shown, count: int) -> np.ndarray:
    """The indices of the middle frames of `count` equal spans of a video, or of all frames if there are fewer."""
    if len(shown.starts) <= count:
        return np.arange(len(shown.starts))
    first = shown.starts[0]
    shown = Shown(shown.starts - first, shown.end - first)
    return choose(shown, count / shown.end, 0, np.nan)


def squared(frame: np.ndarray, size: Size) -> Image.Image:
    """The centre square of a frame [H, W, 3] uint8, scaled to `size` px as CLIP's images are (bicubic, antialiased).
    Before the number, "squash-" scales the whole frame, each side by itself, and "bilinear-" interpolates so."""
    name, size = str(size), int(str(size).rpartition("-")[2])
    height, width = frame.shape[:2]
    shorter = min(height, width)
    width, height = (size, size) if "squash" in name else (size * width // shorter, size * height // shorter)
    how = Image.Resampling.BILINEAR if "bilinear" in name else Image.Resampling.BICUBIC
    scaled = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), how)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return scaled.crop((left, top, left + size, top + size))


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file, lossless."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def jpeg(picture: Image.Image | np.ndarray) -> bytes:
    """A picture, or its pixels uint8 [H, W, 3], as a JPEG file (docs/frames.md: why this quality and subsampling)."""
    return simplejpeg.encode_jpeg(np.asarray(picture), QUALITY, colorsubsampling=SUBSAMPLING, fastdct=False)


class Clip(NamedTuple):
    """The stored frames of a video."""

    frames: list[bytes]  # picture files in the order of time
    decoder: str  # what read the file; '' if nothing could
    reason: str  # why there are no frames, or what is wrong with them


def extract(
    path: Path, bounds: Sequence[tuple[float, float]], fps: float | None, size: Size, beat: Callable[[], None] = idle
) -> list[Clip]:
    """The frames of each clip (start_s, end_s) of a video file, `size` px square, as JPEGs; with `fps` None every frame
    as a PNG. The file is decoded once for all clips. `bounds` are as in `choose`. Raises MachineFault."""
    file = jpeg if fps else png

    def select(shown: Shown) -> list[np.ndarray]:
        return [choose(shown, fps, *clip) for clip in bounds]

    try:
        decoded = decode(path, select, lambda picture: file(squared(picture, size)), beat)
    except NoFrames as error:
        return [Clip([], "", str(error))] * len(bounds)
    empty = [f"nothing is shown between start_s {start:g} and end_s {end:g}" for start, end in bounds]
    parts = zip(decoded.parts, empty, strict=True)
    return [Clip(part, decoded.decoder, decoded.remark if part else nothing) for part, nothing in parts]


def extract_file(
    item: tuple[str, Sequence[tuple[float, float]]], beat: Callable[[], None], fps: float | None, size: Size
) -> list[Clip]:
    """`extract` of (path, bounds), for `watched`."""
    return extract(Path(item[0]), item[1], fps, size, beat)


def spread_frames(path: str | Path, count: int, size: Size, beat: Callable[[], None] = idle) -> np.ndarray:
    """Frames uint8 [n, size, size, 3], n <= count, `spread` over a video file. Raises Lost."""
    decoded = decode(Path(path), lambda shown: [spread(shown, count)], lambda picture: squared(picture, size), beat)
    return np.stack(decoded.parts[0])


def spread_or_reason(
    name: str, beat: Callable[[], None], folder: Path, count: int, size: Size
) -> np.ndarray | NoFrames:
    """`spread_frames` of a file in `folder`, or the reason why there are none, for `watched`. Raises MachineFault."""
    try:
        return spread_frames(folder / name, count, size, beat)
    except NoFrames as error:
        return error
