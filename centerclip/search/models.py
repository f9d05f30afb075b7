"""Choose models on the command line: cells, or weights of a backbone. Nothing heavy is imported."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from centerclip import backbones
from centerclip.backbones.pretrained import images
from centerclip.command import UserError, positive
from centerclip.method.stage import Model, Stage
from centerclip.settings.cell import Cell, Costs, Data, read_cell

WEIGHTS = "openai, another tag of open_clip's, hf-hub:ORG/NAME, a local file, or null for random weights"


def cell_of_weights(
    backbone: str = "ViT-B-32",
    weights: str | None = "openai",
    frames: int = 12,
    stages: Sequence[Stage] = (),
    vectors: str = "mean",
) -> Cell:
    """A model outside the workflow as a cell. Its `weights` are published ones, a file, or None for random ones."""
    geometry = backbones.geometry(backbone)
    return Cell(
        benchmark="",
        dataset="",
        variant="the model",
        seed=0,
        name="the model",
        model=Model(backbone, weights, tuple(stages), vectors=vectors),
        data=Data(frames, geometry.context, geometry.image_size, images(backbone, weights)),
        training=None,
        costs=Costs(batch_size=1),
    )


def options(parser: argparse.ArgumentParser, stage: str | None = None) -> None:
    """Add the options that choose models. `stage` is the command's default stage, for the help text."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--cell", type=Path, action="append", help="a trained model: its results/*.json")
    weights = f"or weights: {WEIGHTS} (default: openai)"
    model.add_argument("--weights", default="openai", type=named, help=weights)
    parser.add_argument("--backbone", type=backbones.named, help="with --weights: the architecture (default: ViT-B-32)")
    parser.add_argument("--frames", type=positive, help="frames of a video, evenly spread (default: the cell's, or 12)")
    several = "with --weights: the vectors of a video; the most similar counts (default: mean, one)"
    parser.add_argument("--vectors", choices=["mean", "segments", "medoids"], help=several)
    names = ("BLOCK", "SEGMENTS", "CLUSTERS")
    text = "with --weights: blocks before the stage, segments, kept tokens of a segment (default: %s)"
    parser.add_argument("--stage", type=int, nargs=3, metavar=names, help=text % (stage or "no stage; by k-medoids++"))


def named(weights: str) -> str | None:
    """Parse weights on a command line for argparse; null is None, as in the config."""
    return None if weights == "null" else weights


def chosen(arguments: argparse.Namespace, algorithms: Sequence[str] = ("kmedoids",)) -> list[Cell]:
    """The chosen models: each cell or, without cells, the weights with the chosen stage, for each algorithm."""
    if not arguments.cell:
        stages = [[Stage(name, *arguments.stage)] if arguments.stage else [] for name in algorithms]
        given = arguments.backbone or "ViT-B-32", arguments.weights, arguments.frames or 12
        return [cell_of_weights(*given, part, arguments.vectors or "mean") for part in stages]
    if arguments.backbone or arguments.stage or arguments.vectors:
        raise UserError("--backbone, --stage and --vectors go with --weights; a cell has its own")
    cells = [read_cell(path) for path in arguments.cell]
    return [replace(cell, data=replace(cell.data, frames=arguments.frames or cell.data.frames)) for cell in cells]


def in_fast_precision(cell: Cell) -> Cell:
    """`cell` in bfloat16 if the device has matrix units for it: several times as fast; cosines change by 1e-5."""
    from centerclip.backbones.device import multiplies_bfloat16, pick_device

    return replace(cell, precision="bfloat16") if multiplies_bfloat16(pick_device()) else cell


def single(arguments: argparse.Namespace) -> Cell:
    """The chosen model, for commands with one model."""
    if len(cells := chosen(arguments)) > 1:
        raise UserError("this command takes one --cell")
    return cells[0]
