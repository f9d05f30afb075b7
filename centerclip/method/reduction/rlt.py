"""Run-length tokenisation (Choudhury et al., NeurIPS 2024): patches that do not change are not encoded again."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

KIND = "sampling"
REVISION = 1
SEES = "pixels"


def rlt(frames: Tensor, patch: int, *, threshold: Annotated[float, ">= 0"] = 0.1) -> Tensor:
    """Which patches of a video's frames are encoded: all of the first frame, and each patch that differs from the same
    patch of the frame before.

    They differ if the mean absolute difference of their pixels is more than `threshold`. How many are left depends on
    the video, so that frames have different numbers of tokens (`packed.py`). Patches are left out behind the patch
    embedding, which is 3 % of a ViT-B/32's operations; the others keep their positions. Nothing tells how long a patch
    stays the same: the authors' length embedding is off by default. O(pixels).

    Args:
        frames: [B, T, 3, H, W] float, normalised.
        patch: side of a patch in pixels.
        threshold: a patch that changes by no more is left out; in units of the normalised pixels.

    Returns:
        [B, T, N] bool.
    """
    return F.pad(~(changes(frames, patch) <= threshold), (0, 0, 1, 0), value=True)  # what is not a number stays, too


def changes(frames: Tensor, patch: int) -> Tensor:
    """Mean absolute differences [B, T - 1, N] of each patch of frames [B, T, 3, H, W] to that of the frame before."""
    between = (frames[:, 1:] - frames[:, :-1]).abs().flatten(0, 1)
    means = F.avg_pool2d(between, patch).mean(1).flatten(1)
    return means.unflatten(0, (len(frames), frames.shape[1] - 1))
