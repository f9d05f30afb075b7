"""k-medoids++: KKZ initialisation, then alternating assignment and medoid update (paper, section 3.3)."""

import torch
from torch import Tensor


@torch.no_grad()
def kmedoids(tokens: Tensor, clusters: int, *, iterations: int = 100) -> tuple[Tensor, Tensor]:
    """Cluster each problem's tokens around K of them. Deterministic; memory O(B N^2).

    The first medoid is the token of largest L2 norm, each next one the token farthest from its nearest medoid; then
    tokens join their nearest medoid and the member with the least summed distance to its cluster becomes the medoid,
    until nothing moves or after `iterations` rounds. Ties: a medoid belongs to its own cluster (so that duplicates
    cannot empty one) and stays unless another member is strictly better; all others go to the lower index.

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        iterations: the most rounds of assignment and update.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N, or a token that is not finite.
    """
    check_tokens(tokens, clusters)
    first = tokens.double().square().sum(-1).argmax(-1)
    return alternate(pairwise_distances(tokens), first, clusters, iterations)


def check_tokens(tokens: Tensor, clusters: int) -> None:
    """Raise ValueError unless tokens [B, N, D] are finite and 1 <= clusters <= N."""
    if not 1 <= clusters <= tokens.shape[1]:
        raise ValueError(f"{clusters} clusters of {tokens.shape[1]} tokens")
    if not torch.isfinite(tokens).all():
        raise ValueError("tokens are not finite")


def pairwise_distances(tokens: Tensor) -> Tensor:
    """Euclidean distances [B, N, N] float32 between tokens [B, N, D]; symmetric, zero diagonal.

    A Gram matrix is many times faster than subtracting every pair. Its cancellation is kept away from float32's
    digits by float64 products of centred tokens, and what is left of it is cut to zero: equal tokens are at 0.
    """
    centred = tokens.double()
    centred = centred - centred.mean(1, keepdim=True)
    gram = centred @ centred.mT
    norms = gram.diagonal(dim1=1, dim2=2)
    sums = norms[:, :, None] + norms[:, None, :]
    squared = sums - (gram + gram.mT)
    squared = torch.where(squared > 1e-12 * sums, squared, 0)
    return squared.sqrt_().float()


def alternate(distances: Tensor, first: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """k-medoids++ on distances [B, N, N] from the first medoids [B]; returns as `kmedoids`."""
    medoids = farthest_first(distances, first, clusters)
    for _ in range(iterations):
        assignment = assign(distances, medoids)
        moved = update(distances, medoids, assignment).sort(-1).values
        if torch.equal(moved, medoids):
            return medoids, assignment
        medoids = moved
    return medoids, assign(distances, medoids)


def farthest_first(distances: Tensor, first: Tensor, clusters: int) -> Tensor:
    """KKZ: [B, K] medoids, ascending, each the token farthest from those before it."""
    batch = torch.arange(len(distances), device=distances.device)
    medoids = first.new_empty(len(distances), clusters)
    nearest = torch.full_like(distances[:, 0], torch.inf)
    latest = first
    for k in range(clusters):
        medoids[:, k] = latest
        nearest = torch.minimum(nearest, distances[batch, latest])
        nearest[batch, latest] = -1  # a medoid is never chosen twice, even among duplicates
        latest = nearest.argmax(-1)
    return medoids.sort(-1).values


def assign(distances: Tensor, medoids: Tensor) -> Tensor:
    """[B, N]: the nearest of medoids [B, K] for each token; a medoid's is itself."""
    to_medoids = distances.gather(1, medoids[:, :, None].expand(-1, -1, distances.shape[2]))  # [B, K, N]
    own = torch.arange(medoids.shape[1], device=medoids.device).expand_as(medoids)
    return to_medoids.argmin(1).scatter(1, medoids, own)


def update(distances: Tensor, medoids: Tensor, assignment: Tensor) -> Tensor:
    """[B, K]: each cluster's member with the least summed distance to its members; the medoid itself if it ties."""
    same = assignment[:, :, None] == assignment[:, None, :]
    cost = (distances * same).sum(-1)
    least = torch.full_like(cost[:, : medoids.shape[1]], torch.inf).scatter_reduce(1, assignment, cost, "amin")
    index = torch.arange(cost.shape[1], device=cost.device).expand_as(assignment)
    candidate = torch.where(cost == least.gather(1, assignment), index, cost.shape[1])
    best = torch.full_like(medoids, cost.shape[1]).scatter_reduce(1, assignment, candidate, "amin")
    return torch.where(cost.gather(1, medoids) == least, medoids, best)
