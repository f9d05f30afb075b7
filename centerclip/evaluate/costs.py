"""Measure the costs of encoding a video: operations, bytes kept for the backward pass, time, tokens."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, starmap
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from centerclip.backbones.clip import CenterCLIP
from centerclip.method.reduced import held_geometry
from centerclip.method.towers import tower_of

T = TypeVar("T")


@contextmanager
def plain_attention():
    """Turn off PyTorch's fused inference kernel of attention, because the flop counter cannot count it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def counted(work: Callable[[], object], module: nn.Module) -> int:
    """Floating-point operations (2 a multiply-add) of `work` without gradient, which uses parameters of `module`."""
    # The counter fails on a view of a parameter that requires a gradient, such as the queries of an attention pool
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with plain_attention(), torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def gflops(model: CenterCLIP, frames: Tensor) -> float:
    """10^9 floating-point operations (2 a multiply-add) of encoding `frames` [B, T, 3, H, W], per video."""
    return counted(lambda: model.video_vectors(frames), model) / len(frames) / 1e9


def parts(model: nn.Module) -> dict:
    """The fields of `operations.Parts` of the video tower of a model, which may be on the meta device. Raises UserError
    for a tower that `centerclip.reduce` does not take."""
    geometry, tower = held_geometry(model), tower_of(model.visual)
    weight = next(tower.visual.parameters())
    frame = weight.new_empty(1, 3, geometry.image_size, geometry.image_size)
    tokens = weight.new_empty(1, geometry.classes + 2, geometry.width)

    def pooled(tokens: Tensor) -> int:
        return counted(lambda: tower.pool(tokens, geometry.classes), tower.visual)

    pooled_token = pooled(tokens) - pooled(tokens[:, 1:])
    block = tower.blocks[0]
    attention, mlp = (
        sum(weight.numel() for weight in part.parameters() if weight.ndim == 2) for part in (block.attn, block.mlp)
    )
    width = tower.projected(block, tokens).shape[-1] // 3
    return {
        "geometry": geometry,
        "stem": counted(lambda: tower.embed(frame), tower.visual),
        "attention": 2 * attention,
        "mlp": 2 * mlp,
        "pair": 4 * width,
        "pool": pooled(tokens) - tokens.shape[1] * pooled_token,
        "pooled_token": pooled_token,
        "head": width // block.attn.num_heads,
    }


def saved_bytes(model: CenterCLIP, frames: Tensor) -> float:
    """Bytes that autograd keeps for the backward pass of `frames` [B, T, 3, H, W], per video, without parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}  # storage address -> the tensor (kept alive, so that no address is used twice)

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters:
            kept[address] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.video_vectors(frames)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / len(frames)


def milliseconds(
    models: list[CenterCLIP], videos: list[Tensor], repeats: int = 5, seconds: float = 0, deadline: float = math.inf
) -> list[list[tuple[float, float]]]:
    """Times of encoding each model's `videos` [B, T, 3, H, W] without gradient, taken `in_turns`: for each model a list
    of pairs (whole, in reductions) in ms a video."""

    @torch.no_grad()
    def encode(model: CenterCLIP, frames: Tensor) -> tuple[float, float]:
        with in_reductions(model) as inside:
            whole = elapsed(lambda: model.video_vectors(frames), frames)
        return whole / len(frames), 1000 * sum(starmap(between, inside)) / len(frames)

    encodings = [partial(encode, *pair) for pair in zip(models, videos, strict=True)]
    return in_turns(encodings, repeats, seconds, deadline)


def in_turns(
    measurements: Sequence[Callable[[], T]], repeats: int, seconds: float = 0, deadline: float = math.inf
) -> list[list[T]]:
    """The results of each measurement, a list over turns, without a first turn that warms up.

    Measurements alternate, so that a slow moment meets all of them. There are at least `repeats` turns, and more until
    `seconds` are over. No turn after the first starts that would end later than `deadline` (`perf_counter`)."""
    found, end = [[] for _ in measurements], time.perf_counter() + seconds
    for turn in count():
        begin = time.perf_counter()
        for measure, values in zip(measurements, found, strict=True):
            value = measure()
            if turn:
                values.append(value)
        over = time.perf_counter()
        if turn and (2 * over - begin > deadline or (turn >= repeats and over > end)):
            return found


def elapsed(work: Callable[[], object], tensor: Tensor | None = None) -> float:
    """Time of `work` in ms, until the device of `tensor` has finished it."""
    start = now(tensor)
    work()
    return 1000 * (now(tensor) - start)


@contextmanager
def in_reductions(model: CenterCLIP) -> Iterator[list[tuple]]:
    """Yield a list that fills with the `moment`s before and after each call of a stage's algorithm."""
    spent, started = [], []

    def before(_, arguments: tuple) -> None:
        started.append(moment(arguments[0]))

    def after(_, arguments: tuple, output: tuple) -> None:
        spent.append((started.pop(), moment(arguments[0])))

    reductions = [stage.reduction for stage in model.stages.values()]
    hooks = [reduction.register_forward_pre_hook(before) for reduction in reductions]
    hooks += [reduction.register_forward_hook(after) for reduction in reductions]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def moment(tensor: Tensor) -> float | torch.cuda.Event:
    """The time when the device of `tensor` has finished all earlier work, for `between`; it waits for no GPU."""
    if not tensor.is_cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    """Seconds between two past moments."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def now(tensor: Tensor | None = None) -> float:
    """Seconds, when the tensor's device has finished all work."""
    if tensor is not None and tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def tokens_per_block(model: CenterCLIP, frames: Tensor) -> list[int]:
    """Tokens, including [CLASS], in the attention of each block for one video of `frames` [B, T, 3, H, W]."""
    counts = []

    def note(_, arguments: tuple[Tensor]) -> None:
        counts.append(arguments[0].shape[0] * arguments[0].shape[1] // len(frames))

    norms = [block.ln_1 if hasattr(block, "ln_1") else block.norm1 for block in model.tower.blocks]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    with plain_attention(), torch.no_grad():
        model.video_vectors(frames)
    for hook in hooks:
        hook.remove()
    return counts


def generated(count: int, shapes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
    """`count` smooth videos for each of `shapes` (frames, pixels); one tensor for equal shapes."""
    made = {shape: smooth_videos(count, *shape).to(device) for shape in dict.fromkeys(shapes)}
    return [made[shape] for shape in shapes]


def smooth_videos(count: int, frames: int, size: int, seed: int = 0) -> Tensor:
    """Generated videos float32 [count, frames, 3, size, size]: smooth noise that drifts, like frames of real videos."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8 + frames // 4, generator=generator)
    step = max(1, size // 32)  # pixels a frame
    wide = F.interpolate(coarse, size=(size, size + step * frames), mode="bicubic")
    return torch.stack([wide[..., step * t : step * t + size] for t in range(frames)], 1)
