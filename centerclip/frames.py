"""Video files -> stored frames: decoded once, kept as JPEGs in LMDB shards, read one by one.

A shard `0002.lmdb` is one file with the key `{video_id}/{i:06d}` for a video's i-th frame; `0002.csv` beside it has a
row a video: how many frames came out, by which decoder, and why if none did. Pixels count as square, as in the field's
own loaders; rotation in the file is honoured.
"""

import argparse
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import decord
import lmdb
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from centerclip.manifest import read_manifest, videos
from centerclip.stage import UserError, atomic, positive, run

QUALITY = 95  # of the JPEGs, with full colour resolution
AT_ONCE = 16  # full-size frames in memory
ROUNDING = 1e-3  # s; containers round frames' times, Matroska to a millisecond
decord.logging.set_level(decord.logging.FATAL)  # PyAV keeps libav quiet of itself


class NoFrames(Exception):
    """Why a video gives no frame, in one line."""


class DecordReader:
    """A video through decord: seeks, honours rotation; raises, often DECORDError, on what it cannot do."""

    name = "decord"
    remark = ""

    def __init__(self, path: Path):
        with av.open(str(path), metadata_errors="replace") as container:
            # Cut without re-encoding, a file holds frames that are not shown: decord repeats its last one for them.
            if any(packet.is_discard for packet in container.demux(container.streams.best("video"))):
                raise decord.DECORDError("frames that are not to be shown")
        self.video = decord.VideoReader(str(path), num_threads=1)

    def starts(self) -> np.ndarray:
        """[n] float64 seconds at which each frame is first shown, the first at 0, ascending."""
        starts = self.video.get_frame_timestamp(range(len(self.video)))[:, 0].astype(float)
        # decord seeks by these times: without them (a huge negative number, as in AVI with B frames) it gives other
        # frames than asked for.
        if starts[0] < 0 or (np.diff(starts) <= 0).any():
            raise decord.DECORDError("frames without a time of their own")
        return starts - starts[0]

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 of ascending `indices`."""
        for i in range(0, len(indices), AT_ONCE):
            yield from self.video.get_batch(indices[i : i + AT_ONCE]).asnumpy()


class PyAVReader:
    """A video through PyAV, from front to end: opens what decord cannot (AV1, no duration) and keeps the frames that
    do decode of a damaged file. Raises NoFrames, or av.FFmpegError for a file that cannot be opened."""

    name = "pyav"

    def __init__(self, path: Path):
        self.path = path
        self.lost = 0  # packets that did not decode, the last time through

    @property
    def remark(self) -> str:
        """What the report should say of the frames, or ''."""
        return f"partly damaged, packets that do not decode: {self.lost}" if self.lost else ""

    def decoded(self) -> Iterator[av.VideoFrame]:
        self.lost = 0
        with av.open(str(self.path), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise NoFrames("no video stream")
            if stream.codec_context is None:
                raise NoFrames("a codec that FFmpeg does not know")
            # One thread: jobs share the cores, and damage then costs the same frames on every machine.
            stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                try:
                    yield from next(packets).decode()
                except StopIteration:
                    return
                except av.FFmpegError:
                    self.lost += 1  # the frames around it are good

    def starts(self) -> np.ndarray:
        """As DecordReader's; frames without any times (a raw stream) count as 1/25 s each."""
        times = [frame.time for frame in self.decoded()]
        if not times:
            raise NoFrames("no frame decodes")
        # Frames come in the order they are shown; AVI, which has no such times, may give theirs in another.
        starts = np.sort(np.array(times if None not in times else np.arange(len(times)) / 25, float))
        return starts - starts[0]

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """As DecordReader's."""
        wanted = set(indices)
        for index, frame in enumerate(self.decoded()):
            if index in wanted:
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def choose(starts: np.ndarray, fps: float, start_s: float, end_s: float) -> np.ndarray:
    """Which frames to keep: those shown at start_s + (i + 0.5) / fps, for each i that falls before the end.

    Args:
        starts: [n] seconds at which each frame of the video is first shown, the first at 0, ascending.
        fps: frames to keep a second.
        start_s, end_s: the part of the video, in seconds; end_s NaN: to its end.

    Returns:
        [k] int64 ascending indices, maybe repeated. A part too short for one gives its middle; one that holds no time
        of the video gives none.
    """
    shown = np.diff(starts).mean() if len(starts) > 1 else 1 / fps
    length = np.fmin(starts[-1] + shown, end_s) - start_s
    if length <= 0:
        return np.empty(0, np.int64)
    offsets = (np.arange(np.ceil(length * fps - 0.5)) + 0.5) / fps
    times = start_s + (offsets if len(offsets) else np.array([length / 2]))
    return np.maximum(np.searchsorted(starts, times + ROUNDING, side="right") - 1, 0)


