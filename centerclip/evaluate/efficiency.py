"""Measure costs of variants side by side, with random weights and generated videos: operations, memory, time."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from math import inf
from operator import truediv
from statistics import median

import numpy as np
import torch
from torch import Tensor

from centerclip.backbones.clip import CenterCLIP, build
from centerclip.backbones.device import autocast, device_name
from centerclip.backbones.low_rank import merge
from centerclip.command import tell
from centerclip.evaluate.costs import elapsed, generated, gflops, milliseconds, saved_bytes, tokens_per_block
from centerclip.settings.cell import Cell
from centerclip.settings.schema import Runtime
from centerclip.train.loop import Run, prepare, train_step

GAIN = 0.05  # share of a video's time that a batch twice as large must save before a larger one is tried
QUIET = 0.1  # largest share by which two times of one network differ in a turn on a quiet machine
SECONDS = 2.0  # least time of all turns together


def groups(cells: list[Cell]) -> list[list[Cell]]:
    """`cells` in groups whose costs can be compared."""
    return [[cell for cell in cells if cell.group == group] for group in dict.fromkeys(cell.group for cell in cells)]


def baseline(cells: list[Cell]) -> int:
    """The index of the baseline of a group: a plain CLIP that is no control, trained if possible, else the first."""
    plain = [(cell.model.plain_clip and cell.against is None, cell.trained) for cell in cells]
    return plain.index(max(plain))


def measure(
    cells: list[Cell], device: torch.device, repeats: int, largest: int = 1, deadline: float = inf
) -> list[dict]:
    """The costs of a group of `cells`, a row each: of encoding a video and batches of up to `largest`, and the GPU
    memory of encoding and of a training step. After the first turn, no turn and no larger batch starts that would end
    later than `deadline` (`perf_counter`)."""
    cells = [replace(cell, model=replace(cell.model, weights=None), runtime=Runtime()) for cell in cells]
    rows = encoding(cells, device, repeats, largest, deadline)  # whose models are gone when training needs the memory
    memory = [inference_memory(cell, device) | training_memory(cell, device) for cell in cells]
    return [row | taken for row, taken in zip(rows, memory, strict=True)]


def encoding(cells: list[Cell], device: torch.device, repeats: int, largest: int, deadline: float = inf) -> list[dict]:
    """The costs of encoding a video: times in the precision of evaluation, medians over turns, and other costs in
    float32. Ratios are to the group's baseline; that of times is the median of each turn's ratio."""
    models, visuals, first = [], {}, baseline(cells)
    for cell in cells:
        size = cell.data.image_size
        models.append(build(cell.model, 0, size).eval().to(device))
        models[-1].visual = visuals.setdefault((cell.model.backbone, size), models[-1].visual)  # equal weights, once
    shapes = [cell.data.shape for cell in cells]
    videos = generated(1, shapes, device)
    with autocast(device, cells[0].precision):
        *times, again = milliseconds([*models, models[first]], [*videos, videos[first]], repeats, SECONDS, deadline)
        whole = [[turn for turn, _ in turns] for turns in times]
        batches = best_batches(models, shapes, list(map(median, whole)), repeats, largest, deadline)
    disturbed = busy([*cells, cells[first]], [*whole, [turn for turn, _ in again]])
    rows = [
        {
            "benchmark": cell.benchmark,
            "variant": cell.variant,
            "backbone": cell.model.backbone,
            "frames": cell.data.frames,
            "measured_on": device_name(device),
            "tokens_per_block": tokens_per_block(model, video),
            "ms": median(turns),
            "ms_p95": float(np.percentile(turns, 95)),
            "ms_low": min(turns),
            "ms_high": max(turns),
            "clustering_share": median(inside / turn for turn, inside in both),
            "batch": batch,
            "batch_ms": batch_ms,
            "turns": len(turns),
            "busy": disturbed,
            "gflops": gflops(model, video),
            **training_costs(model, video, cell),
        }
        for cell, model, video, turns, both, (batch, batch_ms) in zip(
            cells, models, videos, whole, times, batches, strict=True
        )
    ]
    for row, turns in zip(rows, whole, strict=True):
        row["ms_ratio"] = median(map(truediv, turns, whole[first]))
        for name in ("gflops", "saved_mb"):
            known = None not in (row[name], rows[first][name])
            row[f"{name}_ratio"] = row[name] / rows[first][name] if known else None
    return rows


def training_costs(model: CenterCLIP, video: Tensor, cell: Cell) -> dict:
    """Bytes that a training step keeps of a video for the backward pass, and parameters that train, both in 10^6; None
    for a cell that is not trained."""
    if not cell.trained:
        return dict.fromkeys(("saved_mb", "trainable_m"))
    prepare(model, cell.training)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    costs = {"saved_mb": saved_bytes(model, video) / 1e6, "trainable_m": trainable / 1e6}
    merge(model)  # other models share its visual side
    return costs


def busy(cells: list[Cell], times: list[list[float]]) -> bool:
    """Whether two `times` of one network, lists over turns, differ by more than QUIET in the median turn: another
    program was running. A line on the terminal says so."""
    for (one, first), (other, second) in combinations(zip(cells, times, strict=True), 2):
        apart = median(max(turns) / min(turns) for turns in zip(first, second, strict=True))
        if (one.model, one.data) == (other.model, other.data) and apart > 1 + QUIET:
            same = f"{one.variant} and {other.variant} are one network"
            names = same if one.variant != other.variant else f"{one.variant} was timed twice"
            times_differ = f"{names} and took times that differ by {apart - 1:.0%}"
            tell(f"warning: {one.benchmark}: {times_differ}: the machine was busy, and the times are marked so")
            return True
    return False


def best_batches(
    models: list[CenterCLIP],
    shapes: list[tuple[int, int]],
    ms: list[float],
    repeats: int,
    largest: int,
    deadline: float = inf,
) -> list[tuple[int, float]]:
    """For each model the fastest batch of 1, 2, 4, ... `largest` videos of its shape (frames, pixels), and its ms a
    video; `ms` are those of batch 1. A model is done when a batch gains less than GAIN; all are done when a batch does
    not fit the GPU's memory or would end later than `deadline`."""
    best = [(1, alone) for alone in ms]
    gaining, batch = list(range(len(models))), 2
    while gaining and batch <= largest:
        seconds = (1 + repeats) * batch * sum(best[index][1] for index in gaining) / 1000  # with the warm-up, at most
        if time.perf_counter() + seconds > deadline:
            break
        try:
            videos = generated(batch, [shapes[index] for index in gaining], models[0].logit_scale.device)
            times = milliseconds([models[index] for index in gaining], videos, repeats, SECONDS)
        except torch.OutOfMemoryError:
            break
        measured = {index: median(whole for whole, _ in turns) for index, turns in zip(gaining, times, strict=True)}
        gaining = [index for index in gaining if measured[index] < (1 - GAIN) * best[index][1]]
        for index in gaining:
            best[index] = batch, measured[index]
        batch *= 2
    return best


