"""Video files -> shards of stored frames: decoded once, kept as pictures in LMDB.

`0002.csv` beside a shard `0002.lmdb` has a row a video: its number of frames, their decoder, why there are none or what
is wrong with them, and the state of its file. Made again, a shard decodes only videos whose state is another. Pixels
count as square, as in the field's own loaders; rotation and mirroring in the file are honoured.
"""

import hashlib
import os
from collections.abc import Container
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
from centerclip.settings import revisions

MACHINE = "machine"  # in place of the decoder in the row of a video that the machine failed to read
NAMED = 10  # videos without frames, on the terminal; the report has all


def put(store: lmdb.Environment, video_id: str, frames: list[bytes]) -> None:
    """Store the frames of a video."""
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
    Returns how many videos the machine failed to read: made again, the shard may have their frames. Raises UserError
    for a video_id too long for a key, or if no video is left where there was a shard.
    """
    clips = clips.assign(state=states(clips, fps, size))
    if had_frames(path) and len(clips) > 1 and not any(map(os.path.exists, clips["path"])):
        gone = f"none of its {len(clips)} videos is there any more: {clips['path'].iloc[0]}: no such file"
        raise UserError(f"{path} stays as it is, as {gone}. Put them back (files that were fetched: --forcerun fetch)")
    with atomic(path) as temporary:
        # The map is the address space that the file may take: `put` makes it larger.
        store = lmdb.open(str(temporary), subdir=False, map_size=1 << 24, lock=False, sync=False, meminit=False)
        for video_id in clips["video_id"]:
            if len(key(video_id, 0)) > store.max_key_size():
                raise UserError(f"video_id {video_id!r} is too long: {store.max_key_size() - 7} bytes at most")
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
    open_shard.cache_clear()  # of the file that was there
    with atomic(path.with_suffix(".csv")) as temporary:
        temporary.write_bytes(table)
    return sum(decoder == MACHINE for _, decoder, _ in rows.values())


def had_frames(path: Path) -> bool:
    """Whether there is a shard and, as far as its report is there, it has a frame."""
    report = path.with_suffix(".csv")
    return path.exists() and not (report.exists() and (read_report(report)["frames"] == 0).all())


def states(clips: pd.DataFrame, fps: float | None, size: Size) -> list[str]:
    """16 hex digits a clip that change when its file does, where it begins or ends, or how frames are made of it."""
    return [
        hashlib.sha256(repr([revisions.FRAMES, fps, size, file_state(clip.path), *clip[1:]]).encode()).hexdigest()[:16]
        for clip in clips[["video_id", "path", "start_s", "end_s"]].itertuples()
    ]


def take_over(clips: pd.DataFrame, path: Path, store: lmdb.Environment) -> dict[str, tuple[int, str, str]]:
    """Copy to `store` the frames that the shard `path` has of `clips` with an unchanged state. Returns (number of
    frames, decoder, reason) by video_id."""
    if not (path.exists() and path.with_suffix(".csv").exists()):
        return {}
    try:
        check_shard(path)
    except UserError as error:
        tqdm.write(f"{str(error).partition('; ')[0]}: all its videos are decoded")
        return {}
    before = read_report(path.with_suffix(".csv"))
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
    """Store the frames of `clips` as their files are decoded, each once. Returns as `take_over`."""
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
    """The shards' reports as one, with a column `shard`: the shard's path from `directory`."""
    shards = [os.path.relpath(path.with_suffix(".lmdb"), directory) for path in reports]
    parts = [read_report(path).assign(shard=shard) for path, shard in zip(reports, shards, strict=True)]
    return pd.concat(parts, ignore_index=True)


def unreadable(report: pd.DataFrame, video_ids: Container[str], share: float) -> list[str]:
    """Lines on those of `video_ids` that gave no frame: how many, and why for the first NAMED. Raises UserError with
    the same lines if they are more than the `share` of all."""
    report = report[report["video_id"].map(video_ids.__contains__)]
    empty = report[report["frames"] == 0]
    lines = [f"{len(empty)} of {len(report)} videos ({len(empty) / max(1, len(report)):.1%}) gave no frame"]
    lines += [f"  {video.video_id}: {video.reason}" for video in empty[:NAMED].itertuples()]
    lines += [f"  and {len(empty) - NAMED:,} more"] if len(empty) > NAMED else []
    if len(empty) > share * len(report):
        lines[0] += f", more than the {share:.1%} that max_unreadable_share allows:"
        raise UserError(*lines)
    return lines
