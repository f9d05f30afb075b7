"""Draw which patches of a video clustering keeps."""

import argparse
from pathlib import Path

from centerclip.search import models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="the picture to write: .png, .svg or .pdf")
    models.options(parser, stage="6 4 49")


def job(arguments: argparse.Namespace) -> None:
    from centerclip.report import figures
    from centerclip.report.pictures import tokens

    figures.check_path(arguments.out)
    if not arguments.cell:
        arguments.stage = arguments.stage or (6, 4, 49)
    cells = models.chosen(arguments, ["kmedoids", "spectral"])
    figures.save(tokens.draw_file(arguments.video, cells), arguments.out, bbox_inches="tight")
