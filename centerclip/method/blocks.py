"""The parts of an open_clip block, for what has to happen between them."""

import torch.nn.functional as F
from torch import Tensor, nn


def attention(block: nn.Module, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What the attention of a block adds to x [B, N, D], and its keys [B, N, D / heads], their mean over heads. `bias`
    [B, N] is added to the logits of each key."""
    queries, keys, values = heads(projected(block, x), block.attn.num_heads)
    bias = None if bias is None else bias[:, None, None].to(queries.dtype)
    mixed = F.scaled_dot_product_attention(queries, keys, values, bias).transpose(1, 2).flatten(2)
    return block.ls_1(block.attn.out_proj(mixed)), keys.mean(1)


def projected(block: nn.Module, x: Tensor) -> Tensor:
    """Queries, keys and values [..., 3 D] of a block's attention for x [..., D]."""
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)


def heads(projections: Tensor, number: int) -> Tensor:
    """Queries, keys and values [3, B, heads, N, D / heads] of projections [B, N, 3 D]."""
    return projections.unflatten(2, (3, number, -1)).permute(2, 0, 3, 1, 4)


def mlp(block: nn.Module, x: Tensor) -> Tensor:
    """What the MLP of a block adds to x [..., D]."""
    return block.ls_2(block.mlp(block.ln_2(x)))
