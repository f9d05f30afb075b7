"""Store the frames of the videos of one shard."""

import argparse
import re
from pathlib import Path

import pandas as pd

from centerclip.command import FAILED, UserError, above_zero, positive
from centerclip.data.datasets import source_block
from centerclip.data.datasets.checks import needed_splits
from centerclip.data.datasets.manifest import check_clips, in_shard, read_manifest, videos
from centerclip.data.datasets.readers import read
from centerclip.data.video.shards import write_shard
from centerclip.data.video.watch import add_stall_seconds


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shard", type=numbered, help="the shard to write; its name is its number, such as 0002.lmdb")
    parser.add_argument(
        "--manifests", nargs="*", default=[], type=Path, help="manifests of all benchmarks of these videos"
    )
    parser.add_argument("--sources", nargs="*", default=[], type=source_block, help="or `source` blocks, json")
    parser.add_argument("--splits", type=Path, help="the splits whose videos are stored (default: all), splits.json")
    parser.add_argument("--shards", required=True, type=positive, help="number of all shards")
    parser.add_argument("--fps", required=True, type=rate, help="frames stored a second of video, or `all`")
    parser.add_argument("--size", required=True, type=size, help="side in pixels, or squash-PIXELS, bilinear-PIXELS")
    add_stall_seconds(parser)


def job(arguments: argparse.Namespace) -> None:
    tables = [*map(read_manifest, arguments.manifests), *(read(block, None) for block in arguments.sources)]
    if int(arguments.shard.stem) >= arguments.shards:
        raise UserError(f"{arguments.shard}: the last of {arguments.shards} shards is {arguments.shards - 1:04d}.lmdb")
    if not tables:
        raise UserError("--manifests is missing: nothing says which videos there are")
    manifest = pd.concat(tables)
    check_clips(manifest, "the benchmarks that share these frames (`dataset` in the config)")
    clips = videos(manifest[manifest["split"].isin(needed_splits(arguments.splits))])
    clips = clips[in_shard(clips["path"], arguments.shards) == int(arguments.shard.stem)]
    failed = write_shard(clips, arguments.fps, arguments.size, arguments.shard, arguments.stall_seconds)
    if failed and arguments.log:  # The rule depends on this file: the next run makes the shard again.
        print(f"error: the machine failed to read {failed} videos: the next run tries them again")
        Path(f"{arguments.log}{FAILED}").touch()


def numbered(text: str) -> Path:
    """A command line's shard: a path whose name is a number."""
    if not re.fullmatch(r"\d+\.lmdb", Path(text).name, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not called by a number, such as 0002.lmdb")
    return Path(text)


def size(text: str) -> int | str:
    """A command line's size of stored frames, as in `extraction.squared`."""
    name, _, pixels = text.rpartition("-")
    if name not in ("", "squash", "bilinear", "squash-bilinear"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor squash-NUMBER, bilinear-NUMBER")
    return text if positive(pixels) and name else positive(pixels)


def rate(text: str) -> float | None:
    """A command line's frames a second; None for `all`."""
    return None if text == "all" else above_zero(text)
