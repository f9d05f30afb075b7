"""List the backbones, their sizes and the published weights that work in them."""

import argparse
from dataclasses import asdict

from centerclip import backbones
from centerclip.backbones import pretrained


def options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Weights are open_clip's tags, for `weights` in the config; hf-hub:ORG/NAME and files work too."


def job(_: argparse.Namespace) -> None:
    from tabulate import tabulate

    rows = []
    for name in backbones.names():
        weights = [tag for tag, trained in pretrained.tags(name).items() if not pretrained.fault(name, trained)]
        more = {"activation": backbones.activation(name), "weights": " ".join(weights)}
        rows.append({"backbone": name} | asdict(backbones.geometry(name)) | more)
    print(tabulate(rows, headers="keys", tablefmt="plain", numalign="left"))
