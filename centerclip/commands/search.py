"""Search a folder of videos by a sentence."""

import argparse
from pathlib import Path

from centerclip.command import UserError, positive
from centerclip.search import models
from centerclip.video.watch import add_stall_seconds


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of videos; folders in it count too")
    parser.add_argument("sentence")
    parser.add_argument("--top", type=positive, default=5, help="how many videos to print (default: 5)")
    add_stall_seconds(parser)
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    from centerclip.search import index

    cells = models.chosen(arguments)
    if len(cells) > 1:
        raise UserError("search takes one --cell")
    index.search(arguments.folder, arguments.sentence, cells[0], arguments.top, arguments.stall_seconds)
