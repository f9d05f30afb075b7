"""Stores the frames of video files in shards: LMDB files of pictures, each video decoded once.

`0002.csv` beside a shard `0002.lmdb` has a row a video: its number of frames, their decoder, the reason for missing or
damaged frames, and the state of its file. Made again, a shard decodes only the videos whose state changed. Pixels count
as square, as in other loaders of the field; rotation and mirroring in the file are applied.
"""

import errno
import os
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lmdb
import pandas as pd
from tqdm import tqdm

from centerclip.command import UserError, atomic, file_state, shown
from centerclip.data.video.extraction import Clip, Size, extract_file
from centerclip.data.video.frames import check_shard, key, open_shard, read_report, seal
from centerclip.data.video.reading import Lost, MachineFault
from centerclip.data.video.watch import STALL_SECONDS, watched
from centerclip.method.digest import digest
from centerclip.settings import revisions

MACHINE = "machine"  # the decoder of a video that the machine failed to read
SPARE = 1 << 20  # bytes; a disk with less counts as full
NAMED = 10  # videos without frames that are listed on the terminal; the report has all


def put(store: lmdb.Environment, video_id: str, frames: list[bytes]) -> None:
    """Store the frames of a video, and enlarge the store if needed."""
    try:
        with store.begin(write=True) as transaction:
            for index, frame in enumerate(frames):
                transaction.put(key(video_id, index), frame)
    except lmdb.MapFullError:
        store.set_mapsize(2 * store.info()["map_size"])
        put(store, video_id, frames)


def write_shard(
    clips: pd.DataFrame, fps: float | None, size: Size, path: Path, stall_seconds: float = STALL_SECONDS
) -> int:
    """Store the frames of `clips` (rows of `manifest.videos`) in the shard `path`, its report beside it.

    Frames of videos with an unchanged state are copied from an earlier shard; the others are decoded, `watched`.
    Returns how many videos the machine failed to read; another run may succeed. Raises UserError for a video_id too
    long for a key, and if all videos of an earlier shard are gone.
    """
    clips = clips.assign(state=states(clips, fps, size))
    if had_frames(path) and len(clips) > 1 and not any(map(os.path.exists, clips["path"])):
        gone = f"all of its {len(clips)} videos are gone (first: {clips['path'].iloc[0]}), so it stays as it is"
        raise UserError(f"{path}: {gone}; put the videos back, or run with --forcerun fetch if they were downloaded")
    with atomic(path) as temporary, disk_checked(path):
        # map_size is the address space of the file; `put` enlarges it.
        store = lmdb.open(str(temporary), subdir=False, map_size=1 << 24, lock=False, sync=False, meminit=False)
        for video_id in clips["video_id"]:
            if len(key(video_id, 0)) > store.max_key_size():
                raise UserError(
                    f"video_id {video_id!r}: longer than {store.max_key_size() - 7} bytes; rename the video"
                )
        rows = take_over(clips, path, store)
        left = clips[~clips["video_id"].isin(rows)]
        with tqdm(desc=f"frames: {path.name}", total=len(clips), initial=len(rows), unit="video") as progress:
            rows |= decode_all(left, fps, size, store, stall_seconds, progress)
        store.sync(True)
        store.close()
        report = pd.DataFrame([rows[name] for name in clips["video_id"]], columns=["frames", "decoder", "reason"])
        report.insert(0, "video_id", clips["video_id"].tolist())
        table = report.assign(state=clips["state"].tolist()).to_csv(index=False).encode()
        seal(temporary, path.name, table)
    open_shard.cache_clear()  # forgets the earlier file
    with atomic(path.with_suffix(".csv")) as temporary:
        temporary.write_bytes(table)
    return sum(decoder == MACHINE for _, decoder, _ in rows.values())


