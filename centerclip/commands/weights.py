"""Download weights of CLIP that OpenAI published, and convert them to safetensors."""

import argparse
from pathlib import Path

from centerclip.model import backbones


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", required=True, choices=backbones.OPENAI)
    parser.add_argument("--downloads", required=True, type=Path, help="directory to keep the downloaded archive in")
    parser.add_argument("--out", required=True, type=Path, help="the weights to write, .safetensors")


def job(arguments: argparse.Namespace) -> None:
    from centerclip.download import sources
    from centerclip.model.weights import convert

    archive = sources.obtain(sources.read_table()["clip"], f"{arguments.backbone}.pt", {}, arguments.downloads)
    convert(archive, arguments.backbone, arguments.out)
