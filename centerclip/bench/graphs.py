"""Encoding a batch of videos as one CUDA graph beside launch by launch."""

from collections.abc import Callable

import torch
from torch import Tensor

from centerclip.backbones.clip import CenterCLIP
from centerclip.bench.algorithms import in_turns
from centerclip.command import first_line


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`work` on a GPU, on tensors that stay where they are, as a CUDA graph.

    Raises:
        RuntimeError: it cannot be one.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):  # libraries loaded, kernels made
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def measure(model: CenterCLIP, videos: Tensor, precision: str, repeats: int) -> dict:
    """The ms a video of encoding videos [B, T, 3, H, W] on a GPU in either way, medians of `repeats` turns, and whether
    the vectors are equal; or why it cannot be a graph."""
    mask = torch.ones(videos.shape[:2], dtype=torch.bool, device=videos.device)

    @torch.no_grad()
    def encode() -> Tensor:
        # Without the cache of weights, which would be emptied behind the graph's back
        with torch.autocast("cuda", getattr(torch, precision), cache_enabled=False):
            return model.encode_video(videos, mask)

    try:
        ways = {"launches, ms": encode, "graph, ms": captured(encode)}
        vectors = [way() for way in ways.values()]
        times = in_turns(ways, repeats, videos)
    except RuntimeError as error:
        return {"no graph, as": first_line(error)}
    return {name: ms / len(videos) for name, ms in times.items()} | {"equal": torch.equal(*vectors)}
