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
    """K tokens drawn at random: in training others in every step, in evaluation always the same.

    The whole batch has one draw for each segment of a video, as in `sparse_sampling`. Each other token joins the kept
    one before it; those before all join the first. O(N log N).

    Args:
        seed: seed of the draws in evaluation.
    """
    check_clusters(tokens, clusters)
    batch, count, _ = tokens.shape
    generator = None if training else torch.Generator().manual_seed(seed)
    order = torch.rand(segments, count, generator=generator).argsort(1)
    medoids = order[:, :clusters].sort(1).values.to(tokens.device, non_blocking=True).repeat(batch // segments, 1)
    return medoids, followers(medoids, count)
