"""Spectral clustering on a graph of the tokens (paper, section 3.3)."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip.method.reduction.kmedoids import (
    ROUNDING,
    alternate,
    check_clusters,
    check_finite,
    in_own_precision,
    pairwise_distances,
)

KIND = "clustering"
REVISION = 1
STEPS = 64  # of `projector`, enough to separate eigenvalues that differ by 1e-5 of their range
DONE = 1e-2  # a problem of `projector` is done when its trace and the sum of x - x^2 are off by no more


@in_own_precision
def spectral(
    tokens: Tensor,
    clusters: int,
    *,
    graph: Literal["knn", "heat"] = "knn",
    neighbours: Annotated[int, ">= 1"] | None = None,
    sigma: Annotated[float, "> 0"] | None = 2.0,
    distance: Literal["euclidean", "cosine"] | Annotated[float, ">= 1"] = "euclidean",
    normalise: bool = False,
    iterations: Annotated[int, ">= 1"] = 100,
    frames: int = 1,
) -> tuple[Tensor, Tensor]:
    """Cluster each problem's tokens in the eigenvectors of its graph's normalised Laplacian, then by k-medoids++.

    Edges weigh exp(-d^2 / 2 sigma^2). The rows of the K eigenvectors of the Laplacian's smallest eigenvalues, scaled to
    unit length, are the points of `kmedoids`. All have the same norm, so its first medoid is token 0, the lower index
    of a tie. Only the eigenvectors' span matters: signs and rotations change no distance. A CPU computes all
    eigenvectors, in float32; a GPU computes none (`projector`).

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        graph: "knn" joins two tokens if either is among the other's nearest; "heat" joins all tokens.
        neighbours: number of nearest tokens in a knn graph, including the token itself; at most N. None: the paper's 5
            for each frame, and 5 more from 100 tokens a frame on.
        sigma: width of the kernel, in units of the distance: 2 in the authors' code, between unscaled tokens. None: the
            root mean square length of the graph's edges, so that the tokens' scale changes no weight.
        distance, normalise, iterations: as in `kmedoids`; distances are between tokens, not rows of eigenvectors.
        frames: how many the tokens come from.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N, an unknown graph or distance, neighbours < 1 or sigma <= 0.
        FloatingPointError: a token that is not finite, or too large for its square in float32. On a GPU as `kmedoids`.
    """
    check_clusters(tokens, clusters)
    if neighbours is None:
        neighbours = 5 * frames + (5 if tokens.shape[1] >= 100 * frames else 0)
    if graph not in ("knn", "heat"):
        raise ValueError(f"graph {graph!r} is not knn or heat")
    if neighbours < 1 or (sigma is not None and sigma <= 0):
        raise ValueError(f"neighbours {neighbours} and sigma {sigma} must be positive")
    distances = pairwise_distances(tokens, distance, normalise, torch.float32)
    if not uses_matrix_products(distances):
        check_finite(distances)
    edges = nearest(distances, neighbours) if graph == "knn" else torch.ones_like(distances, dtype=torch.bool)
    first = tokens.isfinite().all(-1).logical_not().int().argmax(-1)  # 0 but for a token that is not finite
    rows = distances_by_products if uses_matrix_products(distances) else distances_by_solver
    return alternate(rows(affinity(distances, edges, sigma), clusters), first, clusters, iterations)


def nearest(distances: Tensor, neighbours: int) -> Tensor:
    """Edges [B, N, N] bool of the symmetric graph that joins each token to its `neighbours` nearest, itself counted."""
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


def uses_matrix_products(distances: Tensor) -> bool:
    """Whether `distances_by_products` is faster: on a GPU, where a solver is slow and synchronises with the host."""
    return distances.device.type == "cuda"


def distances_by_solver(weights: Tensor, clusters: int) -> Tensor:
    """Distances [B, N, N] float32 between the rows, of unit length, of the K smallest eigenvectors of the normalised
    Laplacian of `weights`; symmetric, zero diagonal."""
    inverse_root = weights.sum(-1).rsqrt()
    normalised = weights * inverse_root[:, :, None] * inverse_root[:, None, :]
    # The Laplacian's smallest eigenvectors are the normalised affinity's largest; eigh sorts ascending.
    vectors = torch.linalg.eigh(normalised).eigenvectors[:, :, -clusters:]
    return pairwise_distances(F.normalize(vectors, dim=-1), precision=torch.float32)


def distances_by_products(weights: Tensor, clusters: int) -> Tensor:
    """`distances_by_solver` but for rounding, by the `projector`."""
    products = projector(weights, clusters)
    lengths = products.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    squared = 2 - (products + products.mT) / (lengths[:, :, None] * lengths[:, None, :])
    squared.diagonal(dim1=1, dim2=2).zero_()
    return squared.masked_fill_(squared <= 2 * ROUNDING[torch.float32], 0).sqrt_()  # as `euclidean` does


def projector(weights: Tensor, clusters: int) -> Tensor:
    """[B, N, N] float32: V V^T of the K smallest eigenvectors V of the normalised Laplacian L of `weights`.

    Second-order purification (Niklasson, Physical Review B 66, 155115, 2002), which is matrix products alone. X starts
    as I - L / b, whose eigenvalues x are in [0, 1], the wanted ones largest. Each step takes x to x^2 where the trace
    is above K, the number of eigenvalues that are 1 in the end, and to 2 x - x^2 where it is not. Where eigenvalues K
    and K + 1 are equal, as among tokens without edges, rounding decides, as it does in a solver.
    """
    edges = weights.clone()
    edges.diagonal(dim1=1, dim2=2).zero_()
    degrees = edges.sum(-1)
    diagonal, root = degrees / (1 + degrees), (1 + degrees).rsqrt()  # of L; a token's weight to itself is 1
    # L's eigenvalues are at most twice its largest diagonal element (Gershgorin). Those of X must not be 0, which no
    # step raises, nor 1, which rounding raises.
    bound = (2.002 * diagonal.amax(-1)).clamp_min(torch.finfo(torch.float32).tiny)[:, None, None]
    x = edges * root[:, :, None] * root[:, None, :] / bound + torch.diag_embed(1 - diagonal / bound[:, 0])
    x *= 0.999
    trace = x.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    for _ in range(STEPS):
        change = torch.baddbmm(x, x, x, alpha=-1)  # x - x^2
        left = change.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
        missing = clusters - trace
        sign = missing.sign() * (torch.maximum(left, missing.abs()) > DONE)
        trace = torch.addcmul(trace, sign, left)
        x = torch.addcmul(x, sign, change)
    for _ in range(2):  # 3 x^2 - 2 x^3, which squares what is left of the errors
        change = torch.baddbmm(x, x, x, alpha=-1)
        x = torch.baddbmm(x - change, x, change, alpha=2)
    return x
