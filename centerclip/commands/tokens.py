"""Draw which patches of a video go on after clustering."""

import argparse
from pathlib import Path

from centerclip.cell import Stage
from centerclip.search import models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="the picture: .png, .svg or .pdf")
    names = ("BLOCK", "SEGMENTS", "CLUSTERS")
    text = "with --weights: after how many blocks, into how many segments of how many kept tokens (default: 6 4 49)"
    parser.add_argument("--stage", type=int, nargs=3, metavar=names, help=text)
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    from centerclip.report import figures
    from centerclip.report.pictures import tokens

    stages = [Stage(algorithm, *(arguments.stage or (6, 4, 49))) for algorithm in ("kmedoids", "spectral")]
    cells = models.chosen(arguments, [[stage] for stage in stages])
    figures.save(tokens.draw_file(arguments.video, cells), arguments.out, bbox_inches="tight")
