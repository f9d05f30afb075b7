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

    def forward(self, tokens: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Reduce each segment's tokens to K of them.

        Args:
            tokens: [B, N, D] of any float dtype, a segment a row, its patches frame by frame.
            frames: of a segment.

        Returns:
            medoids [B, K] int64, ascending token indices, and assignment [B, N] int64 into 0..K-1.
        """
        known = {"frames": frames, "training": self.training}
        context = {name: known[name] for name in self.context}
        # Algorithms compute in the precision that they state: autocast would lower their matrix products.
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            return self.function(tokens.detach(), self.clusters, **self.options, **context)


class ReductionStage(nn.Module):
    """One stage of the video encoder, for tokens of `width` numbers; its `embedding` [K, D] is None or learned."""

    def __init__(self, stage: Stage, width: int):
        super().__init__()
        self.settings = stage
        self.reduction = Reduction(stage.algorithm, stage.clusters, stage.options)
        self.embedding = nn.Parameter(torch.zeros(stage.clusters, width)) if stage.embedding else None

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Join frames into segments and keep each segment's centre tokens, in their order.

        Args:
            x: [B * T, 1 + N, D], a [CLASS] token and N patch tokens a frame.
            mask: [B, T] bool, false for padding.

        Returns:
            [B * S, 1 + K, D], its [CLASS] the mean over a segment's valid frames, and the segments' mask [B, S].
        """
        frames = mask.shape[1] // self.settings.segments
        x = x.unflatten(0, (-1, frames))  # [B * S, frames, 1 + N, D]
        valid = mask.reshape(-1, frames)
        weights = torch.where(valid.any(1, keepdim=True), valid, True).to(x.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        centre = (x[:, :, 0] * weights[:, :, None]).sum(1, keepdim=True)
        tokens = x[:, :, 1:].flatten(1, 2)  # [B * S, frames * N, D]
        medoids, assignment = self.reduction(tokens, frames)
        if self.settings.keep == "mean":
            kept = cluster_means(tokens, assignment, self.settings.clusters)
        else:
            kept = tokens.gather(1, medoids[:, :, None].expand(-1, -1, tokens.shape[2]))
        if self.embedding is not None:
            kept = kept + self.embedding.to(kept.dtype)
        return torch.cat([centre, kept], 1), valid.any(1).view(-1, self.settings.segments)


def cluster_means(tokens: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """[B, K, D] means of tokens [B, N, D] over their clusters, assignment [B, N] int64 into 0..K-1, none empty."""
    members = F.one_hot(assignment, clusters).to(tokens.dtype)  # [B, N, K]
    return (members / members.sum(1, keepdim=True)).mT @ tokens
