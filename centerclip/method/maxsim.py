"""Similarities of videos of several vectors to texts: late interaction."""

import torch
from torch import Tensor


def maxsim(videos: Tensor, texts: Tensor, mask: Tensor | None = None) -> Tensor:
    """The similarities [V, T] of texts [T, E] to videos [V, E], or to the most similar vector of each of videos
    [V, k, E] that counts by the mask [V, k] bool; None: vectors of zeros do not count. With k = 1 the similarities are
    those of [V, E] to the bit."""
    if videos.ndim == 3 and videos.shape[1] == 1:
        videos = videos[:, 0]
    if videos.ndim == 2:
        return videos @ texts.T
    mask = videos.any(-1) if mask is None else mask
    similarities = (videos.flatten(0, 1) @ texts.T).unflatten(0, videos.shape[:2])
    return similarities.masked_fill(~mask[..., None], -torch.inf).amax(1)


def maxsim_in_parts(videos: Tensor, texts: Tensor, mask: Tensor, numbers: int) -> Tensor:
    """`maxsim` of videos [V, k, E], of any float dtype, to texts [T, E], in the texts' dtype and without a gradient. It
    takes the memory of [V, T] and of about so many `numbers`, whatever V and k."""
    part = max(1, numbers // (videos.shape[1] * max(texts.shape)))
    similarities = texts.new_empty(len(videos), len(texts))
    for some, counts, found in zip(*(each.split(part) for each in (videos, mask, similarities)), strict=True):
        found[:] = maxsim(some.to(texts.dtype), texts, counts)
    return similarities
