"""Whether the settings of a cell fit each other."""

from centerclip.cell import Cell, Stage
from centerclip.command import UserError
from centerclip.model import backbones, reduction


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
    groups, tokens, last = cell.data.frames, geometry.patches, -1
    for number, stage in sorted(enumerate(cell.model.stages), key=lambda item: item[1].block):
        key = ["stages", number]
        check_algorithm(stage, key)
        if not last < stage.block < geometry.blocks:
            problem = f"block {stage.block}: stages need different blocks from 0 to {geometry.blocks - 1}"
            raise Misfit(problem, [*key, "block"], ["backbone"])
        if min(stage.segments, stage.clusters) < 1:
            problem = f"segments {stage.segments}, clusters {stage.clusters}: neither may be less than 1"
            raise Misfit(problem, [*key, "segments"], [*key, "clusters"])
        if groups % stage.segments:
            problem = f"segments {stage.segments} does not divide the {groups} frames (or earlier segments)"
            raise Misfit(problem, [*key, "segments"], ["frames"])
        if stage.algorithm == "pooling" and stage.clusters != tokens:
            problem = f"pooling keeps every patch: clusters must be {tokens}, not {stage.clusters}"
            raise Misfit(problem, [*key, "clusters"], [*key, "algorithm"], ["backbone"])
        tokens *= groups // stage.segments
        if stage.clusters > tokens:
            problem = f"clusters {stage.clusters} is more than the {tokens} tokens of a segment"
            raise Misfit(problem, [*key, "clusters"], [*key, "segments"], ["frames"], ["backbone"])
        groups, tokens, last = stage.segments, stage.clusters, stage.block


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
