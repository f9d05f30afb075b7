"""Spectral clustering on a graph of the tokens (paper, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip.model.reduction.kmedoids import alternate, check_clusters, check_finite, pairwise_distances

KIND = "clustering"


@torch.no_grad()
def spectral(
    tokens: Tensor,
    clusters: int,
    *,
    graph: str = "knn",
    neighbours: int | None = None,
    sigma: float | None = 2.0,
    distance: str | float = "euclidean",
    normalise: bool = False,
    iterations: int = 100,
    frames: int = 1,
) -> tuple[Tensor, Tensor]:
    """Cluster each problem's tokens in the eigenvectors of its graph's normalised Laplacian, then by k-medoids++.

    Edges weigh exp(-d^2 / 2 sigma^2). The rows of the K eigenvectors of the Laplacian's smallest eigenvalues, scaled
    to unit length, are the points of `kmedoids`. All have the same norm, so its first medoid is token 0 (the lower
    index of a tie). Only the eigenvectors' span matters: signs and rotations change no distance. All eigenvectors are
    computed, in float32, by the symmetric solver of LAPACK or cuSOLVER: at K of N / 3 to N / 5 a partial one is no
    faster, and float64's, at twice the time, leads to the same medoids.

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        graph: "knn", two tokens are joined if either is among the other's nearest; or "heat", all are joined.
        neighbours: of each token in a knn graph, itself counted; at most N. None: the paper's 5 a frame, and 5 more
            from 100 tokens a frame on.
        sigma: width of the kernel, in units of the distance: 2 in the authors' code, between tokens as they are. None:
            the root mean square length of the graph's edges, which makes the weights free of the tokens' scale.
        distance, normalise, iterations: as in `kmedoids`; the distance is the tokens', not the rows'.
        frames: how many the tokens come from.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N, an unknown graph or distance, neighbours < 1 or sigma <= 0.
        FloatingPointError: a token that is not finite, or too large for its square in float32.
    """
    check_clusters(tokens, clusters)
    if neighbours is None:
        neighbours = 5 * frames + (5 if tokens.shape[1] >= 100 * frames else 0)
    if graph not in ("knn", "heat"):
        raise ValueError(f"graph {graph!r} is not knn or heat")
    if neighbours < 1 or (sigma is not None and sigma <= 0):
        raise ValueError(f"neighbours {neighbours} and sigma {sigma} must be positive")
    distances = pairwise_distances(tokens, distance, normalise, torch.float32)
    check_finite(distances)
    edges = nearest(distances, neighbours) if graph == "knn" else torch.ones_like(distances, dtype=torch.bool)
    rows = embedding(affinity(distances, edges, sigma), clusters)
    first = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    return alternate(pairwise_distances(rows, precision=torch.float32), first, clusters, iterations)


def nearest(distances: Tensor, neighbours: int) -> Tensor:
    """Edges [B, N, N] bool of the symmetric graph of distances [B, N, N] that joins each token to the `neighbours`
    nearest, itself being one."""
    ranked = distances.topk(min(neighbours, distances.shape[-1]), largest=False, sorted=False).indices
    edges = torch.zeros_like(distances, dtype=torch.bool).scatter_(2, ranked, True)
    edges.diagonal(dim1=1, dim2=2).fill_(True)
    return edges | edges.mT


def affinity(distances: Tensor, edges: Tensor, sigma: float | None) -> Tensor:
    """Weights [B, N, N] float32 of `edges`; each token's own weight is 1, so none is isolated."""
    squared = distances.square().mul_(edges)
    if sigma is None:
        variance = squared.sum((1, 2), keepdim=True) / edges.sum((1, 2), keepdim=True)
        variance = torch.where(variance > 0, variance, 1)
    else:
        variance = sigma**2
    return squared.div_(-2 * variance).exp_().mul_(edges)


def embedding(weights: Tensor, clusters: int) -> Tensor:
    """Rows [B, N, K] float32 of unit length: the K smallest eigenvectors of the normalised Laplacian of `weights`."""
    inverse_root = weights.sum(-1).rsqrt()
    normalised = weights * inverse_root[:, :, None] * inverse_root[:, None, :]
    # The Laplacian's smallest eigenvectors are the normalised affinity's largest; eigh sorts ascending.
    return F.normalize(torch.linalg.eigh(normalised).eigenvectors[:, :, -clusters:], dim=-1)
