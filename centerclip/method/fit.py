"""Whether the settings of a cell fit each other."""

from typing import NamedTuple

from centerclip import backbones
from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.method.fit import Geometry
from centerclip.method.stage import Model, Stage
from centerclip.settings.cell import Cell
from centerclip.settings.schema import option_problem


class Misfit(UserError):
    """Settings of a cell that do not fit each other: `keys` are theirs, the one most likely wrong first."""

    def __init__(self, problem: str, *keys: list):
        super().__init__(problem)
        self.keys = keys


def check_cell(cell: Cell) -> None:
    """Raise Misfit where a cell's settings do not fit each other: text, GPUs, algorithms, segments, clusters."""
    geometry = backbones.geometry(cell.model.backbone)
    if cell.data.text_tokens > geometry.context:
        problem = f"text_tokens {cell.data.text_tokens} is more than {cell.model.backbone} reads ({geometry.context})"
        raise Misfit(problem, ["text_tokens"], ["backbone"])
    if cell.training and cell.training.batch_size % cell.runtime.gpus:
        batch_size = cell.training.batch_size
        problem = f"training.gpus {cell.runtime.gpus} does not divide training.batch_size {batch_size}"
        raise Misfit(problem, ["training", "gpus"], ["training", "batch_size"])
    if cell.data.frames < 1:
        raise Misfit(f"frames {cell.data.frames}: a video has at least 1", ["frames"])
    check_stages(cell.model, cell.data.frames, geometry)


def check_stages(model: Model, frames: int, geometry: Geometry) -> None:
    """Raise Misfit where the stages of a model do not fit its backbone, of this geometry, each other, or videos of so
    many frames."""
    stages = model.stages
    held = Held(frames, geometry.patches, 1)
    last = (-1, False)
    for number, stage in sorted(enumerate(stages), key=lambda item: item[1].place):
        key = ["stages", number]
        check_algorithm(stage, key)
        if not (last < stage.place and 0 <= stage.block < geometry.blocks):
            problem = f"block {stage.block}: stages need different blocks from 0 to {geometry.blocks - 1}"
            raise Misfit(f"{problem}: {model.backbone} has {geometry.blocks} blocks", [*key, "block"], ["backbone"])
        if stage.sees == "keys" and not stage.inside:
            raise Misfit("sees keys: only a stage inside a block does", [*key, "sees"])
        if model.shift and stage.inside:
            raise Misfit(f"shift {model.shift} runs whole blocks: no stage is inside one", ["shift"], [*key, "inside"])
        if reduction.sees_pixels(stage.algorithm):
            check_pixels(model, stage, geometry, key)
        else:
            held = after(stage, held, key)
        last = stage.place
    if held.classes > 1 and geometry.pooling != "tok":
        raise Misfit(f"classes all: {model.backbone} has no use for [CLASS]", ["backbone"])


class Held(NamedTuple):
    """What a video is inside the encoder: so many sequences, of so many patches and [CLASS] tokens each."""

    sequences: int
    patches: int
    classes: int


def after(stage: Stage, held: Held, key: list) -> Held:
    """What is left of a video behind the stage at `key`. Raises Misfit if it cannot be done."""
    segments = held.sequences if stage.segments is None else stage.segments
    if segments < 1 or (stage.clusters is not None and stage.clusters < 1):
        problem = f"segments {segments}, clusters {stage.clusters}: neither may be less than 1"
        raise Misfit(problem, [*key, "segments"], [*key, "clusters"])
    if held.sequences % segments:
        problem = f"segments {segments} does not divide the {held.sequences} frames (or earlier segments)"
        raise Misfit(problem, [*key, "segments"], ["frames"])
    if (stage.clusters is None) == (stage.remove is None):
        raise Misfit("a stage has either clusters or remove", [*key, "clusters"], [*key, "remove"])
    if stage.embedding and stage.clusters is None:
        raise Misfit("embedding: is of clusters, which the stage does not have", [*key, "embedding"])
    if stage.algorithm == "pooling" and stage.clusters != held.patches:
        problem = f"pooling keeps every patch: clusters must be {held.patches}, not {stage.clusters}"
        raise Misfit(problem, [*key, "clusters"], [*key, "algorithm"], ["backbone"])
    joined = held.sequences // segments
    if stage.classes == "mean" and joined > 1 and held.classes > 1:
        raise Misfit("classes mean: of several [CLASS] tokens a segment, all have to go on", [*key, "classes"])
    if stage.clip_embedding not in (0, held.sequences):
        problem = f"clip_embedding {stage.clip_embedding}: the stage is given {held.sequences} frames or segments"
        raise Misfit(problem, [*key, "clip_embedding"])
    patches, classes = joined * held.patches, held.classes * (joined if stage.classes == "all" else 1)
    kept = stage.kept(patches, classes)
    if kept > patches:
        problem = f"clusters {kept} is more than the {patches} tokens of a segment"
        raise Misfit(problem, [*key, "clusters"], [*key, "segments"], ["frames"], ["backbone"])
    if stage.algorithm == "tome" and kept < patches - patches // 2:
        problem = f"tome removes half of the {patches} tokens of a segment at most: {kept} is too few"
        raise Misfit(problem, [*key, "clusters"], [*key, "segments"], ["frames"], ["backbone"])
    return Held(segments, kept, classes)


def check_pixels(model: Model, stage: Stage, geometry: Geometry, key: list) -> None:
    """Raise Misfit where the stage at `key`, which is given the frames and not the tokens, cannot be."""
    if geometry.pooling != "tok":
        problem = f"{stage.algorithm}: {model.backbone} is a mean over patches, of which a frame may have none left"
        raise Misfit(problem, [*key, "algorithm"], ["backbone"])
    if len(model.stages) > 1 or model.shift or model.proportional:
        raise Misfit(
            f"{stage.algorithm} goes with no other stage, shift or proportional attention", [*key, "algorithm"]
        )
    if stage != Stage(stage.algorithm, block=0, padded=stage.padded, options=stage.options):
        raise Misfit(
            f"{stage.algorithm} is given pixels: at block 0, and without other keys than options", [*key, "block"]
        )


def check_algorithm(stage: Stage, key: list) -> None:
    """Raise Misfit where the stage at `key` names an algorithm, or an option of it, that there is not."""
    if stage.algorithm not in reduction.names():
        problem = f"algorithm {stage.algorithm!r} is not one of {', '.join(reduction.names())}"
        raise Misfit(problem, [*key, "algorithm"])
    reduction.kind(stage.algorithm)
    options = reduction.options(stage.algorithm)
    if unknown := [option for option in stage.options if option not in options]:
        problem = f"{stage.algorithm} has no option {unknown[0]!r}; it has {', '.join(options)}"
        raise Misfit(problem, [*key, "options", unknown[0]])
    for option, value in stage.options.items():
        if wrong := option_problem(reduction.annotation(stage.algorithm, option), value):
            raise Misfit(wrong, [*key, "options", option])
