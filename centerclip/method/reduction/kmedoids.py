"""k-medoids++: KKZ initialisation, then alternating assignment and medoid update (paper, section 3.3)."""

import math
import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib.util import find_spec
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip.method.errors import SlowWarning

KIND = "clustering"
REVISION = 1

# Bytes of tokens or distances worked on at a time: on a CPU what fits its cache, on a GPU what fills it.
PIECE = {"cpu": 1 << 21, "cuda": 1 << 31}
# Share of two squared norms under which their squared distance is rounding (equal tokens had 5e-15 and 7e-7).
ROUNDING = {torch.float64: 1e-12, torch.float32: 4e-6}
SLICES = 4  # that float64 points are cut into where float64 is slow
LARGEST = 1024  # tokens of a problem that a GPU takes in one launch


def in_own_precision(algorithm: Callable) -> Callable:
    """`algorithm` of tokens without gradient and without autocast, which would lower its matrix products."""

    @wraps(algorithm)
    def computed(tokens: Tensor, *arguments, **options):
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            return algorithm(tokens, *arguments, **options)

    return computed


@in_own_precision
def kmedoids(
    tokens: Tensor,
    clusters: int,
    *,
    distance: Literal["euclidean", "cosine"] | Annotated[float, ">= 1"] = "euclidean",
    normalise: bool = False,
    iterations: Annotated[int, ">= 1"] = 100,
) -> tuple[Tensor, Tensor]:
    """Cluster each problem's tokens around K of them. Deterministic; memory O(B N^2).

    The first medoid is the token of largest L2 norm, each next one the token farthest from its nearest medoid. Then
    tokens join their nearest medoid, and the member with the least summed distance to its cluster becomes the medoid,
    until nothing moves or after `iterations` rounds. Ties go to the lower index, as in the authors' code: the medoid of
    two members is the first. A medoid always belongs to its own cluster, so that duplicates cannot empty one. The
    rounds end: the summed distance never rises, and while it stays equal, no medoid's index rises.

    Args:
        tokens: [B, N, D], any float dtype, finite.
        clusters: K, 1..N.
        distance: "euclidean", "cosine" (1 - cosine) or the p >= 1 of a Minkowski distance.
        normalise: scale tokens to unit length for distances; the first medoid is chosen by the original norms.
        iterations: largest number of rounds of assignment and update.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N or an unknown distance.
        FloatingPointError: a token that is not finite. Where the kernel runs, which the host does not wait for, such a
            token becomes a medoid instead, so that a network's output is not finite either.
    """
    check_clusters(tokens, clusters)
    return alternate(pairwise_distances(tokens, distance, normalise), longest(tokens), clusters, iterations)


def check_clusters(tokens: Tensor, clusters: int) -> None:
    """Raise ValueError unless 1 <= clusters <= N of tokens [B, N, D]."""
    if not 1 <= clusters <= tokens.shape[1]:
        raise ValueError(f"{clusters} clusters of {tokens.shape[1]} tokens")


def longest(tokens: Tensor) -> Tensor:
    """[B]: the token of largest L2 norm, the lower index of a tie; the first that is not finite, if there is one."""
    return torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float64).argmax(-1)


