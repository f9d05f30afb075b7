"""Temporal shift: a baseline of the paper, which keeps every token."""

import torch
from torch import Tensor

SHARE = 8  # one channel in so many comes from the next frame, one from the previous


def temporal_shift(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D] with the first D / 8 channels the next frame's and the second the previous frame's.

    Zeros come in at the video's ends, as in TSM, from which the paper has it.
    """
    part = tokens.shape[-1] // SHARE
    following, previous, own = tokens.split([part, part, tokens.shape[-1] - 2 * part], -1)
    nothing = torch.zeros_like(following[:, :1])
    following = torch.cat([following[:, 1:], nothing], 1)
    previous = torch.cat([nothing, previous[:, :-1]], 1)
    return torch.cat([following, previous, own], -1)
