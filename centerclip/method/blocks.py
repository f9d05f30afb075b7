"""The parts of an open_clip block, for what has to happen between them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention(block: nn.Module, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """What the attention of a block adds to x [B, N, D], and its queries and keys [B, heads, N, D / heads]. `bias`
    [B, N] is added to the logits of each key."""
    queries, keys, values = heads(projected(block, x), block.attn.num_heads)
    bias = None if bias is None else bias[:, None, None].to(queries.dtype)
    mixed = F.scaled_dot_product_attention(queries, keys, values, bias).transpose(1, 2).flatten(2)
    return block.ls_1(block.attn.out_proj(mixed)), queries, keys


@torch.no_grad()
def class_attention(queries: Tensor, keys: Tensor, classes: int, bias: Tensor | None = None) -> Tensor:
    """[B, N - C] float32: what each token but the C [CLASS] tokens in front gets of their attention, the mean over
    these and over heads. Arguments are as in `attention`, whose fused kernel does not tell it."""
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries[:, :, :classes].float() @ keys.float().mT / math.sqrt(keys.shape[-1])
    logits = logits if bias is None else logits + bias[:, None, None]
    return logits.softmax(-1)[..., classes:].mean((1, 2))


def projected(block: nn.Module, x: Tensor) -> Tensor:
    """Queries, keys and values [..., 3 D] of a block's attention for x [..., D]."""
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)


def heads(projections: Tensor, number: int) -> Tensor:
    """Queries, keys and values [3, B, heads, N, D / heads] of projections [B, N, 3 D]."""
    return projections.unflatten(2, (3, number, -1)).permute(2, 0, 3, 1, 4)


def mlp(block: nn.Module, x: Tensor) -> Tensor:
    """What the MLP of a block adds to x [..., D]."""
    return block.ls_2(block.mlp(block.ln_2(x)))
