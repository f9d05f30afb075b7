"""The video side of a CLIP: frames through its tower, with reduction stages between and inside the tower's blocks."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from centerclip.method import reduction
from centerclip.method.errors import UserError
from centerclip.method.packed import block_of_packed, pack
from centerclip.method.shifts import SHIFTS
from centerclip.method.stage import Stage
from centerclip.method.stages import ReductionStage, Sequences
from centerclip.method.towers import tower_of
from centerclip.method.towers.tower import Tower, class_attention


class VideoSide:
    """What encodes videos, of a module whose `visual` is a tower of CLIP; with no stage, every frame is one segment.

    `stages` holds a stage by the number of blocks that come before it, one inside the next block by "NUMBER-inside".
    `shift` names a shift of SHIFTS, by which every block runs. With `proportional` attention the logarithm of a token's
    size is added to its logits (ToMe).
    """

    @property
    def tower(self) -> Tower:
        """The interface of `visual`."""
        return tower_of(self.visual)

    def reduce_by(
        self, stages: Sequence[Stage], shift: str | None = None, proportional: bool = False, vectors: str = "mean"
    ) -> None:
        """Make the modules of `stages`."""
        self.shift, self.proportional, self.vectors = SHIFTS[shift] if shift else None, proportional, vectors
        width = self.tower.width
        sized = proportional or any(stage.keep == "weighted" for stage in stages)
        ordered = sorted(stages, key=lambda stage: stage.place)
        named = {stage_name(*stage.place): ReductionStage(stage, width, sized) for stage in ordered}
        self.stages = nn.ModuleDict(named)
        self.sees_pixels = any(reduction.sees_pixels(stage.algorithm) for stage in stages)

    def video_vectors(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """What stands for videos by the model's settings: [B, E] or, of several vectors a video, [B, k, E] with zeros
        where the mask is false, as `maxsim` takes them. Arguments are as in `encode_video`."""
        if self.vectors == "mean":
            return self.encode_video(frames, mask)
        return self.encode_video(frames, mask, self.vectors)[0]

    def encode_video(
        self, frames: Tensor, mask: Tensor | None = None, vectors: str = "mean"
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Encode videos (paper, section 3.2).

        Args:
            frames: [B, T, 3, H, W] float, normalised as CLIP's images.
            mask: [B, T] bool, false for padding; at least one true a row. None: all true. Padding repeats the last
                frame: where a video is shorter than a segment, a stage clusters it, too.
            vectors: "mean"; "segments": one vector a segment, before the mean; "medoids": one vector for each
                token that a segment keeps, pooled and projected alone.

        Returns:
            [B, E] float32 unit vectors: the normalised mean of the valid segments' unit vectors. Of "segments" and
            "medoids": [B, k, E] float32 unit vectors and their mask [B, k] bool, false for those of segments that are
            padding, which are zero.

        Raises:
            UserError: shapes other than these, or a T that the stages do not divide.
        """
        if frames.ndim != 5:
            raise UserError(f"frames are {list(frames.shape)}, not [videos, frames, 3, height, width]")
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if mask is None else mask
        if mask.shape != frames.shape[:2]:
            raise UserError(f"mask is {list(mask.shape)}, and the frames need {list(frames.shape[:2])}")
        tower = self.tower
        x = tower.embed(frames.flatten(0, 1))  # [B * T, C + N, D]
        if self.sees_pixels:
            if vectors == "medoids":
                raise UserError("vectors medoids: the frames of this model keep different numbers of tokens")
            pooled, counts = self.pooled_of_packed(tower, x, frames), mask
        else:
            sequences = Sequences(x, mask, tower.classes, places=tower.places(x.shape[0]))
            stages = dict(self.stages.items())
            for index, block in enumerate(tower.blocks):
                if between := stages.get(stage_name(index, False)):
                    sequences = between(sequences)
                inside = stages.get(stage_name(index, True))
                sequences = checkpointed(tower, partial(self.run_block, tower, block, inside), sequences)
            if vectors == "medoids":
                pooled, counts = pooled_alone(tower, sequences)
            else:
                pooled, counts = tower.pool(sequences.tokens, sequences.classes, sequences.sizes), sequences.counts
        found = F.normalize(pooled.float(), dim=-1).view(*counts.shape, -1) * counts[:, :, None]
        return F.normalize(found.sum(1), dim=-1) if vectors == "mean" else (found, counts)

    def run_block(self, tower: Tower, block: nn.Module, inside: ReductionStage | None, given: Sequences) -> Sequences:
        """A block on videos; `inside` is the stage between its attention and its MLP, if there is one."""
        x, sizes, places = given.tokens, given.sizes, given.places
        if self.shift:
            frames = x.unflatten(0, (-1, given.sequences_per_video))
            return given._replace(tokens=self.shift(tower, block, frames, places).flatten(0, 1))
        proportional = self.proportional and sizes is not None
        if inside is None and not proportional:
            return given._replace(tokens=tower.run(block, x, places))
        bias = sizes.log() if proportional else None
        added, queries, keys, unrotated = tower.attention(block, x, places, bias)
        given = given._replace(tokens=x + added)
        if inside is not None:
            scores = class_attention(queries, keys, given.classes, bias) if inside.scored else None
            given = inside(given, unrotated.mean(1), scores)
        return given._replace(tokens=given.tokens + tower.mlp(block, given.tokens))

    def pooled_of_packed(self, tower: Tower, x: Tensor, frames: Tensor) -> Tensor:
        """The vectors [B * T, E] that stand for frames [B, T, 3, H, W] whose tokens x [B * T, 1 + N, D] are left out in
        part, as the one stage says that sees pixels."""
        (stage,) = self.stages.values()
        keep = stage.reduction(frames, tower.patch_size).flatten(0, 1)
        x, packing = pack(x, F.pad(keep, (1, 0), value=True), tower.places(x.shape[0]))
        for block in tower.blocks:
            x = checkpointed(tower, partial(block_of_packed, tower, block, packing=packing), x)
        return tower.pool(x[0, packing.first][:, None], 1)


def pooled_alone(tower: Tower, given: Sequences) -> tuple[Tensor, Tensor]:
    """The projected vectors [B * S * N, E] of all tokens but [CLASS], and which of them count [B, S * N]. The pool is
    given each token twice, as [CLASS] and as the only patch, so that every kind of pool gives the token's vector."""
    tokens = given.tokens[:, given.classes :]
    counts = given.counts.unflatten(1, (given.sequences_per_video, -1)).any(2)
    alone = tokens.flatten(0, 1)[:, None].expand(-1, 2, -1)
    return tower.pool(alone, tower.classes), counts.repeat_interleave(tokens.shape[1], 1)


def checkpointed(tower: Tower, run: Callable, x: Tensor | Sequences) -> Tensor | Sequences:
    """`run` of x, whose activations are computed again in the backward pass if the tower was told so."""
    again = tower.checkpointed and torch.is_grad_enabled()
    return checkpoint(run, x, use_reentrant=False) if again else run(x)


def stage_name(block: int, inside: bool) -> str:
    """What the model calls the stage after `block` blocks, or inside the block that comes then."""
    return f"{block}-inside" if inside else str(block)