def pairwise_distances(
    tokens: Tensor, distance: str | float = "euclidean", normalise: bool = False, precision: torch.dtype = torch.float64
) -> Tensor:
    """Distances [B, N, N] float32 between tokens [B, N, D], as in `kmedoids`; symmetric, zero diagonal.

    In the `precision` float64 they are right to float32's last digit. In float32, in half the time, those above 2e-3 of
    the tokens' norms are right to about 2 digits and the others are zero. Raises ValueError for an unknown distance.
    """
    if distance == "euclidean":
        between = euclidean
    elif distance == "cosine":
        between = cosine
    elif not isinstance(distance, str) and distance >= 1:

        def between(points: Tensor) -> Tensor:
            return torch.cdist(points, points, p=float(distance))
    else:
        raise ValueError(f"distance {distance!r} is not euclidean, cosine or a number from 1")
    _, count, width = tokens.shape
    problems = max(1, PIECE[tokens.device.type] // (precision.itemsize * count * max(count, width)))
    pieces = []
    for points in tokens.split(problems):
        points = points.to(precision, copy=True)
        piece = between(F.normalize(points, dim=-1) if normalise else points).float()
        pieces.append(torch.maximum(piece, piece.mT))  # a matrix product is symmetric up to rounding only
    return torch.cat(pieces)


def check_finite(distances: Tensor) -> None:
    """Raise FloatingPointError unless all distances between tokens are finite. A GPU has to be waited for."""
    if not torch.isfinite(distances).all():
        raise FloatingPointError("tokens to cluster are not finite")


def euclidean(points: Tensor) -> Tensor:
    """[B, N, N] between points [B, N, D], which it centres in place: cancellation in their Gram matrix is small then.
    What is below its rounding is cut to zero, so that equal points are at 0."""
    points -= points.mean(1, keepdim=True)
    products = gram(points)
    norms = products.diagonal(dim1=1, dim2=2)
    sums = norms[:, :, None] + norms[:, None, :]
    squared = torch.sub(sums, products, alpha=2)
    return squared.masked_fill_(squared <= sums.mul_(ROUNDING[points.dtype]), 0).sqrt_()


def cosine(points: Tensor) -> Tensor:
    """[B, N, N] 1 - cosine between points [B, N, D]; 0 between equal directions, 1 to a zero vector."""
    points = F.normalize(points, dim=-1, eps=torch.finfo(points.dtype).tiny)
    away = 1 - gram(points)
    away.diagonal(dim1=1, dim2=2).zero_()
    return away.masked_fill_(away < ROUNDING[points.dtype], 0)


def gram(points: Tensor) -> Tensor:
    """Scalar products [B, N, N] of points [B, N, D], in their precision.

    Float64 points on a GPU with few float64 units, such as a T4, A10, L4 or RTX, are multiplied in float32 slices."""
    sliced = points.dtype is torch.float64 and slow_at_float64(points.device)
    return sliced_gram(points) if sliced else half_gram(points)


def half_gram(points: Tensor) -> Tensor:
    """Scalar products [B, N, N] of points [B, N, D]; a quarter is copied from the other side of the diagonal."""
    half = points.shape[1] // 2
    first, second = points[:, :half], points[:, half:]
    above = first @ points.mT
    below = torch.cat([above[:, :, half:].mT, second @ second.mT], 2)
    return torch.cat([above, below], 1)


def sliced_gram(points: Tensor) -> Tensor:
    """`gram` of float64 points without a float64 matrix product (Ozaki's scheme).

    Each number is the sum of 4 slices, which are whole numbers of b bits times powers of two, and a rest. A product of
    two slices adds up D numbers below 2^2b, which float32 does without rounding while D 2^2b <= 2^24: b is 7 for
    D = 768. The rest is left out: the products are those of points that are off by at most 2^-(4 b + 4), 2^-32 for
    D = 768, of the problem's largest number. So equal points stay equal.
    """
    bits = (24 - math.ceil(math.log2(points.shape[2]))) // 2
    largest = points.abs().amax((1, 2), keepdim=True).clamp_(min=torch.finfo(torch.float64).tiny)
    scale = torch.exp2(largest.log2().floor() + 1)
    rest, slices = points / scale * 2**bits, []
    for _ in range(SLICES):
        slices.append(rest.round())
        rest = (rest - slices[-1]) * 2 ** (bits + 1)  # what rounding left is at most a half
    slices = [part.float() for part in slices]
    products = points.new_zeros(len(points), points.shape[1], points.shape[1])
    for j in reversed(range(SLICES)):
        for i in range(j + 1):
            product = (half_gram(slices[i]) if i == j else slices[i] @ slices[j].mT).double()
            products += (product if i == j else product + product.mT) * 2.0 ** -((i + j) * (bits + 1) + 2 * bits)
    return products * scale.square()


def slow_at_float64(device: torch.device) -> bool:
    """Whether a device multiplies float64 at 1/32 of float32's rate or less: all NVIDIA GPUs but the large ones of data
    centres, of compute capability 6.0, 7.0, 8.0, 9.0 or 10.0."""
    if device.type != "cuda":
        return False
    major, minor = torch.cuda.get_device_capability(device)
    return minor > 0 or major > 10


def alternate(distances: Tensor, first: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """k-medoids++ on distances [B, N, N] from the first medoids [B]; returns and raises as `kmedoids`."""
    if in_one_launch(distances):
        from centerclip.method.reduction.kernel import alternate_in_one_launch

        return alternate_in_one_launch(distances, first, clusters, iterations)
    return alternate_in_steps(distances, first, clusters, iterations)


def alternate_in_steps(distances: Tensor, first: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """`alternate` by PyTorch, on any device."""
    check_finite(distances)
    medoids = farthest_first(distances, first, clusters)
    for _ in range(iterations):
        moved = update(distances, clusters, assign(distances, medoids)).sort(-1).values
        if torch.equal(moved, medoids):
            break
        medoids = moved
    return medoids, assign(distances, medoids)


def in_one_launch(distances: Tensor) -> bool:
    """Whether distances [B, N, N] are for the kernel: on a GPU that can run it, of at most LARGEST tokens."""
    return distances.device.type == "cuda" and distances.shape[1] <= LARGEST and kernel_runs(distances.device)


@cache
def kernel_runs(device: torch.device) -> bool:
    """Whether Triton is installed and its kernel clusters an example as PyTorch does; else a SlowWarning says why, such
    as a missing C compiler. A full GPU raises OutOfMemoryError, which is not cached."""
    if not find_spec("triton"):
        return False
    tokens = torch.rand(4, 147, 8, generator=torch.Generator().manual_seed(0)).to(device)
    given = pairwise_distances(tokens), longest(tokens), 49, 100
    try:
        from centerclip.method.reduction.kernel import alternate_in_one_launch

        if all(map(torch.equal, alternate_in_one_launch(*given), alternate_in_steps(*given))):
            return True
        reason = "its kernel chooses other medoids"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's own, the compiler's, the driver's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    warnings.warn(f"clustering takes many launches, as Triton does not work here: {reason}", SlowWarning, 2)
    return False


def farthest_first(distances: Tensor, first: Tensor, clusters: int) -> Tensor:
    """KKZ: [B, K] medoids, ascending, each the token farthest from those before it."""
    batch, count, _ = distances.shape
    rows = distances.clone()
    rows.diagonal(dim1=1, dim2=2).fill_(-1)  # a medoid is never chosen twice, even among duplicates
    rows, start = rows.view(batch * count, count), count * torch.arange(batch, device=first.device)
    nearest = rows.index_select(0, start + first)
    medoids = [first]
    for _ in range(clusters - 1):
        medoids.append(nearest.argmax(-1))
        torch.minimum(nearest, rows.index_select(0, start + medoids[-1]), out=nearest)
    return torch.stack(medoids, 1).sort(-1).values


def assign(distances: Tensor, medoids: Tensor) -> Tensor:
    """[B, N]: the nearest of medoids [B, K] for each token; a medoid's is itself."""
    batch, count, _ = distances.shape
    start = count * torch.arange(batch, device=medoids.device)[:, None]
    to_medoids = distances.view(batch * count, count).index_select(0, (start + medoids).flatten())
    clusters = torch.arange(medoids.shape[1], device=medoids.device).expand_as(medoids)
    # argmin gives the same, at several times the cost
    return to_medoids.view(batch, medoids.shape[1], count).min(1).indices.scatter(1, medoids, clusters)


def update(distances: Tensor, clusters: int, assignment: Tensor) -> Tensor:
    """[B, K]: each cluster's member with the least summed distance to its members; the lower index of a tie."""
    cost = costs(distances, clusters, assignment)
    least = cost.new_full((len(cost), clusters), torch.inf).scatter_reduce(1, assignment, cost, "amin")
    index = torch.arange(cost.shape[1], device=cost.device).expand_as(assignment)
    candidate = torch.where(cost == least.gather(1, assignment), index, cost.shape[1])
    return index.new_full((len(cost), clusters), cost.shape[1]).scatter_reduce(1, assignment, candidate, "amin")


def costs(distances: Tensor, clusters: int, assignment: Tensor) -> Tensor:
    """[B, N] float64: each token's summed distance to the members of its cluster.

    Up to 1,024 float32 numbers have an exact sum in float64 unless one is 2^19 times another. So the order in which a
    device adds changes nothing, and sums that are equal by hand are equal here. O(N M), M the largest cluster's size.
    """
    batch, count = assignment.shape
    ordered = assignment.argsort(dim=1, stable=True)  # cluster by cluster
    sizes = assignment.new_zeros(batch, clusters).scatter_add_(1, assignment, torch.ones_like(assignment))
    begins = sizes.cumsum(1) - sizes
    place = torch.arange(int(sizes.max()) if batch else 0, device=assignment.device)
    places = begins.gather(1, assignment)[:, :, None] + place  # [B, N, M]
    members = ordered.gather(1, places.clamp_(max=count - 1).flatten(1)).view_as(places)
    inside = place < sizes.gather(1, assignment)[:, :, None]
    return torch.where(inside, distances.gather(2, members), 0).sum(-1, dtype=torch.float64)
