"""The first tokens: a control that looks at nothing and knows only the beginning of a segment."""

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


def first_tokens(tokens: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The first K tokens of each segment, which all others are put to the last of.

    Args:
        tokens: [B, N, D].
        clusters: K, 1..N.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N.
    """
    check_clusters(tokens, clusters)
    medoids = torch.arange(clusters, device=tokens.device).expand(len(tokens), -1)
    return medoids, followers(medoids, tokens.shape[1])


def followers(medoids: Tensor, count: int) -> Tensor:
    """[B, N] int64: for each of `count` tokens which of medoids [B, K], ascending, is the last that is not behind it;
    the first for those before all."""
    place = torch.arange(count, device=medoids.device).expand(len(medoids), -1).contiguous()
    return (torch.searchsorted(medoids.contiguous(), place, right=True) - 1).clamp(min=0)
