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

    Each other token joins the kept one before it; those before all join the first. A token that is not finite is kept.
    """
    check_clusters(tokens, clusters)
    norms = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float64)
    medoids = norms.argsort(dim=1, descending=True, stable=True)[:, :clusters].sort(1).values
    return medoids, followers(medoids, tokens.shape[1])
