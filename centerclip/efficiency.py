"""What variants cost beside each other, with random weights and generated videos: operations, memory, time."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from tqdm import tqdm

from centerclip.config import cell, check_cell, read_config
from centerclip.costs import gflops, milliseconds, saved_bytes, smooth_videos, tokens_per_block
from centerclip.evaluation import autocast
from centerclip.model import CenterCLIP, build, device_name, pick_device
from centerclip.stage import UserError, positive, run, write_json
from centerclip.training import Run, train_step

GAIN = 0.05  # share of a video's time that a batch twice as large must save, or it is not worth trying a larger one
SECONDS = 2.0  # of turns at least, where a turn takes little: many, as the machine's noise asks for


def groups(cells: list[dict]) -> list[list[dict]]:
    """`cells` (resolved settings) in groups of one backbone and number of frames, which can be compared."""
    found = {}
    for one in cells:
        found.setdefault((one["backbone"], one["frames"]), []).append(one)
    return list(found.values())


def baseline(cells: list[dict]) -> int:
    """The index of the cell that the others of its group are compared with: the first without stages and shift, or
    the first of all."""
    return next((index for index, one in enumerate(cells) if not one["stages"] and not one["shift"]), 0)


def measure(cells: list[dict], device: torch.device, repeats: int, largest: int = 1) -> list[dict]:
    """What each of a group of `cells` costs: encoding one smooth generated video, encoding batches of up to `largest`,
    and a step of training."""
    rows = encoding(cells, device, repeats, largest)  # whose models are gone when training needs the memory
    return [row | training_memory(one, device) for row, one in zip(rows, cells, strict=True)]


def encoding(cells: list[dict], device: torch.device, repeats: int, largest: int) -> list[dict]:
    """The costs of encoding, per video; ratios are to the group's baseline, that of times the median of the turns' own
    ratios. Times are in the precision of evaluation on `device`, the other costs in float32."""
    models = []
    for one in cells:
        models.append(build(one["backbone"], one["stages"], one["shift"]).eval().to(device))
        models[-1].visual = models[0].visual  # equal weights, in memory once
    shape = cells[0]["frames"], cells[0]["image_size"]
    video = smooth_videos(1, *shape).to(device)
    with autocast(device):
        times = milliseconds(models, video, repeats, SECONDS)
        batches = best_batches(models, shape, [median(whole for whole, _ in own) for own in times], repeats, largest)
    rows = []
    for one, model, own, (batch, batch_ms) in zip(cells, models, times, batches, strict=True):
        whole = [time for time, _ in own]
        rows.append(
            {
                **{key: one[key] for key in ("benchmark", "variant", "backbone", "frames")},
                "tokens_per_block": tokens_per_block(model, video),
                "ms": median(whole),
                "ms_low": min(whole),
                "ms_high": max(whole),
                "clustering_share": median(inside / time for time, inside in own),
                "batch": batch,
                "batch_ms": batch_ms,
                "gflops": gflops(model, video),
                "saved_mb": saved_bytes(model, video) / 1e6,
            }
        )
    first = baseline(cells)
    for row, own in zip(rows, times, strict=True):
        row["ms_ratio"] = median(time / other for (time, _), (other, _) in zip(own, times[first], strict=True))
        for name in ("gflops", "saved_mb"):
            row[f"{name}_ratio"] = row[name] / rows[first][name]
    return rows


def best_batches(
    models: list[CenterCLIP], shape: tuple[int, int], ms: list[float], repeats: int, largest: int
) -> list[tuple[int, float]]:
    """For each model the batch, of 1, 2, 4, ... `largest`, that encodes the most videos of `shape` (frames, pixels) a
    second, and its ms a video; `ms` are those of batch 1. A model is done when a batch gains it less than GAIN, all
    are when one runs out of the GPU's memory."""
    best = [(1, time) for time in ms]
    gaining, batch = list(range(len(models))), 2
    while gaining and batch <= largest:
        videos = smooth_videos(batch, *shape).to(models[0].logit_scale.device)
        try:
            times = milliseconds([models[index] for index in gaining], videos, repeats, SECONDS)
        except torch.OutOfMemoryError:
            break
        now = {index: median(whole for whole, _ in own) for index, own in zip(gaining, times, strict=True)}
        gaining = [index for index in gaining if now[index] < (1 - GAIN) * best[index][1]]
        for index in gaining:
            best[index] = batch, now[index]
        batch *= 2
    return best


