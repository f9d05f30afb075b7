"""Spectral clustering on a nearest-neighbour graph of the tokens (paper, section 3.3)."""

import torch
from torch import Tensor

from centerclip.clustering.kmedoids import alternate, check_tokens, pairwise_distances


@torch.no_grad()
def spectral(
    tokens: Tensor, clusters: int, *, neighbours: int = 15, sigma: float | None = None, iterations: int = 100
) -> tuple[Tensor, Tensor]:
    """Cluster each problem's tokens in the eigenvectors of its graph's normalised Laplacian, then by k-medoids++.

    Two tokens are joined if either is among the other's `neighbours` nearest, with weight exp(-d^2 / 2 sigma^2). The
    rows of the K eigenvectors of the Laplacian's smallest eigenvalues, scaled to unit length, are the points of
    `kmedoids`. All have the same norm, so its first medoid is token 0 (the lower index of a tie).

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        neighbours: of each token in the graph, itself apart; at most N - 1 are taken.
        sigma: width of the kernel, in units of the tokens; None: the root mean square length of the graph's edges.
        iterations: as in `kmedoids`.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N, a token that is not finite, neighbours < 1 or sigma <= 0.
    """
    check_tokens(tokens, clusters)
    if neighbours < 1 or (sigma is not None and sigma <= 0):
        raise ValueError(f"neighbours {neighbours} and sigma {sigma} must be positive")
    weights = affinity(pairwise_distances(tokens).double(), neighbours, sigma)
    # The Laplacian's smallest eigenvectors are the normalised affinity's largest; eigh sorts ascending.
    inverse_root = weights.sum(-1).rsqrt()
    normalised = inverse_root[:, :, None] * weights * inverse_root[:, None, :]
    vectors = torch.linalg.eigh(normalised).eigenvectors[:, :, -clusters:]
    rows = torch.nn.functional.normalize(vectors, dim=-1)
    first = rows.new_zeros(len(rows), dtype=torch.int64)
    return alternate(pairwise_distances(rows), first, clusters, iterations)


def affinity(distances: Tensor, neighbours: int, sigma: float | None) -> Tensor:
    """Weights [B, N, N] of the symmetric nearest-neighbour graph; each token's own weight is 1, so none is isolated."""
    size = distances.shape[-1]
    nearest = distances.topk(min(neighbours + 1, size), largest=False, sorted=False).indices
    edges = torch.zeros_like(distances, dtype=torch.bool).scatter(2, nearest, True)
    edges = edges | edges.mT
    squared = distances.square()
    if sigma is None:
        variance = (squared * edges).sum((1, 2), keepdim=True) / edges.sum((1, 2), keepdim=True)
        variance = torch.where(variance > 0, variance, 1)
    else:
        variance = sigma**2
    weights = torch.exp(-squared / (2 * variance)) * edges
    return weights.diagonal_scatter(torch.ones_like(weights[:, 0]), dim1=1, dim2=2)
