"""Stored frames, read one by one.

A shard, such as `0002.lmdb`, is a file that holds the i-th frame of a video as a JPEG, or a PNG, under the key
`{video_id}/{i:06d}`. The report of a store is a csv with a row for each video: how many frames it has, in which shard.
"""

import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from centerclip.command import UserError, first_line


def key(video_id: str, index: int) -> bytes:
    """The key of a frame in its shard."""
    return f"{video_id}/{index:06d}".encode()


def read_report(path: str | Path) -> pd.DataFrame:
    """The report of a shard or a store, a row a video. Raises UserError for another file."""
    try:
        rows = pd.read_csv(path, dtype={"video_id": str, "frames": int, "state": str}, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{path}: not a report of stored frames: {first_line(error)}") from None
    if not {"video_id", "frames"} <= set(rows):
        raise UserError(f"{path}: not a report of stored frames: it has {', '.join(rows)}")
    return rows


class FrameStore:
    """The stored frames of a report, in any order; each process opens the shards by itself.

    `counts` has the number of frames of every video that gave any. Raises UserError for a shard that is not there.
    """

    def __init__(self, report: str | Path):
        rows = read_report(report)
        rows = rows[rows["frames"] > 0]
        self.counts: dict[str, int] = dict(zip(rows["video_id"], rows["frames"].tolist(), strict=True))
        shards = {shard: (Path(report).parent / shard).resolve() for shard in rows["shard"].unique()}
        self.shards: dict[str, Path] = dict(zip(rows["video_id"], rows["shard"].map(shards), strict=True))
        for path in shards.values():  # Opened here, an error is one line; the process of a loader would add others.
            open_shard(path)

    def read(self, video_id: str, indices: Sequence[int]) -> np.ndarray:
        """Frames uint8 [k, 3, size, size] of a video. Raises KeyError for a frame that is not stored."""
        with open_shard(self.shards[video_id]).begin(buffers=True) as transaction:
            stored = [transaction.get(key(video_id, index)) for index in indices]
            if None in stored:
                raise KeyError(f"{video_id} has {self.counts[video_id]} frames, not all of {list(indices)}")
            return np.stack([picture(data) for data in stored]).transpose(0, 3, 1, 2)


def picture(data: memoryview) -> np.ndarray:
    """A stored frame uint8 [size, size, 3]."""
    if simplejpeg.is_jpeg(data):
        return simplejpeg.decode_jpeg(data)
    return np.asarray(Image.open(io.BytesIO(data)))


@cache
def open_shard(path: Path) -> lmdb.Environment:
    """A shard, open for reading. Raises UserError if it cannot be read."""
    try:
        return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: stored frames cannot be read ({error}); delete its .csv to make them anew") from None


# LMDB does not survive a fork, after which the child could not open the file again. So all are closed before one.
os.register_at_fork(before=open_shard.cache_clear)