@contextmanager
def disk_checked(path: Path) -> Iterator[None]:
    """Raise OSError where LMDB cannot write. It takes a short write to a full disk for an input/output error."""
    try:
        yield
    except lmdb.Error as error:
        if error.code <= 0:  # not of the operating system
            raise
        full = error.code == errno.EIO and shutil.disk_usage(path.parent).free < SPARE
        code = errno.ENOSPC if full else error.code
        raise OSError(code, os.strerror(code), str(path)) from None


def had_frames(path: Path) -> bool:
    """Whether there is a shard that, by its report if there is one, has a frame."""
    report = path.with_suffix(".csv")
    return path.exists() and not (report.exists() and (read_report(report)["frames"] == 0).all())


def states(clips: pd.DataFrame, fps: float | None, size: Size) -> list[str]:
    """16 hex digits a clip, which change with its file, its bounds and the way frames are made."""
    return [
        digest(repr([revisions.FRAMES, fps, size, file_state(clip.path), *clip[1:]]).encode())
        for clip in clips[["video_id", "path", "start_s", "end_s"]].itertuples()
    ]


def take_over(clips: pd.DataFrame, path: Path, store: lmdb.Environment) -> dict[str, tuple[int, str, str]]:
    """Copy to `store` the frames of unchanged `clips` from the shard `path`. Returns (frames, decoder, reason) by
    video_id."""
    if not (path.exists() and path.with_suffix(".csv").exists()):
        return {}
    try:
        check_shard(path)
        before = read_report(path.with_suffix(".csv"))
    except UserError as error:
        tqdm.write(f"{str(error).partition('; ')[0]}: all its videos are decoded again")
        return {}
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


def decode_all(
    clips: pd.DataFrame, fps: float | None, size: Size, store: lmdb.Environment, stall_seconds: float, progress: tqdm
) -> dict[str, tuple[int, str, str]]:
    """Decode each file of `clips` once and store its frames. Returns as `take_over`."""
    files, rows, stored = dict(list(clips.groupby("path", sort=False))), {}, 0
    work = [(file, list(zip(part["start_s"], part["end_s"], strict=True))) for file, part in files.items()]
    for (file, bounds), made in watched(partial(extract_file, fps=fps, size=size), work, 1, stall_seconds):
        if isinstance(made, Lost):
            made = [Clip([], MACHINE if isinstance(made, MachineFault) else "", str(made))] * len(bounds)
        for clip, (frames, decoder, reason) in zip(files[file].itertuples(), made, strict=True):
            if reason:
                tqdm.write(shown(f"{clip.video_id}: {reason}"))
            put(store, clip.video_id, frames)
            rows[clip.video_id] = (len(frames), decoder, reason)
            stored += len(frames)
            progress.set_postfix(frames=stored, refresh=False)
            progress.update()
    return rows


def combine(reports: list[Path], directory: Path) -> pd.DataFrame:
    """The shards' reports as one, with a column `shard`: the path of the shard from `directory`."""
    shards = [os.path.relpath(path.with_suffix(".lmdb"), directory) for path in reports]
    parts = [read_report(path).assign(shard=shard) for path, shard in zip(reports, shards, strict=True)]
    return pd.concat(parts, ignore_index=True)


def unreadable(report: pd.DataFrame, video_ids: Container[str], share: float) -> list[str]:
    """Lines that say how many of `video_ids` gave no frame, and why for the first NAMED. Raises UserError with these
    lines if more than the `share` of them gave none."""
    report = report[report["video_id"].map(video_ids.__contains__)]
    empty = report[report["frames"] == 0]
    lines = [f"{len(empty)} of {len(report)} videos ({len(empty) / max(1, len(report)):.1%}) gave no frame"]
    lines += [f"  {video.video_id}: {video.reason}" for video in empty[:NAMED].itertuples()]
    lines += [f"  and {len(empty) - NAMED:,} more"] if len(empty) > NAMED else []
    if len(empty) > share * len(report):
        lines[0] += f", more than the {share:.1%} that max_unreadable_share allows:"
        raise UserError(*lines)
    return lines
