"""The shifts by name, baselines of the paper for every block: tokens [B, T, 1 + N, D], [CLASS] first, in and out.

A shift keeps every token. Names are also in the schema of the config.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SHARE = 8  # one channel in so many comes from the next frame, one from the previous


def temporal_shift(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D] with the first D / 8 channels the next frame's and the second the previous frame's.

    Zeros come in at the video's ends, as in TSM, from which the paper has it.
    """
    part = tokens.shape[-1] // SHARE
    following, previous, rest = tokens.split([part, part, tokens.shape[-1] - 2 * part], -1)
    nothing = torch.zeros_like(following[:, :1])
    following = torch.cat([following[:, 1:], nothing], 1)
    previous = torch.cat([nothing, previous[:, :-1]], 1)
    return torch.cat([following, previous, rest], -1)


def token_shift(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D] with the [CLASS] tokens shifted as in `temporal_shift`."""
    return torch.cat([temporal_shift(tokens[:, :, :1]), tokens[:, :, 1:]], 2)


SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {shift.__name__: shift for shift in (temporal_shift, token_shift)}