def training_steps(cell: Cell, device: torch.device) -> Iterator[Run]:
    """Yield the training of a cell after each real step on `costs.batch_size` pairs of noise. The first step makes
    AdamW's moments and finds the chunk that the memory holds."""
    count, (frames, size) = cell.costs.batch_size, cell.data.shape
    run = Run(replace(cell, training=replace(cell.training, batch_size=count)), device)
    run.model.train()
    pinned = device.type == "cuda"  # as the loader of training has it
    pixels = torch.randint(256, (count, frames, 3, size, size), dtype=torch.uint8, pin_memory=pinned)
    mask = torch.ones(count, frames, dtype=torch.bool)
    ids = torch.randint(1, run.model.vocab_size, (count, cell.data.text_tokens))
    while True:
        train_step(run, [pixels, mask, ids], 1.0)
        yield run


@torch.no_grad()
def inference_memory(cell: Cell, device: torch.device) -> dict:
    """Peak GPU memory of encoding `costs.batch_size` videos in GB (10^9 bytes), with weights and videos; None on a CPU,
    and if the GPU does not hold the batch."""
    if device.type != "cuda":
        return {"inference_gb": None}
    model = build(cell.model, 0, cell.data.image_size).eval().to(device)
    (videos,) = generated(cell.costs.batch_size, [cell.data.shape], device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with autocast(device, cell.precision):
            model.video_vectors(videos)
    except torch.OutOfMemoryError:
        return {"inference_gb": None}
    return {"inference_gb": torch.cuda.max_memory_allocated(device) / 1e9}


def training_memory(cell: Cell, device: torch.device) -> dict:
    """Peak GPU memory of a training step of `costs.batch_size` pairs in GB (10^9 bytes), of tensors and with PyTorch's
    reserve, its ms, and the pairs encoded at a time. All are None on a CPU and for a cell that is not trained; memory
    and ms also if the GPU holds only a part of the batch."""
    measured = dict.fromkeys(("training_gb", "training_reserved_gb", "training_chunk", "step_ms"))
    if device.type != "cuda" or not cell.trained:
        return measured
    steps = training_steps(cell, device)
    run = next(steps)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    ms = elapsed(lambda: next(steps), run.model.logit_scale)
    if run.chunk >= cell.costs.batch_size:
        measured["training_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        measured["training_reserved_gb"] = torch.cuda.max_memory_reserved(device) / 1e9
        measured["step_ms"] = ms
    return measured | {"training_chunk": run.chunk}
