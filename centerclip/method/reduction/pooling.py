"""Mean pooling over a segment's frames, patch by patch: a baseline of the paper."""

import torch
from torch import Tensor

KIND = "sampling"
KEEPS = "patches"
REVISION = 1
STAYS = "mean"


def pooling(tokens: Tensor, clusters: int, *, frames: int) -> tuple[Tensor, Tensor]:
    """A cluster is one patch in all frames, its medoid the middle frame's; a stage with `keep: mean` pools."""
    batch, count, _ = tokens.shape
    if clusters * frames != count:
        raise ValueError(f"pooling keeps {count // frames} tokens of {count} in {frames} frames, not {clusters}")
    patch = torch.arange(clusters, device=tokens.device)
    return (frames // 2 * clusters + patch).expand(batch, -1), patch.repeat(frames).expand(batch, -1)
