"""List open_clip's models: sizes of the backbones and the weights that work in them, or why a model does not work."""

import argparse
from dataclasses import asdict

from centerclip import backbones
from centerclip.backbones import pretrained


def options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Weights are open_clip's tags, for `weights` in the config; hf-hub:ORG/NAME and files work too. "
        "A model with `hub` needs `pip install 'centerclip[transformers]'`."
    )


def job(_: argparse.Namespace) -> None:
    from tabulate import tabulate

    rows = []
    for name in backbones.names():
        weights = [tag for tag, trained in pretrained.tags(name).items() if not pretrained.fault(name, trained)]
        works = "hub" if backbones.needs_transformers(name) else "yes"
        more = {"activation": backbones.activation(name), "weights": " ".join(weights)}
        rows.append({"backbone": name, "works": works} | asdict(backbones.geometry(name)) | more)
    print(tabulate(rows, headers="keys", tablefmt="plain", numalign="left"))
    print(tabulate([[name, f"no: {reason}"] for name, reason in backbones.refused().items()], tablefmt="plain"))
