"""Density peaks by nearest neighbours (Du et al., 2016), as TCFormer clusters tokens (Zeng et al., CVPR 2022)."""

import math
from typing import Annotated

import torch
from torch import Tensor

from centerclip.method.reduction.kmedoids import assign, check_clusters, check_finite, pairwise_distances

KIND = "merging"
REVISION = 1


@torch.no_grad()
def dpc_knn(tokens: Tensor, clusters: int, *, neighbours: Annotated[int, ">= 1"] = 5) -> tuple[Tensor, Tensor]:
    """Keep the K tokens that are dense and far from denser ones; the others join the nearest of them.

    Distances are divided by sqrt(D). A token's density is exp(-m), m the mean squared distance to its nearest
    `neighbours`; its indicator the distance to the nearest token of higher density, for the densest the largest
    distance of all. The K largest products of both are kept. Of equal densities the lower index is the higher, of equal
    products the lower index goes first: no noise is added. No iteration: a Gram matrix, N^2 D operations, and two
    passes over the distances, memory O(B N^2).

    Args:
        neighbours: number of nearest tokens, including the token itself; at most N.

    Raises:
        FloatingPointError: a token that is not finite, unless on a GPU, which would have to be waited for: there it is
            kept, so that a network's output is not finite either.
    """
    check_clusters(tokens, clusters)
    if neighbours < 1:
        raise ValueError(f"neighbours {neighbours} must be positive")
    _, count, width = tokens.shape
    distances = pairwise_distances(tokens) / math.sqrt(width)
    if distances.device.type != "cuda":
        check_finite(distances)
    near = distances.topk(min(neighbours, count), largest=False, sorted=False).values
    spread = near.double().square().mean(-1)
    order = spread.argsort(dim=1, stable=True)  # densest first; exp(-spread) itself may be 0 for many
    rank = order.argsort(1)
    denser = rank[:, None, :] < rank[:, :, None]
    indicator = torch.where(denser, distances, torch.inf).amin(-1)
    indicator.scatter_(1, order[:, :1], distances.amax((1, 2))[:, None])
    score = torch.where(tokens.isfinite().all(-1), (spread.neg().exp() * indicator).nan_to_num(), torch.inf)
    chosen = score.argsort(dim=1, descending=True, stable=True)[:, :clusters]
    medoids = chosen.sort(1).values
    return medoids, assign(distances, medoids)
