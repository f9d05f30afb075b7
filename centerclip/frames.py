"""Video files -> stored frames: decoded once, kept as JPEGs in LMDB shards, read one by one.

A shard `0002.lmdb` is one file with the key `{video_id}/{i:06d}` for a video's i-th frame; `0002.csv` beside it has a
row a video: how many frames came out, by which reader, why if none did or what is wrong with them, and the state that
its file was in. Made again, a shard decodes only videos whose state is another. Pixels count as square, as in the
field's own loaders; rotation and mirroring in the file are honoured.
"""

import argparse
import hashlib
import io
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from centerclip.extraction import Clip, extract_file
from centerclip.manifest import in_shard, read_manifest, videos
from centerclip.stage import UserError, atomic, file_state, positive, run
from centerclip.watch import STALL_SECONDS, Lost, watched


def key(video_id: str, index: int) -> bytes:
    return f"{video_id}/{index:06d}".encode()


def put(store: lmdb.Environment, video_id: str, frames: list[bytes]) -> None:
    """Store the frames of a video."""
    with store.begin(write=True) as transaction:
        for index, frame in enumerate(frames):
            transaction.put(key(video_id, index), frame)


def write_shard(
    clips: pd.DataFrame,
    fps: float,
    size: int,
    path: Path,
    code: Sequence[Path] = (),
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Store the frames of `clips` (rows of `manifest.videos`) in the shard `path`, its report beside it.

    What an earlier shard there has of videos whose state is the same is taken from it. The others are decoded by a
    process that is watched: a video that gives no frame for `stall_seconds` is ended and named as one that gives none.

    Args:
        code: files whose change makes all frames anew.

    Raises:
        UserError: a video_id too long for a key.
    """
    made_by = hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()
    states = [
        hashlib.sha256(repr([made_by, fps, size, file_state(clip.path), *clip[1:]]).encode()).hexdigest()[:16]
        for clip in clips[["video_id", "path", "start_s", "end_s"]].itertuples()
    ]
    clips = clips.assign(state=states)
    with atomic(path) as temporary:
        # The file grows as it is written; the map is only the address space it may take.
        store = lmdb.open(str(temporary), subdir=False, map_size=1 << 40, lock=False, sync=False, meminit=False)
        for video_id in clips["video_id"]:
            if len(key(video_id, 0)) > store.max_key_size():
                raise UserError(f"video_id {video_id!r} is too long: {store.max_key_size() - 7} bytes at most")
        rows, stored = take_over(clips, path, store), 0
        files = dict(list(clips[~clips["video_id"].isin(rows)].groupby("path", sort=False)))
        work = [(file, list(zip(part["start_s"], part["end_s"], strict=True))) for file, part in files.items()]
        progress = tqdm(desc=f"frames: {path.name}", total=len(clips), initial=len(rows), unit="video")
        for (file, bounds), made in watched(partial(extract_file, fps=fps, size=size), work, 1, stall_seconds):
            if isinstance(made, Lost):
                made = [Clip([], "", str(made))] * len(bounds)
            for clip, (frames, decoder, reason) in zip(files[file].itertuples(), made, strict=True):
                if reason:
                    tqdm.write(f"{clip.video_id}: {reason}")
                put(store, clip.video_id, frames)
                rows[clip.video_id] = (len(frames), decoder, reason)
                stored += len(frames)
                progress.set_postfix(frames=stored, refresh=False)
                progress.update()
        progress.close()
        store.sync(True)
        store.close()
    open_shard.cache_clear()  # of the file that was there
    report = pd.DataFrame([rows[video_id] for video_id in clips["video_id"]], columns=["frames", "decoder", "reason"])
    report.insert(0, "video_id", clips["video_id"].tolist())
    with atomic(path.with_suffix(".csv")) as temporary:
        report.assign(state=states).to_csv(temporary, index=False)


def take_over(clips: pd.DataFrame, path: Path, store: lmdb.Environment) -> dict[str, tuple[int, str, str]]:
    """Copy to `store` what the shard `path` has of the videos of `clips` whose state is what it was.

    Returns (number of frames, decoder, reason) by video_id."""
    if not (path.exists() and path.with_suffix(".csv").exists()):
        return {}
    before = pd.read_csv(path.with_suffix(".csv"), dtype={"video_id": str, "state": str}, keep_default_na=False)
    if "state" not in before:
        return {}
    same = before.merge(clips[["video_id", "state"]])
    taken = {}
    with open_shard(path).begin() as old:
        for row in same[same["frames"] > 0].itertuples():
            frames = [old.get(key(row.video_id, index)) for index in range(row.frames)]
            if None not in frames:
                put(store, row.video_id, frames)
                taken[row.video_id] = (row.frames, row.decoder, row.reason)
    return taken


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
    shard.add_argument("--code", nargs="*", default=[], type=Path, help="files whose change makes all frames anew")
    shard.add_argument(
        "--stall-seconds", type=float, default=STALL_SECONDS, help="end a video that gives no frame for so long"
    )
    report = steps.add_parser("report", help="join the shards' reports")
    report.add_argument("--shards", required=True, nargs="+", type=Path, help="the shards' reports, csv")
    report.add_argument("--max-bad", required=True, type=float, help="largest share of videos without a frame")
    for step in (shard, report):
        step.add_argument("--out", required=True, type=Path)
        step.add_argument("--log", type=Path, default=argparse.SUPPRESS)

    def job(arguments: argparse.Namespace) -> None:
        if arguments.step == "shard":
            clips = videos(read_manifest(arguments.manifest))
            clips = clips[in_shard(clips["path"], arguments.shards) == arguments.shard]
            write_shard(clips, arguments.fps, arguments.size, arguments.out, arguments.code, arguments.stall_seconds)
        else:
            report = combine(arguments.shards, arguments.max_bad, arguments.out.parent)
            with atomic(arguments.out) as temporary:
                report.to_csv(temporary, index=False)

    run(parser, job)


if __name__ == "__main__":
    main()
