"""Whether the stages of a model fit its encoder."""

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

from centerclip.method import reduction
from centerclip.method.errors import Misfit
from centerclip.method.stage import Model, Stage

COCA = "it is a CoCa: it pools patches by attention, and a plain CLIP is needed"


@dataclass(frozen=True)
class Geometry:
    """What a reduction stage must fit: image side in pixels, patch tokens a frame and their width, blocks, how the last
    block's tokens are pooled ("tok": the [CLASS] token goes on, "avg": the patches' mean, "map": an attention pool's
    answer), longest text in tokens, [CLASS] tokens a frame."""

    image_size: int
    patches: int
    width: int
    blocks: int
    pooling: str
    context: int
    classes: int = 1

    @property
    def patch_size(self) -> int:
        """The side of a patch in pixels."""
        return self.image_size // isqrt(self.patches)


def check_stages(model: Model, frames: int, geometry: Geometry) -> None:
    """Raise Misfit where the stages of a model do not fit its backbone, of this geometry, each other, or videos of so
    many frames."""
    stages = model.stages
    counts = TokenCounts(frames, geometry.patches, geometry.classes)
    last = (-1, False)
    for number, stage in sorted(enumerate(stages), key=lambda item: item[1].place):
        key = ["stages", number]
        check_algorithm(stage, key)
        if not (last < stage.place and 0 <= stage.block < geometry.blocks):
            problem = f"block {stage.block}: stages need different blocks from 0 to {geometry.blocks - 1}"
            raise Misfit(f"{problem}: {model.backbone} has {geometry.blocks} blocks", [*key, "block"], ["backbone"])
        if stage.sees == "keys" and not stage.inside:
            raise Misfit("sees keys: only a stage inside a block does", [*key, "sees"])
        if stage.scored and not stage.inside:
            asks = "keep attention" if stage.keep == "attention" else stage.algorithm
            raise Misfit(f"{asks}: only a stage inside a block has [CLASS]'s attention", [*key, "inside"], key)
        if stage.scored and not geometry.classes:
            raise Misfit(
                f"{stage.algorithm}: {model.backbone} has no [CLASS], whose attention it needs", ["backbone"], key
            )
        if model.shift and stage.inside:
            raise Misfit(f"shift {model.shift} runs whole blocks: no stage is inside one", ["shift"], [*key, "inside"])
        if reduction.sees_pixels(stage.algorithm):
            check_pixels(model, stage, geometry, key)
        else:
            counts = tokens_after(stage, counts, key)
        last = stage.place
    if model.vectors == "medoids" and not any(not reduction.sees_pixels(stage.algorithm) for stage in stages):
        raise Misfit("vectors medoids: needs a stage that keeps as many tokens of every segment", ["vectors"])
    if counts.classes > 1 and geometry.pooling != "tok":
        raise Misfit(f"classes all: {model.backbone} does not pool [CLASS] alone", ["backbone"])


class TokenCounts(NamedTuple):
    """A video inside the encoder: its sequences, and the patches and [CLASS] tokens of each."""

    sequences: int
    patches: int
    classes: int


def tokens_after(stage: Stage, given: TokenCounts, key: list) -> TokenCounts:
    """Token counts of a video after the stage at `key`, from those `given` before it. Raises Misfit."""
    segments = given.sequences if stage.segments is None else stage.segments
    if segments < 1 or (stage.clusters is not None and stage.clusters < 1):
        problem = f"segments {segments}, clusters {stage.clusters}: neither may be less than 1"
        raise Misfit(problem, [*key, "segments"], [*key, "clusters"])
    if given.sequences % segments:
        problem = f"segments {segments} does not divide the {given.sequences} frames (or earlier segments)"
        raise Misfit(problem, [*key, "segments"], ["frames"])
    if (stage.clusters is None) == (stage.remove is None):
        raise Misfit("a stage has either clusters or remove", [*key, "clusters"], [*key, "remove"])
    if stage.embedding and stage.clusters is None:
        raise Misfit("embedding needs `clusters`, but this stage sets `remove`", [*key, "embedding"])
    if reduction.keeps(stage.algorithm) == reduction.PATCHES and stage.clusters != given.patches:
        problem = f"{stage.algorithm} keeps every patch: clusters must be {given.patches}, not {stage.clusters}"
        raise Misfit(problem, [*key, "clusters"], [*key, "algorithm"], ["backbone"])
    joined = given.sequences // segments
    if stage.classes == "mean" and joined > 1 and given.classes > 1:
        raise Misfit("classes mean: of several [CLASS] tokens a segment, all have to go on", [*key, "classes"])
    if stage.clip_embedding not in (0, given.sequences):
        problem = f"clip_embedding {stage.clip_embedding}: the stage is given {given.sequences} frames or segments"
        raise Misfit(problem, [*key, "clip_embedding"])
    patches, classes = joined * given.patches, given.classes * (joined if stage.classes == "all" else 1)
    kept = stage.kept(patches, classes)
    if kept > patches:
        problem = f"clusters {kept} is more than the {patches} tokens of a segment"
        raise Misfit(problem, [*key, "clusters"], [*key, "segments"], ["frames"], ["backbone"])
    if reduction.keeps(stage.algorithm) == reduction.HALF and kept < patches - patches // 2:
        problem = f"{stage.algorithm} removes half of the {patches} tokens of a segment at most: {kept} is too few"
        raise Misfit(problem, [*key, "clusters"], [*key, "segments"], ["frames"], ["backbone"])
    return TokenCounts(segments, kept, classes)


def check_pixels(model: Model, stage: Stage, geometry: Geometry, key: list) -> None:
    """Raise Misfit where the stage at `key`, which is given the frames and not the tokens, cannot be."""
    if geometry.pooling != "tok":
        problem = f"{stage.algorithm}: {model.backbone} pools patches, of which a frame may have none left"
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
