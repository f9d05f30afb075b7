"""The longest tokens: a control that ranks each token by its own L2 norm."""

import torch
from torch import Tensor

from centerclip.method.reduction.first_tokens import followers
from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


@torch.no_grad()
def norm(tokens: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The K tokens of largest L2 norm; of equal norms the lower index goes first. O(N D + N log N).

    A token that is not kept is put to the kept one before it, the first ones to the first kept. A token that is not
    finite is kept.

    Args:
        tokens: [B, N, D], any float dtype.
        clusters: K, 1..N.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N.
    """
    check_clusters(tokens, clusters)
    norms = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float64)
    medoids = norms.argsort(dim=1, descending=True, stable=True)[:, :clusters].sort(1).values
    return medoids, followers(medoids, tokens.shape[1])
