"""Video files -> stored frames: decoded once, kept as JPEGs in LMDB shards, read one by one.

A shard `0002.lmdb` is one file with the key `{video_id}/{i:06d}` for a video's i-th frame; `0002.csv` beside it has a
row a video: how many frames came out, by which decoder, and why if none did. Pixels count as square, as in the field's
own loaders; rotation in the file is honoured.
"""

import argparse
import io
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import av
import decord
import lmdb
import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from tqdm import tqdm

from centerclip.manifest import read_manifest, videos
from centerclip.stage import UserError, atomic, run

QUALITY = 95  # of the JPEGs, with full colour resolution
AT_ONCE = 16  # full-size frames in memory


class NoFrames(Exception):
    """Why a video gives no frame, in one line."""


class DecordReader:
    """A video through decord: fast, seeks, honours rotation; raises decord.DECORDError on damage."""

    name = "decord"

    def __init__(self, path: Path):
        self.video = decord.VideoReader(str(path), num_threads=1)

    def starts(self) -> np.ndarray:
        """[n] seconds at which each frame is first shown, the first at 0."""
        starts = self.video.get_frame_timestamp(range(len(self.video)))[:, 0]
        return starts - starts[0]

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 of ascending `indices`."""
        for i in range(0, len(indices), AT_ONCE):
            yield from self.video.get_batch(indices[i : i + AT_ONCE]).asnumpy()


class PyAVReader:
    """A video through PyAV, from front to end: opens what decord cannot (AV1, no duration) and keeps the frames that
    do decode of a damaged file."""

    name = "pyav"

    def __init__(self, path: Path):
        self.path = path

    def decoded(self) -> Iterator[av.VideoFrame]:
        with av.open(str(self.path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise NoFrames("no video stream")
            for packet in container.demux(container.streams.video[0]):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    continue  # a damaged packet: the frames around it are good

    def starts(self) -> np.ndarray:
        """As DecordReader's."""
        times = [frame.time for frame in self.decoded()]
        if not times:
            raise NoFrames("no frame decodes")
        return np.array(times) - times[0]

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """As DecordReader's."""
        wanted = set(indices)
        for index, frame in enumerate(self.decoded()):
            if index in wanted:
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def choose(starts: np.ndarray, fps: float, start_s: float, end_s: float) -> np.ndarray:
    """Which frames to keep: `fps` a second, each the one shown in the middle of its 1/fps.

    Args:
        starts: [n] seconds at which each frame of the video is first shown.
        fps: frames to keep a second.
        start_s, end_s: the part of the video, in seconds; end_s NaN: to its end.

    Returns:
        [k] int64 ascending indices, maybe repeated; at least one if the part holds any time of the video, else none.
    """
    shown = np.diff(starts).mean() if len(starts) > 1 else 1 / fps
    end = np.fmin(starts[-1] + shown, end_s)
    length = end - start_s
    if length <= 0:
        return np.empty(0, int)
    count = max(1, int(length * fps + 0.5))
    times = start_s + np.minimum(np.arange(count) + 0.5, length * fps) / fps if count > 1 else [start_s + length / 2]
    return np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)


def squared(frame: np.ndarray, size: int) -> Image.Image:
    """A frame [H, W, 3] uint8 with its shorter side at `size` px (bicubic), centre-cropped to a square."""
    return ImageOps.fit(Image.fromarray(np.ascontiguousarray(frame)), (size, size), Image.Resampling.BICUBIC)


def extract(path: Path, fps: float, size: int, start_s: float, end_s: float) -> tuple[list[Image.Image], str]:
    """A video's frames, `size` px square, and the name of the decoder that gave them. Raises NoFrames."""
    if not path.is_file():
        raise NoFrames("no such file")
    if path.stat().st_size == 0:
        raise NoFrames("empty file (0 bytes)")
    for reader in (DecordReader, PyAVReader):
        try:
            video = reader(path)
            indices = choose(video.starts(), fps, start_s, end_s)
            if len(indices) == 0:
                raise NoFrames(f"nothing is shown between start_s {start_s:g} and end_s {end_s:g}")
            unique, repeats = np.unique(indices, return_counts=True)
            pictures = [squared(frame, size) for frame in video.frames(unique.tolist())]
        except (decord.DECORDError, RuntimeError, IndexError):  # decord's many ways to say no
            if reader is PyAVReader:
                raise
        except av.FFmpegError as error:
            raise NoFrames(f"not a video that can be opened: {error.strerror}") from None
        else:
            return [picture for picture, n in zip(pictures, repeats, strict=True) for _ in range(n)], reader.name
    raise AssertionError("PyAV either gives frames or raises")


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def key(video_id: str, index: int) -> bytes:
    return f"{video_id}/{index:06d}".encode()