def spread(starts: np.ndarray, count: int) -> np.ndarray:
    """Which frames to keep for `count` of the whole video, each in the middle of an equal span; all, if it has fewer.

    `starts` and what is returned are as in `choose`."""
    if len(starts) <= count:
        return np.arange(len(starts))
    shown = np.diff(starts).mean()
    return choose(starts, count / (starts[-1] + shown), 0, np.nan)


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


class Decoded(NamedTuple):
    frames: list  # in order of time
    decoder: str
    remark: str  # of a partly damaged file


def extract(path: Path, fps: float, size: int, start_s: float, end_s: float) -> Decoded:
    """A video's frames as JPEGs, `size` px square. Raises NoFrames."""

    def select(starts: np.ndarray) -> np.ndarray:
        indices = choose(starts, fps, start_s, end_s)
        if len(indices) == 0:
            raise NoFrames(f"nothing is shown between start_s {start_s:g} and end_s {end_s:g}")
        return indices

    return decode(path, select, lambda frame: jpeg(squared(frame, size)))


def decode(path: Path, select: Callable, convert: Callable) -> Decoded:
    """What `convert` makes of a video's frames [H, W, 3] uint8 at the ascending indices select(starts), `starts` as in
    `choose`. Raises NoFrames."""
    if not path.is_file():
        raise NoFrames("no such file")
    if path.stat().st_size == 0:
        raise NoFrames("empty file (0 bytes)")

    def through(video: DecordReader | PyAVReader) -> Decoded:
        unique, repeats = np.unique(select(video.starts()), return_counts=True)
        pictures = (convert(frame) for frame in video.frames(unique.tolist()))
        kept = [picture for picture, n in zip(pictures, repeats, strict=True) for _ in range(n)]
        return Decoded(kept, video.name, video.remark)

    with suppress(Exception):  # decord has many ways to say no; after any of them PyAV is the judge
        return through(DecordReader(path))
    try:
        return through(PyAVReader(path))
    except av.FFmpegError as error:
        raise NoFrames(f"not a video: {error.strerror}") from None


def key(video_id: str, index: int) -> bytes:
    return f"{video_id}/{index:06d}".encode()


def write_shard(clips: pd.DataFrame, fps: float, size: int, path: Path) -> None:
    """Store the frames of `clips` (rows of `manifest.videos`) in the shard `path`, its report beside it.

    Raises:
        UserError: a video_id too long for a key.
    """
    rows, stored = [], 0
    with atomic(path) as temporary:
        # The file grows as it is written; the map is only the address space it may take.
        store = lmdb.open(str(temporary), subdir=False, map_size=1 << 40, lock=False, sync=False, meminit=False)
        for video_id in clips["video_id"]:
            if len(key(video_id, 0)) > store.max_key_size():
                raise UserError(f"video_id {video_id!r} is too long: {store.max_key_size() - 7} bytes at most")
        progress = tqdm(clips.itertuples(), f"frames: {path.name}", len(clips), unit="video")
        for clip in progress:
            try:
                frames, decoder, reason = extract(Path(clip.path), fps, size, clip.start_s, clip.end_s)
            except NoFrames as error:
                frames, decoder, reason = [], "", str(error)
            if reason:
                tqdm.write(f"{clip.video_id}: {reason}")
            with store.begin(write=True) as transaction:
                for index, frame in enumerate(frames):
                    transaction.put(key(clip.video_id, index), frame)
            stored += len(frames)
            progress.set_postfix(frames=stored, refresh=False)
            rows.append({"video_id": clip.video_id, "frames": len(frames), "decoder": decoder, "reason": reason})
        store.sync(True)
        store.close()
    with atomic(path.with_suffix(".csv")) as temporary:
        pd.DataFrame(rows, columns=["video_id", "frames", "decoder", "reason"]).to_csv(temporary, index=False)


