"""Agglomerative clustering by average linkage, as ATC merges a ViT's tokens (Haurum et al., ECCV 2024; written from the
paper). Hierarchical pooling of multi-vector retrieval (Clavié et al., 2024) takes Ward's linkage."""

from typing import Literal

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters, check_finite, pairwise_distances

KIND = "merging"
REVISION = 1
STAYS = "mean"


@torch.no_grad()
def hpool(
    tokens: Tensor, clusters: int, *, distance: Literal["cosine", "euclidean"] = "cosine"
) -> tuple[Tensor, Tensor]:
    """Join the two clusters of least mean distance between their tokens, again and again, until K are left.

    A cluster's medoid is its first token, which says nothing about it: a stage needs `keep: mean`. Of equal mean
    distances the pair of lowest first tokens joins. Sums of distances are exact in float64 (see `kmedoids.costs`) and
    their means are rounded to float32, so that means that are equal by hand are equal here. A Gram matrix and N - K
    steps of N^2 comparisons a problem, all problems at a time; memory O(B N^2).

    Args:
        distance: "cosine", which is 1 - cosine, as published, or "euclidean".

    Raises:
        FloatingPointError: a token that is not finite, unless on a GPU, which would have to be waited for: there it
            joins a cluster, whose mean is then not finite either.
    """
    check_clusters(tokens, clusters)
    means = pairwise_distances(tokens, distance)
    if means.device.type != "cuda":
        check_finite(means)
    batch, count, _ = tokens.shape
    sums, sizes = means.double(), means.new_ones(batch, count, dtype=torch.float64)
    means.diagonal(dim1=1, dim2=2).fill_(torch.inf)  # no token joins itself, nor a cluster that is gone
    problem, place = torch.arange(batch, device=tokens.device), torch.arange(count, device=tokens.device)
    first = place.repeat(batch, 1)  # token of the cluster of each token
    for _ in range(count - clusters):
        one = means.amin(2).argmin(1)
        other = means[problem, one].argmin(1)
        sums[problem, one] += sums[problem, other]
        sums[problem, :, one] = sums[problem, one]
        sizes[problem, one] += sizes[problem, other]
        gone = means[problem, one].isinf() | (place == other[:, None])
        joined = (sums[problem, one] / (sizes * sizes[problem, one, None])).float().masked_fill(gone, torch.inf)
        means[problem, one] = means[problem, :, one] = joined
        means[problem, other] = means[problem, :, other] = torch.inf
        first = torch.where(first == other[:, None], one[:, None], first)
    kept = first == place
    medoids = kept.int().argsort(dim=1, descending=True, stable=True)[:, :clusters]
    return medoids, (kept.cumsum(1) - 1).gather(1, first)
