"""Published methods that reduce tokens in many places, as stages. All are written from the papers. Nothing heavy is
imported.

A schedule takes the number of the encoder's blocks and of a video's frames; its options are its keyword-only arguments.
`remove` is how many tokens a frame loses, or which share: one number for all of the schedule's blocks, or a list with
one for each block of the encoder. A schedule raises UserError for options that do not fit.
"""

import inspect
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from centerclip.method.errors import UserError
from centerclip.method.stage import Stage


def tome(blocks: int, frames: int, *, remove: int | Sequence[int] = 2) -> list[Stage]:
    """Token Merging (Bolya et al., ICLR 2023): in every block, between attention and MLP, tokens of each frame, at most
    half of its patches, join the tokens with the most similar keys in the block's attention."""
    return [merging(block, number) for block, number in removed(remove, blocks, range(blocks))]


def pitome(blocks: int, frames: int, *, remove: int | Sequence[int] = 2) -> list[Stage]:
    """PiToMe (Tran et al., NeurIPS 2024): as `tome`, but rare tokens are protected, by a margin that falls with depth
    from 0.9 to 0. `remove` is as in `tome`, so that both cost the same; the paper removes one share in all blocks."""
    return [
        replace(stage, algorithm="pitome", options={"margin": round(0.9 * (1 - stage.block / blocks), 4)})
        for stage in tome(blocks, frames, remove=remove)
    ]


def evit(blocks: int, frames: int, *, remove: float | Sequence[float] = 0.26) -> list[Stage]:
    """EViT (Liang et al., ICLR 2022): in the blocks at a quarter, a half and three quarters of the depth, between
    attention and MLP, the patches of a frame that [CLASS] attends to most stay; the others become one, their mean
    weighted by that attention. The default leaves 36, 27 and 20 of ViT-B/32's 49 patches, the fused one counted, as the
    paper's keep rate of 0.7 does. Here training has this rate from the first step on; the paper lowers it from 1."""
    places = [blocks * quarter // 4 for quarter in (1, 2, 3)]
    return [
        Stage("evit", block, remove=number, keep="attention", inside=True)
        for block, number in removed(remove, blocks, places)
    ]


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

    Each number of `joins` belongs to one block; these blocks come right before the last. In front of such a block, so
    many neighbouring clips become one sequence with all their [CLASS] tokens. The share `across` of its tokens merges
    by likeness; then a learned vector is added for each clip. In these blocks and in the last, the share `within`
    merges by keys; the blocks before are those of `tome`. Published for 12 frames, with `remove` 2 for ViT-B/32 and 10
    for ViT-B/16. Facts about its public code were used, too.
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


def removed(remove: float | Sequence[float], blocks: int, places: Container[int]) -> list[tuple[int, float]]:
    """Each block that removes tokens, and how many; one number is that of the blocks in `places`."""
    if isinstance(remove, int | float):
        remove = [remove if block in places else 0 for block in range(blocks)]
    if len(remove) != blocks:
        raise UserError(f"remove: {len(remove)} numbers for {blocks} blocks")
    return [(block, number) for block, number in enumerate(remove) if number]


def merging(block: int, remove: float) -> Stage:
    """The stage of ToMe inside a block."""
    return Stage("tome", block, remove=remove, keep="weighted", inside=True, sees="keys")


SCHEDULES: dict[str, Callable[..., list[Stage]]] = {"tome": tome, "pitome": pitome, "tempme": tempme, "evit": evit}


def stages(name: str, blocks: int, frames: int, options: dict) -> tuple[Stage, ...]:
    """The stages of schedule `name`. Raises UserError for an unknown name or option, and for what does not fit."""
    if name not in SCHEDULES:
        raise UserError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}")
    known = inspect.getfullargspec(SCHEDULES[name]).kwonlyargs
    if unknown := [option for option in options if option not in known]:
        raise UserError(f"schedule {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return tuple(SCHEDULES[name](blocks, frames, **options))
