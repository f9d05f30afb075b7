"""Merging that protects rare tokens: PiToMe (Tran et al., NeurIPS 2024, section 3), written from the paper. Where the
authors' code differs stands in docs/reduction.md."""

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "merging"
REVISION = 1
KEEPS = "half"


@torch.no_grad()
def pitome(tokens: Tensor, clusters: int, *, margin: float = 0.9) -> tuple[Tensor, Tensor]:
    """Join N - K tokens, of the 2 (N - K) of highest energy, to the others of these; all other tokens are protected.

    A token's energy (equation 4) is the mean over its cosines x to all others: x itself counts from the `margin` on,
    below it exp(x - margin) - 1. The tokens of highest energy, in falling order, alternate into two sets: each of the
    first joins that of the second with the largest cosine. Of equal energies the lower index goes first, of equal
    cosines the higher energy. In PiToMe tokens are the keys of the block's attention, averaged over heads. One round,
    no iteration: a Gram matrix, 2 N^2 D operations, and sorts; memory O(B N^2).

    Args:
        margin: smallest cosine that counts unchanged; in the paper it falls with depth, from 0.9 to 0.
    """
    check_clusters(tokens, clusters)
    batch, count, _ = tokens.shape
    joining = count - clusters
    if 2 * joining > count:
        raise ValueError(f"{clusters} clusters of {count} tokens: no more than {count // 2} can join others")
    unit = F.normalize(tokens.double(), dim=-1)
    cosine = (unit @ unit.mT).float()  # equal tokens are at 1, without any rounding
    energy = torch.where(cosine >= margin, cosine, (cosine - margin).expm1())
    energy.diagonal(dim1=1, dim2=2).zero_()
    order = energy.sum(-1, dtype=torch.float64).float().argsort(dim=1, descending=True, stable=True)
    a, b = order[:, : 2 * joining : 2], order[:, 1 : 2 * joining : 2]
    stay = torch.ones(batch, count, dtype=torch.bool, device=tokens.device).scatter_(1, a, False)
    medoids = stay.int().argsort(dim=1, descending=True, stable=True)[:, :clusters]
    assignment = stay.cumsum(1) - 1
    if joining:
        alike = cosine.gather(1, a[:, :, None].expand(-1, -1, count)).gather(2, b[:, None].expand(-1, joining, -1))
        assignment.scatter_(1, a, assignment.gather(1, b.gather(1, alike.max(-1).indices)))
    return medoids, assignment
