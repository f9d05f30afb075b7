"""Frames of which some patches are left out, each frame another number of them: packed, not padded.

The tokens of all frames stand behind each other, so that the layers that work token by token, 99 % of a ViT-B/32's
operations at 50 tokens a frame, see no padding. Attention alone is padded to the longest frame. Padding the whole would
save nothing: the first frame of a video has every patch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip.method.blocks import heads, mlp, projected


class Packing(NamedTuple):
    """Where packed tokens are in sequences [S, L] padded to the longest: `places` [M] of each in S * L, `real` [S, L]
    bool the places that are filled, and `first` [S] of each sequence's first token in M."""

    places: Tensor
    real: Tensor
    first: Tensor


def pack(tokens: Tensor, keep: Tensor) -> tuple[Tensor, Packing]:
    """Those of tokens [S, N, D] to `keep`, [S, N] bool, packed [1, M, D]; the first of each sequence has to be."""
    lengths = keep.sum(1)
    real = torch.arange(int(lengths.max()), device=keep.device) < lengths[:, None]
    return tokens[keep][None], Packing(real.flatten().nonzero()[:, 0], real, lengths.cumsum(0) - lengths)


def block_of_packed(block: nn.Module, x: Tensor, packing: Packing) -> Tensor:
    """A block of the encoder on packed tokens x [1, M, D]."""
    sequences, length = packing.real.shape
    projections = projected(block, x)[0]  # [M, 3 D]
    padded = projections.new_zeros(sequences * length, projections.shape[1]).index_copy(0, packing.places, projections)
    queries, keys, values = heads(padded.unflatten(0, (sequences, length)), block.attn.num_heads)
    mixed = F.scaled_dot_product_attention(queries, keys, values, packing.real[:, None, None])
    mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)[packing.places]  # [M, D]
    x = x + block.ls_1(block.attn.out_proj(mixed))[None]
    return x + mlp(block, x)