def write_shard(clips: pd.DataFrame, fps: float, size: int, path: Path) -> None:
    """Store the frames of `clips` (rows of `manifest.videos`) in the shard `path`, its report beside it.

    Raises:
        UserError: a video_id too long for a key.
    """
    rows = []
    with atomic(path) as temporary:
        # The file grows as it is written; the map is only the address space it may take.
        store = lmdb.open(str(temporary), subdir=False, map_size=1 << 40, lock=False, sync=False, meminit=False)
        for clip in tqdm(clips.itertuples(), f"frames: {path.name}", len(clips), unit="video"):
            if len(key(clip.video_id, 0)) > store.max_key_size():
                raise UserError(f"video_id {clip.video_id!r} is too long: {store.max_key_size() - 7} bytes at most")
            try:
                pictures, decoder = extract(Path(clip.path), fps, size, clip.start_s, clip.end_s)
                reason = ""
            except NoFrames as error:
                pictures, decoder, reason = [], "", str(error)
                tqdm.write(f"{clip.video_id}: {reason}")
            with store.begin(write=True) as transaction:
                for index, picture in enumerate(pictures):
                    transaction.put(key(clip.video_id, index), jpeg(picture))
            rows.append({"video_id": clip.video_id, "frames": len(pictures), "decoder": decoder, "reason": reason})
        store.sync(True)
        store.close()
    with atomic(path.with_suffix(".csv")) as temporary:
        pd.DataFrame(rows, columns=["video_id", "frames", "decoder", "reason"]).to_csv(temporary, index=False)


def combine(reports: list[Path], max_bad: float) -> pd.DataFrame:
    """The shards' reports as one, with a column `shard`, the file's name.

    Raises:
        UserError: more than the share `max_bad` of the videos gave no frame; a line each.
    """
    parts = [pd.read_csv(path, dtype={"video_id": str}, keep_default_na=False) for path in reports]
    for path, part in zip(reports, parts, strict=True):
        part["shard"] = path.with_suffix(".lmdb").name
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
    """Random access to stored frames. Shards are opened when first read, in each process for itself.

    `counts` has the number of frames of every video that gave any.
    """

    def __init__(self, report: str | Path):
        self.directory = Path(report).parent
        rows = pd.read_csv(report, dtype={"video_id": str}, keep_default_na=False)
        rows = rows[rows["frames"] > 0]
        self.counts: dict[str, int] = dict(zip(rows["video_id"], rows["frames"].tolist(), strict=True))
        self.shards: dict[str, str] = dict(zip(rows["video_id"], rows["shard"], strict=True))

    def read(self, video_id: str, indices: Sequence[int]) -> np.ndarray:
        """Frames uint8 [k, 3, size, size] of a video. Raises KeyError for a frame that is not stored."""
        with open_shard(self.directory / self.shards[video_id], os.getpid()).begin(buffers=True) as transaction:
            stored = [transaction.get(key(video_id, index)) for index in indices]
            if None in stored:
                raise KeyError(f"{video_id} has {self.counts[video_id]} frames, not all of {list(indices)}")
            return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in stored]).transpose(0, 3, 1, 2)


@cache
def open_shard(path: Path, process: int) -> lmdb.Environment:
    """A shard open for reading in one process: LMDB does not survive a fork. Raises UserError if it is gone."""
    try:
        return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: stored frames cannot be read ({error}); delete its .csv to make them anew") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.frames", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    shard = steps.add_parser("shard", help="store the frames of every shards-th video")
    shard.add_argument("--manifest", required=True, type=Path)
    shard.add_argument("--size", required=True, type=int, help="side of the stored frames, pixels")
    shard.add_argument("--fps", required=True, type=float, help="frames a second of video")
    shard.add_argument("--shard", required=True, type=int, help="which shard, from 0")
    shard.add_argument("--shards", required=True, type=int, help="of how many")
    report = steps.add_parser("report", help="join the shards' reports")
    report.add_argument("--shards", required=True, nargs="+", type=Path, help="the shards' reports, csv")
    report.add_argument("--max-bad", required=True, type=float, help="largest share of videos without a frame")
    for step in (shard, report):
        step.add_argument("--out", required=True, type=Path)
        step.add_argument("--log", type=Path, default=argparse.SUPPRESS)

    def job(arguments: argparse.Namespace) -> None:
        av.logging.set_level(None)
        decord.logging.set_level(decord.logging.FATAL)
        if arguments.step == "shard":
            clips = videos(read_manifest(arguments.manifest))[arguments.shard :: arguments.shards]
            write_shard(clips, arguments.fps, arguments.size, arguments.out)
        else:
            report = combine(arguments.shards, arguments.max_bad)
            with atomic(arguments.out) as temporary:
                report.to_csv(temporary, index=False)

    run(parser, job)


if __name__ == "__main__":
    main()
