"""Agglomerative clustering by average linkage: hierarchical pooling, which needs no training.

It merges a ViT's tokens in ATC (Haurum et al., ECCV 2024), and pools the vectors of multi-vector retrieval (Clavié et
al., 2024). Written from the papers.
"""

from typing import Literal

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters, check_finite, pairwise_distances

KIND = "merging"
REVISION = 1


@torch.no_grad()
def hpool(
    tokens: Tensor, clusters: int, *, distance: Literal["cosine", "euclidean"] = "cosine"
) -> tuple[Tensor, Tensor]:
    """Join the two clusters of least mean distance between their tokens, again and again, until K are left.

    A cluster is kept for its first token, which says nothing about it: a stage needs `keep: mean`. Of equal mean
    distances the pair of lowest first tokens joins. Summed distances are exact in float64 (`kmedoids.costs` says why)
    and their means rounded to float32, so that what ties on paper ties. A Gram matrix and N - K steps of N^2
    comparisons a problem, all problems at a time; memory O(B N^2).

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        distance: 1 - cosine, as published, or "euclidean".

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N, or an unknown distance.
        FloatingPointError: a token that is not finite. On a GPU, for which nothing waits, it joins a cluster instead,
            so that the cluster's mean is not finite either.
    """
    check_clusters(tokens, clusters)
    means = pairwise_distances(tokens, distance)
    if means.device.type != "cuda":  # which the host would wait for
        check_finite(means)
    batch, count, _ = tokens.shape
    sums, sizes = means.double(), means.new_ones(batch, count, dtype=torch.float64)
    means.diagonal(dim1=1, dim2=2).fill_(torch.inf)  # at infinity: itself, and clusters that joined another
    problem, place = torch.arange(batch, device=tokens.device), torch.arange(count, device=tokens.device)
    first = place.repeat(batch, 1)  # token of each token's cluster
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
