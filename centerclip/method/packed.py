"""Frames that keep different numbers of patches: packed, as the first frame of a video has every patch.

The tokens of all frames are one sequence, so that the layers that work token by token, 99 % of a ViT-B/32's operations
at 50 tokens a frame, see no padding. Attention alone is padded to the longest frame.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip.method.towers.tower import Tower, heads


class Packing(NamedTuple):
    """Where M packed tokens are in sequences [S, L] padded to the longest: `slots` [M], the index of each in S * L;
    `real` [S, L] bool, the slots that are filled; `first` [S], the index of each sequence's first token in M; `places`
    [S, L] of the tokens in their frames, None if the tower does not need them."""

    slots: Tensor
    real: Tensor
    first: Tensor
    places: Tensor | None


def pack(tokens: Tensor, keep: Tensor, places: Tensor | None = None) -> tuple[Tensor, Packing]:
    """The tokens to `keep` [S, N] bool of tokens [S, N, D] with places [S, N], packed [1, M, D]. The first token of
    each sequence must be kept."""
    lengths = keep.sum(1)
    real = torch.arange(int(lengths.max()), device=keep.device) < lengths[:, None]
    slots = real.flatten().nonzero()[:, 0]
    if places is not None:
        places = places.new_zeros(real.numel()).index_copy(0, slots, places[keep]).view_as(real)
    return tokens[keep][None], Packing(slots, real, lengths.cumsum(0) - lengths, places)


def block_of_packed(tower: Tower, block: nn.Module, x: Tensor, packing: Packing) -> Tensor:
    """A block of a tower on packed tokens x [1, M, D]."""
    sequences, length = packing.real.shape
    projections = tower.projected(block, x)[0]  # [M, 3 A]
    padded = projections.new_zeros(sequences * length, projections.shape[1]).index_copy(0, packing.slots, projections)
    queries, keys, values = heads(padded.unflatten(0, (sequences, length)), block.attn.num_heads)
    queries, keys = tower.rotated(block, queries, packing.places), tower.rotated(block, keys, packing.places)
    mixed = F.scaled_dot_product_attention(queries, keys, values, packing.real[:, None, None])
    mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)[packing.slots]  # [M, A]
    x = x + tower.mixed(block, mixed)[None]
    return x + tower.mlp(block, x)
