"""Methods that reduce tokens in many places, as the stages that they stand for. Nothing heavy is imported."""

import inspect
import math
from collections.abc import Callable, Sequence

from centerclip.method.errors import UserError
from centerclip.method.stage import Stage


def tome(blocks: int, frames: int, *, remove: int | Sequence[int] = 2) -> list[Stage]:
    """Token Merging (Bolya et al., ICLR 2023): in every block, between attention and MLP, `remove` tokens of each frame
    join those that they are most like, by the keys of the block's attention.

    A number a block or one for all; at most half of the patches there join. Written from the paper. Raises UserError
    for another count of numbers.
    """
    fewer = [remove] * blocks if isinstance(remove, int) else list(remove)
    if len(fewer) != blocks:
        raise UserError(f"remove: {len(fewer)} numbers for {blocks} blocks")
    return [merging(block, number) for block, number in enumerate(fewer) if number]


def tempme(
    blocks: int,
    frames: int,
    *,
    remove: int | Sequence[int] = 2,
    joins: Sequence[int] = (2, 2, 3),
    across: float = 0.3,
    within: float = 0.1,
) -> list[Stage]:
    """Temporal token merging (Shen et al., ICLR 2025): ToMe within frames, then neighbouring clips join step by step.

    The last block but as many as there are `joins` comes first: in front of it, and of those after it, so many clips
    as `joins` says become one sequence with the [CLASS] of all, of which the share `across` of its tokens merges by
    their likeness, after which a vector learned for each clip is added. In these blocks and in the last, the share
    `within` merges by keys. Blocks before them do as `tome`'s, of `remove`. Published for 12 frames: with 2 and
    ViT-B/32, with 10 and ViT-B/16. Written from the paper and from facts about its public code. Raises UserError as
    `tome`, and for joins that do not fit.
    """
    if frames % math.prod(joins) or len(joins) >= blocks:
        raise UserError(f"joins {list(joins)} do not go with {frames} frames and {blocks} blocks")
    first, stages, clips = blocks - 1 - len(joins), tome(blocks, frames, remove=remove), frames
    stages = [stage for stage in stages if stage.block < first]
    for block, join in enumerate(joins, first):
        joined = Stage("tome", block, segments=clips // join, remove=across, keep="weighted", classes="all",
                       clip_embedding=clips)  # fmt: skip
        stages += [joined, merging(block, within)]
        clips //= join
    return [*stages, merging(blocks - 1, within)]


def merging(block: int, remove: float) -> Stage:
    """The stage of ToMe inside a block."""
    return Stage("tome", block, remove=remove, keep="weighted", inside=True, sees="keys")


SCHEDULES: dict[str, Callable[..., list[Stage]]] = {"tome": tome, "tempme": tempme}


def stages(name: str, blocks: int, frames: int, options: dict) -> tuple[Stage, ...]:
    """The stages of schedule `name` with its options, its keyword-only arguments, in an encoder of so many blocks, of
    videos of so many frames. Raises UserError for what there is not, and for what does not fit."""
    if name not in SCHEDULES:
        raise UserError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}")
    known = inspect.getfullargspec(SCHEDULES[name]).kwonlyargs
    if unknown := [option for option in options if option not in known]:
        raise UserError(f"schedule {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return tuple(SCHEDULES[name](blocks, frames, **options))
