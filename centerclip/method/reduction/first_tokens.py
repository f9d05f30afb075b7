"""The first tokens: a control that looks at nothing and knows only the beginning of a segment."""

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


def first_tokens(tokens: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The first K tokens of each segment; all others join the last of these."""
    check_clusters(tokens, clusters)
    medoids = torch.arange(clusters, device=tokens.device).expand(len(tokens), -1)
    return medoids, followers(medoids, tokens.shape[1])


def followers(medoids: Tensor, count: int) -> Tensor:
    """[B, N] int64: the cluster of each of `count` tokens: that of the last of the medoids [B, K], ascending, up to it;
    the first cluster if all come later."""
    place = torch.arange(count, device=medoids.device).expand(len(medoids), -1).contiguous()
    return (torch.searchsorted(medoids.contiguous(), place, right=True) - 1).clamp(min=0)
