"""Check that no more than a share of a benchmark's videos gave no frame, and list those that gave none."""

import argparse
from pathlib import Path

from centerclip.command import atomic
from centerclip.datasets.manifest import read_manifest
from centerclip.video.frames import read_report
from centerclip.video.shards import unreadable


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--frames", required=True, type=Path, help="the report of the stored frames")
    parser.add_argument("--max-unreadable-share", required=True, type=float)
    parser.add_argument("--out", required=True, type=Path, help="the list, as text")


def job(arguments: argparse.Namespace) -> None:
    video_ids = set(read_manifest(arguments.manifest)["video_id"])
    lines = unreadable(read_report(arguments.frames), video_ids, arguments.max_unreadable_share)
    with atomic(arguments.out) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
