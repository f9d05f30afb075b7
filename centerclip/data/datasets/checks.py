"""Checks a benchmark before heavy work: its counts, video files and stored frames. Heavy imports are late."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip.command import UserError, located, read_json, tell
from centerclip.data.datasets import SPLITS
from centerclip.settings import layout
from centerclip.settings.cell import Cell

if TYPE_CHECKING:
    import pandas as pd


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that `check_benchmark` reads. Without them, everything passes."""
    counts = "numbers that must agree, such as train.videos=9000"
    parser.add_argument("--expect", nargs="*", default=[], type=count, metavar="SPLIT.WHAT=N", help=counts)
    share = "largest share of videos without frames (default: 1)"
    parser.add_argument("--max-unreadable-share", default=1.0, type=float, help=share)
    parser.add_argument("--partial", action="store_true", help="do not count missing videos in that share")


def limits(block: dict) -> str:
    """The options of `add_limits` for a benchmark's block of the config."""
    counts = (block.get("counts") or {}).items()
    expected = [f"{split}.{what}={number}" for split, numbers in counts for what, number in numbers.items()]
    partial = ["--partial"] * block.get("partial", False)
    return shlex.join([*partial, "--max-unreadable-share", str(block["max_unreadable_share"]), "--expect", *expected])


def count(text: str) -> tuple[str, int]:
    """An expected count of a command line, such as train.videos=9000."""
    key, _, number = text.partition("=")
    if key.partition(".")[0] not in SPLITS or key.partition(".")[2] not in ("videos", "captions"):
        raise argparse.ArgumentTypeError(f"{text!r} is not like train.videos=9000 or test.captions=1000")
    return key, int(number)


def check_benchmark(cell: Cell, arguments: argparse.Namespace) -> None:
    """Raise UserError if the benchmark of `cell` has other counts than `arguments`, or a larger share of videos of the
    cell's splits lacks frames; with `partial`, missing videos do not count. Prints the videos without frames."""
    from centerclip.data.datasets.manifest import check_counts
    from centerclip.data.datasets.readers import manifest_of
    from centerclip.data.video.frames import read_report
    from centerclip.data.video.reading import MISSING
    from centerclip.data.video.shards import unreadable

    manifest, report = manifest_of(cell), read_report(cell.path(layout.FRAMES))
    check_counts(manifest, dict(arguments.expect), cell.benchmark)
    needed = set(manifest.loc[manifest["split"].isin(cell.splits), "video_id"])
    if arguments.partial:
        needed -= set(report.loc[report["reason"] == MISSING, "video_id"])
    print(*unreadable(report, needed, arguments.max_unreadable_share), sep="\n", flush=True)


def check_files(manifest: pd.DataFrame, splits: Collection[str], share: float, name: str) -> None:
    """Raise UserError if more than the `share` of the videos of `splits` of benchmark `name` are missing, or all. Tell
    how many of each split exist if some are missing."""
    clips = manifest[manifest["split"].isin(splits)].drop_duplicates("video_id")
    exists = clips["path"].map(os.path.isfile)
    if exists.all():
        return
    found = exists.groupby(clips["split"], sort=False).agg(["sum", "size"])
    counts = ", ".join(f"{split} {here:,} of {wanted:,}" for split, here, wanted in found.itertuples())
    first = Path(clips.loc[~exists, "path"].iloc[0])
    where = f"first missing: {first.name!r}, looked in {located(first.parent)}"
    line = f"benchmark {name}: {exists.sum():,} of {len(exists):,} videos are there ({counts}), {where}"
    if not exists.any():
        raise UserError(line)
    if (~exists).sum() > share * len(exists):
        raise UserError(f"{line}; max_unreadable_share allows {share:.1%} to miss, partial: true any number")
    tell(line)


def needed_splits(path: Path | None) -> list[str]:
    """The splits whose frames are stored, from a SPLITS file; all splits without one."""
    return read_json(path)["splits"] if path else list(SPLITS)