def combine(reports: list[Path], max_bad: float, directory: Path) -> pd.DataFrame:
    """The shards' reports as one, with a column `shard`: the shard's path from `directory`.

    Raises:
        UserError: more than the share `max_bad` of the videos gave no frame; a line each.
    """
    parts = []
    for path in reports:
        part = pd.read_csv(path, dtype={"video_id": str, "frames": int}, keep_default_na=False)
        parts.append(part.assign(shard=os.path.relpath(path.with_suffix(".lmdb"), directory)))
    report = pd.concat(parts, ignore_index=True)
    bad = report[report["frames"] == 0]
    said = f"{len(bad)} of {len(report)} videos ({len(bad) / len(report):.1%}) gave no frame"
    lines = [said, *(f"  {row.video_id}: {row.reason}" for row in bad.itertuples())]
    if len(bad) > max_bad * len(report):
        lines[0] += f", more than the {max_bad:.1%} that max_bad allows:"
        raise UserError("\n".join(lines))
    print("\n".join(lines))
    return report


class FrameStore:
    """Random access to stored frames, in each process through a shard it opened itself.

    `counts` has the number of frames of every video that gave any. Raises UserError for a shard that is gone.
    """

    def __init__(self, report: str | Path):
        rows = pd.read_csv(report, dtype={"video_id": str}, keep_default_na=False)
        rows = rows[rows["frames"] > 0]
        self.counts: dict[str, int] = dict(zip(rows["video_id"], rows["frames"].tolist(), strict=True))
        shards = {shard: (Path(report).parent / shard).resolve() for shard in rows["shard"].unique()}
        self.shards: dict[str, Path] = dict(zip(rows["video_id"], rows["shard"].map(shards), strict=True))
        for path in shards.values():  # here, where an error is one line: a loader's process wraps it in others
            open_shard(path)

    def read(self, video_id: str, indices: Sequence[int]) -> np.ndarray:
        """Frames uint8 [k, 3, size, size] of a video. Raises KeyError for a frame that is not stored."""
        with open_shard(self.shards[video_id]).begin(buffers=True) as transaction:
            stored = [transaction.get(key(video_id, index)) for index in indices]
            if None in stored:
                raise KeyError(f"{video_id} has {self.counts[video_id]} frames, not all of {list(indices)}")
            return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in stored]).transpose(0, 3, 1, 2)


@cache
def open_shard(path: Path) -> lmdb.Environment:
    """A shard open for reading. Raises UserError if it is gone."""
    try:
        return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: stored frames cannot be read ({error}); delete its .csv to make them anew") from None


# LMDB neither survives a fork nor lets the child open the file again: close all before, each process opens its own.
os.register_at_fork(before=open_shard.cache_clear)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.frames", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    shard = steps.add_parser("shard", help="store the frames of every shards-th video")
    shard.add_argument("--manifest", required=True, type=Path)
    shard.add_argument("--size", required=True, type=positive, help="side of the stored frames, pixels")
    shard.add_argument("--fps", required=True, type=float, help="frames a second of video")
    shard.add_argument("--shard", required=True, type=int, help="which shard, from 0")
    shard.add_argument("--shards", required=True, type=positive, help="of how many")
    report = steps.add_parser("report", help="join the shards' reports")
    report.add_argument("--shards", required=True, nargs="+", type=Path, help="the shards' reports, csv")
    report.add_argument("--max-bad", required=True, type=float, help="largest share of videos without a frame")
    for step in (shard, report):
        step.add_argument("--out", required=True, type=Path)
        step.add_argument("--log", type=Path, default=argparse.SUPPRESS)

    def job(arguments: argparse.Namespace) -> None:
        if arguments.step == "shard":
            clips = videos(read_manifest(arguments.manifest))[arguments.shard :: arguments.shards]
            write_shard(clips, arguments.fps, arguments.size, arguments.out)
        else:
            report = combine(arguments.shards, arguments.max_bad, arguments.out.parent)
            with atomic(arguments.out) as temporary:
                report.to_csv(temporary, index=False)

    run(parser, job)


if __name__ == "__main__":
    main()
