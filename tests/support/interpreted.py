"""The kernel of a GPU run on the CPU, for test_kernel.py: in processes that start with TRITON_INTERPRET=1."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from unittest import mock

import torch
from torch import Tensor

from centerclip.backbones.clip import build
from centerclip.evaluate.costs import smooth_videos
from centerclip.method.reduction import algorithm
from centerclip.method.reduction.kmedoids import alternate, longest, pairwise_distances
from centerclip.method.reduction.spectral import spectral
from centerclip.method.stage import Model

GPU_BRANCHES = f"{alternate.__module__}.in_one_launch", f"{spectral.__module__}.uses_matrix_products"


def problems(batch: int, count: int, seed: int) -> Tensor:
    """Tokens [batch, count, 4]: random, tied, duplicated, clustered, collinear and constant ones in turns."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, 4, generator=generator)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, (*shape, 4), generator=generator).float()

    kinds = (
        lambda: normal(count),
        lambda: whole(count),
        lambda: normal(-(-count // 3)).repeat_interleave(3, 0)[torch.randperm(count, generator=generator)],
        lambda: 9 * normal(4)[torch.randint(4, (count,), generator=generator)] + 0.1 * normal(count),
        lambda: torch.arange(count)[:, None] * torch.tensor([3.0, 4.0, 0.0, 0.0]),
        lambda: torch.full((count, 4), 7.0),
    )
    return torch.stack([kind() for kind in islice(cycle(kinds), batch)])


def agreeing(shape: tuple[int, int, int], iterations: int) -> tuple[int, int]:
    """How many problems of a shape (batch, tokens, clusters) have the same medoids and assignment by the kernel as by
    the torch path, of how many."""
    from centerclip.method.reduction.kernel import alternate_in_one_launch

    batch, count, clusters = shape
    tokens = problems(batch, count, seed=count * 10_000 + clusters)
    given = pairwise_distances(tokens), longest(tokens), clusters, iterations
    same = [(ours == expected).all(1) for ours, expected in zip(alternate_in_one_launch(*given), alternate(*given),
                                                               strict=True)]  # fmt: skip
    return int((same[0] & same[1]).sum()), batch


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Algorithms take a GPU's branches."""
    one, other = (mock.patch(branch, return_value=True) for branch in GPU_BRANCHES)
    with one, other:
        yield


def medoids(options: dict, bad: float, clusters: int) -> list[list[int]]:
    """The medoids, by the GPU's branch, of two problems of 12 tokens; a number of the first's token 7 is `bad`."""
    tokens = problems(2, 12, seed=0)
    tokens[0, 7, 1] = bad
    with as_on_a_gpu():
        return algorithm("kmedoids")(tokens, clusters, **options)[0].tolist()


def vectors(model: Model, bad: float | None) -> Tensor:
    """Two videos' vectors [2, E] by the GPU's branch, a pixel of the first of which is `bad`, if anything."""
    frames = smooth_videos(2, 6, 56)
    if bad is not None:
        frames[0, 2, 1, 50, 3] = bad
    with torch.no_grad(), as_on_a_gpu():
        return build(model, seed=0).eval().encode_video(frames)
