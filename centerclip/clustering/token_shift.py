"""Token shift: a baseline of the paper, which keeps every token."""

import torch
from torch import Tensor

from centerclip.clustering.temporal_shift import temporal_shift


def token_shift(tokens: Tensor) -> Tensor:
    """Tokens [B, T, 1 + N, D] with the [CLASS] tokens shifted as in `temporal_shift`."""
    return torch.cat([temporal_shift(tokens[:, :, :1]), tokens[:, :, 1:]], 2)
