"""The shifts by name, baselines of the paper for every block, which keep every token. Names are also in the schema.

A shift runs a block of the encoder on tokens [B, T, 1 + N, D], [CLASS] first, of which some are mixed with those of the
neighbouring frames; the tokens that leave the block come back, of the same shape. `temporal_shift` and `token_shift`
are the published ones, as the authors' code computes them: what is shifted stays shifted. The `..._in_branches` shift
only what attention and MLP see, every token or [CLASS], and leave the residual path as it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from centerclip.method.towers.tower import Tower

SHARE = 8  # one channel in so many comes from the next frame, one from the previous


def shifted(tokens: Tensor) -> Tensor:
    """Tokens [B, T, N, D] with the first D / 8 channels the next frame's and the second D / 8 the previous frame's.

    Zeros come in at the video's ends, as in TSM, from which the paper has it.
    """
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


def attention(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None) -> Tensor:
    """What the attention of a block adds to tokens [B, T, 1 + N, D]."""
    return tower.attended(block, tokens.flatten(0, 1), places).view_as(tokens)


def temporal_shift(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, its patches shifted before it (TSM)."""
    return tower.run(block, patches_shifted(tokens).flatten(0, 1), places).view_as(tokens)


def token_shift(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, [CLASS] shifted before attention and again before the MLP (Token Shift Transformer)."""
    tokens = class_shifted(tokens)
    tokens = class_shifted(tokens + attention(tower, block, tokens, places))
    return tokens + tower.mlp(block, tokens)


def temporal_shift_in_branches(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, whose attention and MLP see every token shifted."""
    tokens = tokens + attention(tower, block, shifted(tokens), places)
    return tokens + tower.mlp(block, shifted(tokens))


def token_shift_in_branches(tower: Tower, block: nn.Module, tokens: Tensor, places: Tensor | None = None) -> Tensor:
    """The block, whose attention and MLP see [CLASS] shifted."""
    tokens = tokens + attention(tower, block, class_shifted(tokens), places)
    return tokens + tower.mlp(block, class_shifted(tokens))


SHIFTS: dict[str, Callable[[Tower, nn.Module, Tensor, Tensor | None], Tensor]] = {
    shift.__name__: shift
    for shift in (temporal_shift, token_shift, temporal_shift_in_branches, token_shift_in_branches)
}
