"""List the backbones, their sizes and the published weights that work in them."""

import argparse
from dataclasses import asdict, fields

from centerclip import backbones
from centerclip.backbones import pretrained


def options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Weights are tags of open_clip's, for `weights` in the config; hf-hub:ORG/NAME and files work too."


def job(_: argparse.Namespace) -> None:
    sizes = [field.name for field in fields(backbones.Geometry)]
    rows = [["backbone", *sizes, "activation", "weights"]]
    for name in backbones.names():
        weights = [tag for tag, trained in pretrained.tags(name).items() if not pretrained.fault(name, trained)]
        geometry = asdict(backbones.geometry(name)).values()
        rows.append([name, *map(str, geometry), backbones.activation(name), " ".join(weights)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
