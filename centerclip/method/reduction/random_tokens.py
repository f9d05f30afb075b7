"""Random tokens: the control that any choice of tokens has to beat."""

from typing import Annotated

import torch
from torch import Tensor

from centerclip.method.reduction.first_tokens import followers
from centerclip.method.reduction.kmedoids import check_clusters

KIND = "sampling"
REVISION = 1


def random_tokens(
    tokens: Tensor, clusters: int, *, seed: Annotated[int, ">= 0"] = 0, segments: int = 1, training: bool = False
) -> tuple[Tensor, Tensor]:
    """K tokens drawn at random without looking at them, in training others in every step.

    A draw is one for the whole batch, another for each segment of a video, as in `sparse_sampling`. A token that is not
    kept is put to the kept one before it, the first ones to the first kept. O(N log N).

    Args:
        tokens: [B, N, D].
        clusters: K, 1..N.
        seed: of the draws in evaluation, which are always the same.
        segments: of a video, whose rows follow each other.
        training: whether to draw from PyTorch's generator.

    Returns:
        medoids [B, K] int64 ascending, assignment [B, N] int64 into 0..K-1.

    Raises:
        ValueError: K outside 1..N.
    """
    check_clusters(tokens, clusters)
    batch, count, _ = tokens.shape
    generator = None if training else torch.Generator().manual_seed(seed)
    order = torch.rand(segments, count, generator=generator).argsort(1)
    medoids = order[:, :clusters].sort(1).values.to(tokens.device, non_blocking=True).repeat(batch // segments, 1)
    return medoids, followers(medoids, count)
