"""The video side of a CLIP: frames through an open_clip ViT, with reduction stages between and inside its blocks."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from centerclip.method import reduction
from centerclip.method.blocks import attention, class_attention, mlp
from centerclip.method.packed import block_of_packed, pack
from centerclip.method.shifts import SHIFTS
from centerclip.method.stage import Stage
from centerclip.method.stages import ReductionStage, Sequences


class VideoSide:
    """What encodes videos, of a module whose `visual` is an open_clip ViT; with no stage, every frame is one segment.

    `stages` holds a stage by the number of blocks that come before it, one inside the next block by "NUMBER-inside".
    `shift` names a shift of SHIFTS, by which every block runs. With `proportional` attention the logarithm of a token's
    size is added to its logits (ToMe).
    """

    def reduce_by(self, stages: Sequence[Stage], shift: str | None = None, proportional: bool = False) -> None:
        """Make the modules of `stages`."""
        self.shift, self.proportional = SHIFTS[shift] if shift else None, proportional
        width = self.visual.conv1.out_channels
        sized = proportional or any(stage.keep == "weighted" for stage in stages)
        ordered = sorted(stages, key=lambda stage: stage.place)
        named = {stage_name(*stage.place): ReductionStage(stage, width, sized) for stage in ordered}
        self.stages = nn.ModuleDict(named)
        self.sees_pixels = any(reduction.sees_pixels(stage.algorithm) for stage in stages)

    def encode_video(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode videos (paper, section 3.2).

        Args:
            frames: [B, T, 3, H, W] float, normalised as CLIP's images.
            mask: [B, T] bool, false for padding; at least one true a row. None: all true.

        Returns:
            [B, E] float32 unit vectors: the normalised mean of the valid segments' unit vectors.
        """
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if mask is None else mask
        x = self.visual._embeds(frames.flatten(0, 1))  # [B * T, 1 + N, D]
        if self.sees_pixels:
            pooled, counts = self.pooled_of_packed(x, frames), mask
        else:
            sequences, stages = Sequences(x, mask), dict(self.stages.items())
            for index, block in enumerate(self.visual.transformer.resblocks):
                if between := stages.get(stage_name(index, False)):
                    sequences = between(sequences)
                inside = stages.get(stage_name(index, True))
                sequences = self.checkpointed(partial(self.run_block, block, inside), sequences)
            pooled, counts = self.pooled(sequences), sequences.counts
        segments = F.normalize((pooled @ self.visual.proj).float(), dim=-1).view(*counts.shape, -1)
        return F.normalize((segments * counts[:, :, None]).sum(1), dim=-1)

    def checkpointed(self, run: Callable, x: Tensor | Sequences) -> Tensor | Sequences:
        """`run` of x, whose activations are computed again in the backward pass if the model was told so."""
        again = self.visual.transformer.grad_checkpointing and torch.is_grad_enabled()
        return checkpoint(run, x, use_reentrant=False) if again else run(x)

    def run_block(self, block: nn.Module, inside: ReductionStage | None, given: Sequences) -> Sequences:
        """A block on videos; `inside` is the stage between its attention and its MLP, if there is one."""
        x, sizes = given.tokens, given.sizes
        if self.shift:
            frames = x.unflatten(0, (-1, given.sequences_per_video))
            return given._replace(tokens=self.shift(block, frames).flatten(0, 1))
        proportional = self.proportional and sizes is not None
        if inside is None and not proportional:
            return given._replace(tokens=block(x))
        bias = sizes.log() if proportional else None
        added, queries, keys = attention(block, x, bias)
        given = given._replace(tokens=x + added)
        if inside is not None:
            scores = class_attention(queries, keys, given.classes, bias) if inside.scored else None
            given = inside(given, keys.mean(1), scores)
        return given._replace(tokens=given.tokens + mlp(block, given.tokens))

    def pooled(self, given: Sequences) -> Tensor:
        """The vectors [B * S, D], or [B * S, C, D] of several [CLASS] tokens, that stand for sequences; the mean of
        patches, in a backbone that has it, is of as many patches as tokens stand for."""
        x, visual = given.tokens, self.visual
        if visual.pool_type == "tok" and given.classes > 1:
            return visual.ln_post(x[:, : given.classes])
        if visual.pool_type == "avg" and given.sizes is not None:
            weights = (given.sizes[:, 1:] / given.sizes[:, 1:].sum(1, keepdim=True)).to(x.dtype)[:, None]
            if visual.final_ln_after_pool:
                return visual.ln_post((weights @ x[:, 1:])[:, 0])
            return (weights @ visual.ln_post(x)[:, 1:])[:, 0]
        return visual._pool(x)[0]

    def pooled_of_packed(self, x: Tensor, frames: Tensor) -> Tensor:
        """The vectors [B * T, D] that stand for frames [B, T, 3, H, W] whose tokens x [B * T, 1 + N, D] are left out in
        part, as the one stage says that sees pixels."""
        (stage,) = self.stages.values()
        keep = stage.reduction(frames, self.visual.patch_size[0]).flatten(0, 1)
        x, packing = pack(x, F.pad(keep, (1, 0), value=True))
        for block in self.visual.transformer.resblocks:
            x = self.checkpointed(partial(block_of_packed, block, packing=packing), x)
        return self.visual.ln_post(x[0, packing.first])


def stage_name(block: int, inside: bool) -> str:
    """What the model calls the stage after `block` blocks, or inside the block that comes then."""
    return f"{block}-inside" if inside else str(block)