def memory_batch(settings: dict) -> int:
    """Pairs of the training step whose memory is measured."""
    return min(settings["training"]["batch_size"], settings["training"]["gpu_batch"])


def training_steps(settings: dict, device: torch.device) -> Iterator[Run]:
    """The training run of `settings` after each of any number of real steps, on `memory_batch` pairs of noise. The
    first makes AdamW's moments and finds out how many pairs the memory holds at a time; those after it are alike."""
    training = Run(settings | {"weights": None}, "", device)
    training.model.train()
    count, frames, size = memory_batch(settings), settings["frames"], settings["image_size"]
    pixels = torch.randint(256, (count, frames, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(count, frames, dtype=torch.bool)
    ids = torch.randint(1, 49408, (count, settings["words"]))
    while True:
        train_step(training, [pixels, mask, ids], 1.0)
        yield training


def training_memory(settings: dict, device: torch.device) -> dict:
    """Peak GPU memory of a training step of `memory_batch` pairs in GB (10^9 bytes), of tensors and with what PyTorch
    holds in reserve, and the pairs encoded at a time. None for a cell that is not trained and on a CPU, whose memory is
    another thing; the memory also where the GPU holds only a part of the batch, which compares with nothing."""
    if device.type != "cuda" or not settings["train"]:
        return {"train_memory_gb": None, "train_reserved_gb": None, "train_chunk": None}
    steps = training_steps(settings, device)
    next(steps)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    chunk = next(steps).chunk
    whole = chunk >= memory_batch(settings)
    return {
        "train_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if whole else None,
        "train_reserved_gb": torch.cuda.max_memory_reserved(device) / 1e9 if whole else None,
        "train_chunk": chunk,
    }


HEADLINE = {  # the paper's claims on cost
    "msrvtt": ["baseline", "kmedoids-s4", "kmedoids-s3", "spectral-s4", "spectral-s3"],
    "activitynet": ["baseline", "kmedoids-s15", "kmedoids-s12", "spectral-s15"],
    "msvd": ["baseline-b16", "kmedoids-b16-s4"],
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], help="changes to config/config.yaml, as for snakemake"
    )
    parser.add_argument("--benchmark", help="of the config; without, the paper's headline settings are measured")
    parser.add_argument(
        "--variants", nargs="+", help="of the config, measured beside those of their backbone and frames"
    )
    parser.add_argument("--settings", type=json.loads, help="instead of these: cells' resolved settings, a json list")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument(
        "--largest-batch", type=positive, default=1, help="try batches of up to so many videos; default 1"
    )
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="also write everything here, json")


def job(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = pick_device()
    rows = []
    for group in tqdm(groups(chosen(arguments)), "efficiency", unit="group"):
        rows += measure(group, device, arguments.repeats, arguments.largest_batch)
    table = pd.DataFrame(rows).drop(columns="tokens_per_block").dropna(axis="columns", how="all")
    table["time / GFLOPs"] = table["ms_ratio"] / table["gflops_ratio"]
    print(table.round(3).to_markdown(index=False))
    if arguments.out:
        said = {"device": device_name(device), "threads": arguments.threads, "repeats": arguments.repeats}
        write_json(arguments.out, said | {"rows": rows})


def chosen(arguments: argparse.Namespace) -> list[dict]:
    """The cells that the command line asks for. Raises UserError for what the config does not have."""
    if arguments.settings:
        return arguments.settings
    if bool(arguments.benchmark) != bool(arguments.variants):
        raise UserError("--benchmark and --variants go together")
    asked = {arguments.benchmark: arguments.variants} if arguments.benchmark else HEADLINE
    config = read_config(arguments.config)
    cells = [cell(config, benchmark, name) for benchmark, names in asked.items() for name in names]
    for one in cells:
        check_cell(one)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.efficiency", description=__doc__)
    add_options(parser)
    run(parser, job)


if __name__ == "__main__":
    main()
