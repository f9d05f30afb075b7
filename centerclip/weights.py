"""OpenAI's published weights of a backbone -> safetensors in open_clip's layout."""

import argparse
from pathlib import Path

from safetensors.torch import save_file

from centerclip import backbones, sources
from centerclip.model import CenterCLIP, load_weights
from centerclip.stage import atomic, run


def convert(archive: Path, backbone: str, out: Path) -> None:
    """Write the state dict of `CenterCLIP(backbone)` that `archive`, a TorchScript file of OpenAI's, holds.

    Raises:
        UserError: the archive is not one, or is another model's.
    """
    model = CenterCLIP(backbone)
    load_weights(model, backbone, archive)
    with atomic(out) as temporary:
        save_file(model.state_dict(), temporary)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.weights", description=__doc__)
    parser.add_argument("--backbone", required=True, choices=list(backbones.OPEN_CLIP_NAMES))
    parser.add_argument("--downloads", required=True, type=Path, help="directory to keep the downloaded archive in")
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        archive = sources.obtain(sources.read_table()["clip"], f"{arguments.backbone}.pt", {}, arguments.downloads)
        convert(archive, arguments.backbone, arguments.out)

    run(parser, job)


if __name__ == "__main__":
    main()
