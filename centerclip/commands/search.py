"""Search a folder of videos by a sentence."""

import argparse
from pathlib import Path

from centerclip.command import UserError, positive
from centerclip.search import models
from centerclip.video.watch import STALL_SECONDS


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of videos; folders in it count too")
    parser.add_argument("sentence")
    parser.add_argument("--top", type=positive, default=5, help="how many videos to print (default: 5)")
    parser.add_argument(
        "--stall-seconds",
        type=float,
        default=STALL_SECONDS,
        help=f"end a video that gives no frame for so long (default: {STALL_SECONDS})",
    )
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    from centerclip.search import index

    cells = models.chosen(arguments)
    if len(cells) > 1:
        raise UserError("search takes one --cell")
    index.search(arguments.folder, arguments.sentence, cells[0], arguments.top, arguments.stall_seconds)
