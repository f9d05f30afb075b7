"""The shifts by name, which keep every token: baselines of the paper. Their names are also in the schema.

A shift runs a block of the encoder on tokens [B, T, 1 + N, D], [CLASS] first. Some tokens take channels from the
neighbouring frames. It returns the block's output of the same shape. `temporal_shift` and `token_shift` are the
published ones, as the authors' code computes them: what is shifted stays shifted.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from centerclip.method.towers.tower import Tower

SHARE = 8  # 1 / SHARE of the channels comes from the next frame, as many from the previous one


def shifted(tokens: Tensor) -> Tensor:
    """Tokens [B, T, N, D] with the first D / 8 channels of the next frame and the second D / 8 of the previous one, and
    zeros at the video's ends, as in TSM."""
    part = tokens.shape[-1] // SHARE
    following, previous, rest = tokens.split([part, part, tokens.shape[-1] - 2 * part], -1)
    nothing = torch.zeros_like(following[:, :1])
    following = torch.cat([following[:, 1:], nothing], 1)
    previous = torch.cat([nothing, previous[:, :-1]], 1)
    return torch.cat([following, previous, rest], -1)


def patches_shifted(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D], all but [CLASS] `shifted`."""
    return torch.cat([tokens[:, :, :1], shifted(tokens[:, :, 1:])], 2)


def class_shifted(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D], [CLASS] alone `shifted`."""
    return torch.cat([shifted(tokens[:, :, :1]), tokens[:, :, 1:]], 2)


def temporal_shift(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, its patches shifted before it (TSM)."""
    return tower.run(block, patches_shifted(tokens).flatten(0, 1), places).view_as(tokens)


def token_shift(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, [CLASS] shifted before attention and again before the MLP (Token Shift Transformer)."""
    tokens = class_shifted(tokens)
    tokens = class_shifted(tokens + tower.attended(block, tokens.flatten(0, 1), places).view_as(tokens))
    return tokens + tower.mlp(block, tokens)


def in_branches(
    shift: Callable, tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None
) -> Tensor:
    """The block, whose attention and MLP see tokens by `shift`, and whose residual path does not."""
    tokens = tokens + tower.attended(block, shift(tokens).flatten(0, 1), places).view_as(tokens)
    return tokens + tower.mlp(block, shift(tokens))


SHIFTS: dict[str, Callable[[Tower, nn.Module, Tensor, Tensor | None], Tensor]] = {
    "temporal_shift": temporal_shift,
    "token_shift": token_shift,
    "temporal_shift_in_branches": partial(in_branches, shifted),
    "token_shift_in_branches": partial(in_branches, class_shifted),
}
