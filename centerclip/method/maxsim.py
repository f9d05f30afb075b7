"""Similarities of videos of several vectors to texts: late interaction."""

import torch
from torch import Tensor


def maxsim(videos: Tensor, texts: Tensor) -> Tensor:
    """The similarities [V, T] of texts [T, E] to videos [V, E], or to the most similar vector of each of videos
    [V, k, E]. A vector of zeros does not count. Of k = 1 similarities are those of [V, E] to the bit."""
    if videos.ndim == 3 and videos.shape[1] == 1:
        videos = videos[:, 0]
    if videos.ndim == 2:
        return videos @ texts.T
    similarities = (videos.flatten(0, 1) @ texts.T).unflatten(0, videos.shape[:2])
    return similarities.masked_fill(~videos.any(-1)[..., None], -torch.inf).amax(1)


def maxsim_in_parts(videos: Tensor, texts: Tensor, numbers: int) -> Tensor:
    """`maxsim` of videos [V, k, E], of any float dtype, to texts [T, E] in float32, without a gradient and in parts of
    about so many numbers, so that no more memory is taken than of that and [V, T]."""
    part = max(1, numbers // (videos.shape[1] * max(texts.shape)))
    similarities = texts.new_empty(len(videos), len(texts))
    for some, found in zip(videos.split(part), similarities.split(part), strict=True):
        found[:] = maxsim(some.to(texts.dtype), texts)
    return similarities
