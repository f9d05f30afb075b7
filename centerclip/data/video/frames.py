"""Reads stored frames one by one.

A shard, such as `0002.lmdb`, holds the i-th frame of a video as a JPEG or PNG under the key `{video_id}/{i:06d}`.
Behind LMDB's pages it has the checksums of these pages and of `0002.csv` beside it. The report of a store is a csv with
the number of frames and the shard of each video.
"""

import errno
import io
import os
import struct
import zlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from centerclip.command import UserError, first_line, is_damage
from centerclip.settings import layout

PAGE = 4096  # bytes; the size of LMDB's pages is a multiple
SEAL = struct.Struct("<4sII")  # a mark, the CRC-32 of the pages, the CRC-32 of the csv beside
MARK = b"CRC1"
QUICK = 1 << 30  # bytes; their checksum takes less than a second
OPEN = 16  # shards that a process has open at a time


def key(video_id: str, index: int) -> bytes:
    """The key of a frame in its shard."""
    return f"{video_id}/{index:06d}".encode()


def read_report(path: str | Path) -> pd.DataFrame:
    """The report of a shard or a store, a row a video. Raises UserError for another file."""
    try:
        types = {"video_id": str, "frames": int, "state": str, "shard": str}
        rows = pd.read_csv(path, dtype=types, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{path}: not a report of stored frames: {first_line(error)}") from None
    if not {"video_id", "frames"} <= set(rows):
        raise UserError(f"{path}: not a report of stored frames: it has {', '.join(rows)}")
    return rows


def unusable(path: Path, fault: str, *others: Path) -> UserError:
    """The error for a `fault` in a file of stored frames, with how to make the file, and `others`, again."""
    present = [file.name for file in (path, *others) if file.exists()]
    delete = f"delete {' and '.join(present)}, then " if present else ""
    return UserError(f"{path}: stored frames cannot be read: {fault}; {delete}{layout.remake(path, layout.SHARD)}")


class FrameStore:
    """The stored frames of a report. Each process opens the shards by itself.

    `counts` has the number of frames of every video with frames, `report` all rows. Checksums of all bytes are compared
    if the shards are small (`QUICK`) or if this is `thorough`. Raises UserError for a shard that is missing, damaged,
    or from another report.
    """

    def __init__(self, report: str | Path, thorough: bool = False):
        self.path, self.report = Path(report), read_report(report)
        rows = self.report[self.report["frames"] > 0]
        rows = rows.assign(shard=rows["shard"].fillna("") if "shard" in rows else "")
        if not rows["shard"].map(lambda shard: shard.endswith(".lmdb") and "\0" not in shard).all():
            raise unusable(self.path, "it lacks the shard of a video")
        self.counts: dict[str, int] = dict(zip(rows["video_id"], rows["frames"].tolist(), strict=True))
        self.shards: dict[str, Path] = {}
        parts = {(self.path.parent / shard).resolve(): part for shard, part in rows.groupby("shard")}
        thorough = thorough or sum(path.stat().st_size for path in parts if path.exists()) <= QUICK
        for path, part in parts.items():  # before loaders start, so that a fault is one line
            check_shard(path, thorough)
            if not described(part, path.with_suffix(".csv")):
                raise unusable(self.path, f"it does not agree with {path.stem}.csv", path)
            self.shards |= dict.fromkeys(part["video_id"], path)

    def read(self, video_id: str, indices: Sequence[int]) -> np.ndarray:
        """Frames uint8 [k, 3, size, size] of a video. Raises KeyError for a frame that the report does not have, and
        UserError for a frame that cannot be read."""
        path = self.shards[video_id]
        try:
            with open_shard(path).begin(buffers=True) as transaction:
                stored = [transaction.get(key(video_id, index)) for index in indices]
                if None not in stored:
                    return np.stack([picture(data) for data in stored]).transpose(0, 3, 1, 2)
        except (lmdb.Error, ValueError) as error:
            raise unusable(path, f"frames of {video_id} cannot be read ({first_line(error)})") from None
        if max(indices) >= self.counts[video_id]:
            raise KeyError(f"{video_id} has {self.counts[video_id]} frames, not all of {list(indices)}")
        raise unusable(path, f"it lacks frames of {video_id}")


def check_complete(manifest: pd.DataFrame, report: pd.DataFrame, splits: Collection[str], path: Path) -> None:
    """Raise UserError unless the `report` of `path` has every video of the manifest's `splits`, with frames or with a
    reason."""
    complete = report["frames"] > 0
    if "reason" in report:
        complete |= report["reason"].fillna("") != ""
    wanted = manifest.loc[manifest["split"].isin(splits), "video_id"].drop_duplicates()
    missing = wanted[~wanted.isin(report.loc[complete, "video_id"])]
    if len(missing):
        lacks = f"it lacks {len(missing):,} of the {len(wanted):,} videos of {' and '.join(splits)}"
        raise unusable(path, f"{lacks} (first missing: {missing.iloc[0]!r})")


def picture(data: memoryview) -> np.ndarray:
    """A stored frame uint8 [size, size, 3]. Raises ValueError for bytes that are not a picture."""
    if simplejpeg.is_jpeg(data):
        return simplejpeg.decode_jpeg(data)
    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except Exception as error:
        raise ValueError(first_line(error)) if is_damage(error) else error from None


def seal(shard: Path, name: str, report: bytes) -> None:
    """Append to a shard, which will be called `name`, the checksums of its pages and of its csv `report`."""
    crc = checksum(shard, shard.stat().st_size)
    with open(shard, "ab") as file:
        file.write(SEAL.pack(MARK, crc, report_checksum(name, report)))


def check_shard(shard: Path, thorough: bool = True) -> None:
    """Raise UserError if a shard or the csv beside it changed since it was stored; if `thorough`, all bytes are
    compared. Without checksums, only the length of the shard is checked."""
    try:
        with open(shard, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - size % PAGE)
            end = file.read()
    except FileNotFoundError:
        raise unusable(shard, "there is no such file") from None
    if not end:
        open_shard(shard)
        return
    mark, pages, report = SEAL.unpack(end) if len(end) == SEAL.size else (b"", 0, 0)
    if mark != MARK:
        raise unusable(shard, "it is damaged or cut short")
    csv = shard.with_suffix(".csv")
    if csv.exists() and report_checksum(shard.name, csv.read_bytes()) != report:
        raise unusable(shard, f"it does not belong to {csv.name} beside it, or one of the two is damaged")
    if thorough and checksum(shard, size - SEAL.size) != pages:
        raise unusable(shard, "it is damaged: its checksum is wrong")


def report_checksum(name: str, report: bytes) -> int:
    """The CRC-32 of a shard's name and its report, which detects a shard that was copied over another."""
    return zlib.crc32(report, zlib.crc32(name.encode()))


def checksum(path: Path, length: int) -> int:
    """The CRC-32 of the first `length` bytes of a file."""
    crc = 0
    with open(path, "rb") as file:
        while length > 0 and (block := file.read(min(length, 1 << 20))):
            crc, length = zlib.crc32(block, crc), length - len(block)
    return crc


def described(rows: pd.DataFrame, csv: Path) -> bool:
    """Whether a shard's report `csv`, if it exists, has the `rows` of a store's report."""
    if not csv.exists():
        return True
    columns, theirs = list({"video_id", "frames", "state"} & set(rows)), read_report(csv)
    return set(columns) <= set(theirs) and len(rows[columns].merge(theirs[columns])) == len(rows)


@lru_cache(OPEN)
def open_shard(path: Path) -> lmdb.Environment:
    """A shard, open for reading. Raises UserError if it is damaged, OSError if the machine cannot read it."""
    try:
        shard = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        if error.code > 0 and error.code not in (errno.EINVAL, errno.EBADF):  # an error of the operating system
            raise OSError(error.code, os.strerror(error.code), str(path)) from None
        raise unusable(path, f"it is not a shard ({first_line(error)})") from None
    # Reading mapped memory beyond the end of the file would raise SIGBUS.
    if (size := path.stat().st_size) < (whole := (shard.info()["last_pgno"] + 1) * shard.stat()["psize"]):
        raise unusable(path, f"it is cut short: {size:,} of {whole:,} bytes")
    return shard


# After a fork, a child could not open an open shard again. So all are closed before.
os.register_at_fork(before=open_shard.cache_clear)
