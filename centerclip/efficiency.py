"""What a model costs: operations, memory and time of encoding one video."""

import statistics
import time
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from centerclip.model import CenterCLIP


@contextmanager
def plain_attention():
    """Turn off PyTorch's fused inference kernel of attention: the flop counter cannot see into it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def gflops(model: CenterCLIP, frames: Tensor) -> float:
    """10^9 floating-point operations (2 a multiply-add) of encoding `frames` [B, T, 3, H, W], per video."""
    with plain_attention(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode_video(frames)
    return counter.get_total_flops() / len(frames) / 1e9


def saved_bytes(model: CenterCLIP, frames: Tensor) -> float:
    """Bytes autograd keeps for the backward pass of `frames` [B, T, 3, H, W], per video; parameters apart, shared
    storage once. The same on every device with the same kernels."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}  # storage address -> the tensor (kept alive, so that no address is used twice)

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.encode_video(frames)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / len(frames)


def milliseconds(model: CenterCLIP, frames: Tensor, repeats: int = 5) -> float:
    """Median wall time in ms of encoding `frames` [B, T, 3, H, W] without gradient, per video, after a warm-up."""
    times = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            synchronise(frames)
            start = time.perf_counter()
            model.encode_video(frames)
            synchronise(frames)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:]) / len(frames)


def synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
