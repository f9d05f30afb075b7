"""Sparse sampling of tokens: a baseline of the paper."""

import torch
from torch import Tensor

KIND = "sampling"


def sparse_sampling(tokens: Tensor, clusters: int, *, training: bool = False) -> tuple[Tensor, Tensor]:
    """One token of each of K equal spans of the sequence: its middle one, a random one in training.

    Args:
        tokens: [B, N, D].
        clusters: K, 1..N.
        training: whether to draw at random.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1: the span of each token.

    Raises:
        ValueError: K outside 1..N.
    """
    batch, count, _ = tokens.shape
    if not 1 <= clusters <= count:
        raise ValueError(f"{clusters} clusters of {count} tokens")
    starts = -(-torch.arange(clusters + 1, device=tokens.device) * count // clusters)  # rounded up
    place = torch.rand(batch, clusters, device=tokens.device) if training else tokens.new_full((batch, clusters), 0.5)
    medoids = starts[:-1] + (place.float() * starts.diff()).long()
    span = torch.arange(count, device=tokens.device) * clusters // count
    return medoids, span.expand(batch, -1)
