"""Bipartite soft matching, of Token Merging (Bolya et al., ICLR 2023, section 3; written from the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip.method.reduction.kmedoids import check_clusters

KIND = "merging"
REVISION = 1
ORDER = "own"
KEEPS = "half"


@torch.no_grad()
def tome(tokens: Tensor, clusters: int, *, classes: int = 1) -> tuple[Tensor, Tensor]:
    """Join N - K tokens, at most half of all, to the tokens that they are most like.

    Tokens alternate into two sets, A and B. The first token is in B behind an odd number of [CLASS] tokens, else in A.
    The partner of a token of A is the token of B with the largest cosine, the first of a tie. The N - K tokens of A
    that are most like their partners join them, of equally alike ones the first. The rest of A goes on first, then B;
    where no token joins, all go on in their order. In ToMe tokens are the keys of the block's attention, averaged over
    heads. One round, no iteration: a quarter of a Gram matrix, N^2 D / 2 operations, and a sort.
    """
    check_clusters(tokens, clusters)
    batch, count, _ = tokens.shape
    place = torch.arange(count, device=tokens.device)
    a, b = place[classes % 2 :: 2], place[1 - classes % 2 :: 2]
    joining = count - clusters
    if joining > min(len(a), count // 2):
        most = min(len(a), count // 2)
        raise ValueError(f"{clusters} clusters of {count} tokens: no more than {most} can join others")
    if joining == 0:
        return place.expand(batch, -1), place.expand(batch, -1)
    unit = F.normalize(tokens.double(), dim=-1)
    alike, partner = (unit[:, a] @ unit[:, b].mT).float().max(-1)  # equal tokens are at 1, without any rounding
    order = alike.argsort(dim=1, descending=True, stable=True)
    joined, rest = order[:, :joining], order[:, joining:].sort(1).values
    medoids = torch.cat([a[rest], b.expand(batch, -1)], 1)
    assignment = torch.empty(batch, count, dtype=torch.int64, device=tokens.device)
    assignment.scatter_(1, medoids, place[:clusters].expand(batch, -1))
    return medoids, assignment.scatter_(1, a[joined], len(a) - joining + partner.gather(1, joined))
