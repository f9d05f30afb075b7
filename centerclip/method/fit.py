"""Whether the stages of a model fit its encoder."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import isqrt
from typing import NamedTuple

from centerclip.method import reduction
from centerclip.method.errors import Misfit
from centerclip.method.stage import KEPT, Model, Stage

COCA = "it is a CoCa: it pools patches by attention, and a plain CLIP is needed"
Problems = Iterator[tuple[str, ...]]  # each: what does not fit, then the keys to blame, the likeliest first
OF_MODELS = ("backbone", "frames", "shift")  # keys that are a model's; others are a stage's, or "stage" itself


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


class TokenCounts(NamedTuple):
    """A video inside the encoder: its sequences, and the patches and [CLASS] tokens of each."""

    sequences: int
    patches: int
    classes: int


def check_stages(model: Model, frames: int, geometry: Geometry) -> None:
    """Raise Misfit where the stages of a model do not fit its backbone, of this geometry, each other, or videos of so
    many frames."""
    counts, last = TokenCounts(frames, geometry.patches, geometry.classes), (-1, False)
    for number, stage in sorted(enumerate(model.stages), key=lambda item: item[1].place):
        pixels = reduction.sees_pixels(stage.algorithm)
        inner = problems_of_pixels(stage, model, geometry) if pixels else problems_of_counts(stage, counts)
        for problem, *keys in chain(problems_of_place(stage, last, model, geometry), inner):
            raise Misfit(problem, *(place(key, number) for key in keys))
        counts, last = counts if pixels else tokens_after(stage, counts), stage.place
    if model.vectors == "medoids" and all(reduction.sees_pixels(stage.algorithm) for stage in model.stages):
        raise Misfit("vectors medoids: needs a stage that keeps tokens, equally many of each segment", ["vectors"])
    if counts.classes > 1 and geometry.pooling != "tok":
        raise Misfit(f"classes all: {model.backbone} does not pool [CLASS] alone", ["backbone"])


def place(key: str, stage: int) -> list:
    """Where a key of the model or of a stage, by its number, is in the config."""
    if key in OF_MODELS:
        return [key]
    return ["stages", stage, *([] if key == "stage" else key.split("."))]


def tokens_after(stage: Stage, given: TokenCounts) -> TokenCounts:
    """Token counts of a video after a stage that fits those `given` before it."""
    segments = given.sequences if stage.segments is None else stage.segments
    joined = given.sequences // segments
    classes = given.classes * (joined if stage.classes == "all" else 1)
    return TokenCounts(segments, stage.kept(joined * given.patches, classes), classes)


def problems_of_place(stage: Stage, last: tuple[int, bool], model: Model, geometry: Geometry) -> Problems:
    """What is wrong with a stage's algorithm, its options, and where it acts: behind the place of the `last` stage."""
    name = stage.algorithm
    if name not in reduction.names():
        yield f"algorithm {name!r} is not one of {', '.join(reduction.names())}", "algorithm"
    reduction.kind(name)
    for option in stage.options:
        if option not in (known := reduction.options(name)):
            yield f"{name} has no option {option!r}; it has {', '.join(known)}", f"options.{option}"
    if not (last < stage.place and 0 <= stage.block < geometry.blocks):
        needed = f"stages need different blocks from 0 to {geometry.blocks - 1}"
        yield f"block {stage.block}: {needed}: {model.backbone} has {geometry.blocks} blocks", "block", "backbone"
    if stage.sees == "keys" and not stage.inside:
        yield "sees keys: only a stage inside a block does", "sees"
    if stage.scored and not stage.inside:
        asks = "keep attention" if stage.keep == "attention" else name
        yield f"{asks}: only a stage inside a block has [CLASS]'s attention", "inside", "stage"
    if stage.scored and not geometry.classes:
        yield f"{name}: {model.backbone} has no [CLASS], whose attention it needs", "backbone", "stage"
    if model.shift and stage.inside:
        yield f"shift {model.shift} runs whole blocks: no stage is inside one", "shift", "inside"


def problems_of_counts(stage: Stage, given: TokenCounts) -> Problems:
    """What is wrong with a stage's numbers for the token counts `given` before it."""
    keeps, clusters = reduction.keeps(stage.algorithm), stage.clusters
    segments = given.sequences if stage.segments is None else stage.segments
    if segments < 1 or (clusters is not None and clusters < 1):
        yield f"segments {segments}, clusters {clusters}: neither may be less than 1", "segments", "clusters"
    if given.sequences % segments:
        problem = f"segments {segments} does not divide the {given.sequences} frames (or earlier segments)"
        yield problem, "segments", "frames"
    if (clusters is None) == (stage.remove is None):
        yield "a stage has either clusters or remove", "clusters", "remove"
    if stage.keep not in KEPT:
        yield f"keep {stage.keep!r} is not one of {', '.join(KEPT)}", "keep"
    if stage.remove is not None and (stage.remove < 0 or (isinstance(stage.remove, float) and stage.remove >= 1)):
        yield f"remove {stage.remove} is neither a number of tokens from 0 nor a share below 1", "remove"
    if stage.embedding and clusters is None:
        yield "embedding needs `clusters`, but this stage sets `remove`", "embedding"
    if keeps == reduction.PATCHES and clusters != given.patches:
        problem = f"{stage.algorithm} keeps every patch: clusters must be {given.patches}, not {clusters}"
        yield problem, "clusters", "algorithm", "backbone"
    joined = given.sequences // segments
    if stage.classes == "mean" and joined > 1 and given.classes > 1:
        yield "classes mean: the stage is given several [CLASS] tokens a segment, which need classes all", "classes"
    if stage.clip_embedding not in (0, given.sequences):
        problem = f"clip_embedding {stage.clip_embedding}: the stage is given {given.sequences} frames or segments"
        yield problem, "clip_embedding"
    patches, kept = joined * given.patches, tokens_after(stage, given).patches
    numbers = "clusters", "segments", "frames", "backbone"
    if kept > patches:
        yield f"clusters {kept} is more than the {patches} tokens of a segment", *numbers
    if keeps == reduction.HALF and kept < patches - patches // 2:
        most = f"removes half of the {patches} tokens of a segment at most"
        yield f"{stage.algorithm} {most}: {kept} is too few", *numbers


def problems_of_pixels(stage: Stage, model: Model, geometry: Geometry) -> Problems:
    """What is wrong with a stage that is given frames in place of tokens."""
    name = stage.algorithm
    if geometry.pooling != "tok":
        yield f"{name}: {model.backbone} pools patches, but a frame may keep none", "algorithm", "backbone"
    if len(model.stages) > 1 or model.shift or model.proportional:
        yield f"{name} goes with no other stage, shift or proportional attention", "algorithm"
    if stage != Stage(name, block=0, padded=stage.padded, options=stage.options):
        yield f"{name} is given pixels: at block 0, and without other keys than options", "block"
