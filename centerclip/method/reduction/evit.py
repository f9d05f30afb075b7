"""The tokens that [CLASS] attends to, of EViT (Liang et al., ICLR 2022; written from the paper)."""

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


@torch.no_grad()
def evit(tokens: Tensor, clusters: int, *, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the K - 1 tokens of largest score; all others form one cluster, whose medoid has their largest score.

    With `keep: attention` that cluster becomes its tokens' mean, weighted by score: the paper's fused token, which in
    the paper is the weighted sum, and comes last. Of equal scores the lower index goes first. O(N log N).
    """
    check_clusters(tokens, clusters)
    order = scores.argsort(dim=1, descending=True, stable=True)
    medoids = order[:, :clusters].sort(1).values
    rest = torch.searchsorted(medoids, order[:, clusters - 1 : clusters].contiguous())
    place = torch.arange(clusters, device=tokens.device).expand_as(medoids)
    return medoids, rest.repeat(1, tokens.shape[1]).scatter_(1, medoids, place)
