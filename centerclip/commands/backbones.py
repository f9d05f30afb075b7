"""List open_clip's models: sizes of the backbones and the weights that work in them, or why a model does not work."""

import argparse
from dataclasses import asdict, fields

from centerclip import backbones
from centerclip.backbones import pretrained


def options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Weights are tags of open_clip's, for `weights` in the config; hf-hub:ORG/NAME and files work too. "
        "A model with `hub` needs `pip install 'centerclip[transformers]'`."
    )


def job(_: argparse.Namespace) -> None:
    sizes = [field.name for field in fields(backbones.Geometry)]
    rows = [["backbone", "works", *sizes, "activation", "weights"]]
    for name in backbones.names():
        weights = [tag for tag, trained in pretrained.tags(name).items() if not pretrained.fault(name, trained)]
        geometry = asdict(backbones.geometry(name)).values()
        works = "hub" if backbones.needs_transformers(name) else "yes"
        rows.append([name, works, *map(str, geometry), backbones.activation(name), " ".join(weights)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name, reason in backbones.refused().items():
        print(f"{name.ljust(widths[0])}  no: {reason}")
