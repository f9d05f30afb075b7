"""Sparse sampling of tokens: a baseline of the paper."""

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


def sparse_sampling(
    tokens: Tensor, clusters: int, *, segments: int = 1, training: bool = False
) -> tuple[Tensor, Tensor]:
    """One token of each of K equal spans of the sequence: its middle one, a random one in training.

    A span is a cluster. The whole batch has one draw for each segment of a video, as in the authors' code. So it
    depends on the generator's state alone, not on how many videos are encoded at a time.
    """
    check_clusters(tokens, clusters)
    batch, count, _ = tokens.shape
    starts = -(-torch.arange(clusters + 1, device=tokens.device) * count // clusters)  # rounded up
    place = torch.rand(segments, clusters) if training else torch.full((segments, clusters), 0.5)
    medoids = starts[:-1] + (place.to(tokens.device, non_blocking=True) * starts.diff()).long()  # [S, K]
    span = torch.arange(count, device=tokens.device) * clusters // count
    return medoids.repeat(batch // segments, 1), span.expand(batch, -1)
