"""Download published weights of a backbone, and convert them to safetensors."""

import argparse
from pathlib import Path

from centerclip import backbones
from centerclip.backbones import pretrained
from centerclip.command import writable
from centerclip.method.stage import Model
from centerclip.search import models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", required=True, type=backbones.named)
    parser.add_argument("--weights", required=True, type=models.named, help=models.WEIGHTS)
    parser.add_argument("--downloads", required=True, type=Path, help="directory for the downloads of sources.csv")
    parser.add_argument("--out", required=True, type=Path, help="the weights to write, .safetensors")


def job(arguments: argparse.Namespace) -> None:
    writable(arguments.out)
    from centerclip.backbones.clip import build
    from centerclip.backbones.weights import save_weights
    from centerclip.data.download import sources

    weights = arguments.weights
    if weights == pretrained.OPENAI and arguments.backbone in pretrained.SOURCED:
        weights = sources.obtain(sources.files_of("clip"), f"{arguments.backbone}.pt", {}, arguments.downloads)
    model = build(Model(arguments.backbone, weights), seed=0)
    save_weights(model.state_dict(), arguments.backbone, arguments.out)
