"""Draw a picture of what the models of cells do: `tokens` kept, `queries` and answers, or `flips` of answers."""

import argparse
import importlib
from pathlib import Path

from centerclip.command import natural, positive
from centerclip.gpus import claim
from centerclip.report import pictures
from centerclip.settings.cell import read_cell


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", choices=pictures.PICTURES)
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="results of one benchmark's cells")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--gpus", type=natural, default=0, help="GPUs for this job alone (default: 0, share GPUs)")
    parser.add_argument("--out", required=True, type=Path, help="the file to write; the suffix is the format")


def job(arguments: argparse.Namespace) -> None:
    claim(arguments.gpus)
    import torch

    from centerclip.report import figures

    figures.check_path(arguments.out)
    torch.set_num_threads(arguments.threads)
    picture = importlib.import_module(pictures.module(arguments.picture))
    figures.save(picture.draw(list(map(read_cell, arguments.cells))), arguments.out, bbox_inches="tight")
