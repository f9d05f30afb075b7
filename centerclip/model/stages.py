"""A reduction stage: the frames of a segment become one sequence of fewer tokens (paper, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip.cell import Stage
from centerclip.model import reduction


class Reduction(nn.Module):
    """A token-reduction algorithm with its options; it has no parameters and passes no gradient."""

    def __init__(self, algorithm: str, clusters: int, options: dict):
        super().__init__()
        self.function, self.context = reduction.algorithm(algorithm), reduction.context(algorithm)
        self.clusters, self.options = clusters, options

    def forward(self, tokens: Tensor, frames: int, segments: int = 1) -> tuple[Tensor, Tensor]:
        """Reduce each segment's tokens to K of them.

        Args:
            tokens: [B, N, D] of any float dtype, a segment a row, its patches frame by frame.
            frames: of a segment. segments: of a video, whose rows follow each other.

        Returns:
            medoids [B, K] int64, ascending token indices, and assignment [B, N] int64 into 0..K-1.
        """
        known = {"frames": frames, "segments": segments, "training": self.training}
        context = {name: known[name] for name in self.context}
        # Algorithms compute in the precision that they state: autocast would lower their matrix products.
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            return self.function(tokens.detach(), self.clusters, **self.options, **context)


class ReductionStage(nn.Module):
    """One stage of the video encoder, for tokens of `width` numbers; its `embedding` [K, D] is None or learned.

    With the settings' `padded` "drop" a segment counts if its last frame is real, and its [CLASS] is the mean of all
    its frames', padding included: so do the authors. A video that is shorter than a segment has none; the last of its
    segments that has a real frame counts then. With "keep" a segment counts if any frame is real, and its [CLASS] is
    the mean of the real ones.
    """

    def __init__(self, stage: Stage, width: int):
        super().__init__()
        self.settings = stage
        self.reduction = Reduction(stage.algorithm, stage.clusters, stage.options)
        self.embedding = nn.Parameter(torch.zeros(stage.clusters, width)) if stage.embedding else None

    @torch.no_grad()
    def start_embedding(self, positions: Tensor) -> None:
        """Start the embedding, if there is one, as the first K of `positions` [N, D], zero where there are fewer; one
        that came with weights, and so is not zero, stays."""
        if self.embedding is not None and not self.embedding.any():
            self.embedding[: len(positions)] = positions[: len(self.embedding)]

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Join frames into segments and keep each segment's centre tokens, in their order.

        Args:
            x: [B * T, 1 + N, D], a [CLASS] token and N patch tokens a frame.
            mask: [B, T] bool, false for padding.

        Returns:
            [B * S, 1 + K, D] and which segments count [B, S] bool.
        """
        segments = self.settings.segments
        frames = mask.shape[1] // segments
        x = x.unflatten(0, (-1, frames))  # [B * S, frames, 1 + N, D]
        real = mask.unflatten(1, (segments, frames))
        if self.settings.padded == "keep":
            counts, weights = real.any(-1), torch.where(real.any(-1, keepdim=True), real, True)
        else:
            counts, weights = whole_segments(real), torch.ones_like(real)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype).flatten(0, 1)  # [B * S, frames]
        centre = (x[:, :, 0] * weights[:, :, None]).sum(1, keepdim=True)
        tokens = x[:, :, 1:].flatten(1, 2)  # [B * S, frames * N, D]
        medoids, assignment = self.reduction(tokens, frames, segments)
        if self.settings.keep == "mean":
            kept = cluster_means(tokens, assignment, self.settings.clusters)
        else:
            kept = tokens.gather(1, medoids[:, :, None].expand(-1, -1, tokens.shape[2]))
        if self.embedding is not None:
            kept = kept + self.embedding.to(kept.dtype)
        return torch.cat([centre, kept], 1), counts


def whole_segments(real: Tensor) -> Tensor:
    """[B, S] bool: the segments whose last frame is real, of `real` [B, S, frames] bool; in a video without one, the
    last segment that has a real frame."""
    whole, some = real[:, :, -1], real.any(-1)
    last = some & (some.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(whole.any(1, keepdim=True), whole, last)


def cluster_means(tokens: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """[B, K, D] means of tokens [B, N, D] over their clusters, assignment [B, N] int64 into 0..K-1, none empty."""
    members = F.one_hot(assignment, clusters).to(tokens.dtype)  # [B, N, K]
    return (members / members.sum(1, keepdim=True)).mT @ tokens
