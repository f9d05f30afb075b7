"""What a model costs: operations, memory and time of encoding one video."""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from centerclip import clustering
from centerclip.config import cell, check_cell
from centerclip.model import CenterCLIP, build, pick_device
from centerclip.stage import UserError, run, write_json


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


def milliseconds(models: list[CenterCLIP], frames: Tensor, repeats: int = 5) -> list[list[tuple[float, float]]]:
    """Wall time of encoding `frames` [B, T, 3, H, W] without gradient, per video, after a warm-up: for each model
    `repeats` pairs (whole, in clustering) in ms. The models take turns, so that a slow moment meets all of them."""
    times = [[] for _ in models]
    with torch.no_grad():
        for turn in range(repeats + 1):
            for model, own in zip(models, times, strict=True):
                with clustering_time(frames) as spent:
                    start = now(frames)
                    model.encode_video(frames)
                    whole = now(frames) - start
                if turn:
                    own.append((1000 * whole / len(frames), 1000 * sum(spent) / len(frames)))
    return times


@contextmanager
def clustering_time(frames: Tensor) -> Iterator[list[float]]:
    """Yield a list that fills with the seconds each call of a clustering takes."""
    cluster, spent = clustering.cluster, []

    def timed(*arguments, **context):
        start = now(frames)
        result = cluster(*arguments, **context)
        spent.append(now(frames) - start)
        return result

    clustering.cluster = timed
    try:
        yield spent
    finally:
        clustering.cluster = cluster


def now(tensor: Tensor) -> float:
    """Seconds, when all work on the tensor's device is done."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def tokens_per_block(model: CenterCLIP, frames: Tensor) -> list[int]:
    """Tokens, [CLASS] ones included, that each block sees of one video of `frames` [B, T, 3, H, W]."""
    counts = []

    def count(_, arguments: tuple[Tensor]) -> None:
        counts.append(arguments[0].shape[0] * arguments[0].shape[1] // len(frames))

    hooks = [block.ln_1.register_forward_pre_hook(count) for block in model.visual.transformer.resblocks]
    with plain_attention(), torch.no_grad():
        model.encode_video(frames)
    for hook in hooks:
        hook.remove()
    return counts


def smooth_video(frames: int, size: int, seed: int = 0) -> Tensor:
    """A generated video float32 [1, frames, 3, size, size]: smooth noise that drifts, so that frames resemble their
    neighbours as a real video's do."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 8, 8 + frames // 4, generator=generator)
    step = max(1, size // 32)  # pixels a frame
    wide = F.interpolate(coarse, size=(size, size + step * frames), mode="bicubic")
    return torch.stack([wide[..., step * t : step * t + size] for t in range(frames)], 1)


def measure(cells: list[dict], device: torch.device, repeats: int) -> list[dict]:
    """What each of `cells` (resolved settings that share backbone and frames) costs with random weights, per video of
    a smooth generated one; ratios are to the first, that of times the median of the turns' own ratios."""
    models = [build(one["backbone"], one["stages"], one["shift"]).eval().to(device) for one in cells]
    frames = smooth_video(cells[0]["frames"], cells[0]["image_size"]).to(device)
    rows, first = [], None
    for settings, model, times in zip(cells, models, milliseconds(models, frames, repeats), strict=True):
        whole = [time for time, _ in times]
        first = first or whole
        rows.append(
            {
                "benchmark": settings["benchmark"],
                "variant": settings["variant"],
                "backbone": settings["backbone"],
                "frames": settings["frames"],
                "tokens_per_block": tokens_per_block(model, frames),
                "ms": statistics.median(whole),
                "ms_low": min(whole),
                "ms_high": max(whole),
                "clustering_share": statistics.median(inside / time for time, inside in times),
                "gflops": gflops(model, frames),
                "saved_mb": saved_bytes(model, frames) / 1e6,
                "ms_ratio": statistics.median(own / other for own, other in zip(whole, first, strict=True)),
            }
        )
        for name in ("gflops", "saved_mb"):
            rows[-1][f"{name}_ratio"] = rows[-1][name] / rows[0][name]
    return rows


HEADLINE = {  # the paper's claims on cost: baseline first
    "msrvtt": ["baseline", "kmedoids-s4", "kmedoids-s3", "spectral-s4", "spectral-s3"],
    "activitynet": ["baseline", "kmedoids-s15", "kmedoids-s12", "spectral-s15"],
    "msvd": ["baseline-b16", "kmedoids-b16-s4"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.efficiency", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--benchmark", help="of the config; without, the paper's headline settings are measured")
    parser.add_argument("--variants", nargs="+", help="of the config, of one backbone and frames; the baseline first")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        device = pick_device()
        config = yaml.safe_load(arguments.config.read_text())
        if bool(arguments.benchmark) != bool(arguments.variants):
            raise UserError("--benchmark and --variants go together")
        chosen = {arguments.benchmark: arguments.variants} if arguments.benchmark else HEADLINE
        groups = [[cell(config, benchmark, name) for name in names] for benchmark, names in chosen.items()]
        for cells in groups:
            for one in cells:
                check_cell(one)
            if len({(one["backbone"], one["frames"]) for one in cells}) > 1:
                raise UserError("variants to compare must share their backbone and frames")
        rows = []
        for cells in tqdm(groups, "efficiency", unit="group"):
            rows += measure(cells, device, arguments.repeats)
        table = pd.DataFrame(rows)
        table["time / GFLOPs"] = table["ms_ratio"] / table["gflops_ratio"]
        print(table.drop(columns="tokens_per_block").round(3).to_markdown(index=False))
        if arguments.out:
            said = {"device": str(device), "threads": arguments.threads, "repeats": arguments.repeats}
            write_json(arguments.out, said | {"rows": table.to_dict("records")})

    run(parser, job)


if __name__ == "__main__":
    main()
