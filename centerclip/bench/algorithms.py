"""Our clustering algorithms beside naive ones, on the paper's shapes in one run: median time, peak memory, ratios.

The naive way is how one writes it down first: distances repeated for every cluster, [B, K, N, N], to find its medoid,
and a full SVD of every segment's Laplacian.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from centerclip.backbones.device import device_name, pick_device
from centerclip.command import positive, run, write_json
from centerclip.evaluate.costs import elapsed, in_turns, now
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.spectral import spectral

WIDTH = 768
# Segments, tokens, clusters: 16 videos of MSR-VTT with S=4 (ViT-B-32), one of ActivityNet with S=12, two of MSR-VTT
# with ViT-B-16 and S=4, one of ActivityNet with ViT-B-16 and S=15.
SHAPES = [(64, 147, 49), (12, 245, 49), (8, 588, 160), (15, 784, 160)]
PATIENCE = 30  # seconds after which no further turn starts
NEIGHBOURS = 15  # of both sides, a token itself counted


def naive_kmedoids(tokens: Tensor, clusters: int) -> Tensor:
    """Medoids [B, K] of tokens [B, N, D], with a [B, K, N, N] tensor in every round."""
    distances = torch.cdist(tokens, tokens)
    batch = torch.arange(len(tokens), device=tokens.device)[:, None]
    medoids = tokens.norm(dim=-1).argmax(-1, keepdim=True)
    while medoids.shape[1] < clusters:
        nearest = distances[batch, medoids].amin(1).scatter(1, medoids, -1)
        medoids = torch.cat([medoids, nearest.argmax(-1, keepdim=True)], 1)
    for _ in range(100):
        assignment = distances[batch, medoids].scatter(2, medoids[:, :, None], -1).argmin(1)
        member = F.one_hot(assignment, clusters).mT.bool()  # [B, K, N]
        repeated = distances[:, None].repeat(1, clusters, 1, 1) * member[:, :, None]
        moved = repeated.sum(-1).masked_fill(~member, torch.inf).argmin(-1)
        if torch.equal(moved, medoids):
            break
        medoids = moved
    return medoids.sort(-1).values


def naive_spectral(tokens: Tensor, clusters: int) -> Tensor:
    """Medoids [B, K] of tokens [B, N, D], by a full SVD of each Laplacian."""
    distances = torch.cdist(tokens, tokens)
    ranked = distances.topk(NEIGHBOURS, largest=False).indices
    edges = torch.zeros_like(distances).scatter(2, ranked, 1)
    edges = torch.maximum(edges, edges.mT)
    variance = (distances.square() * edges).sum((1, 2), keepdim=True) / edges.sum((1, 2), keepdim=True)
    weights = torch.exp(-distances.square() / (2 * variance)) * edges
    root = weights.sum(-1).rsqrt()
    laplacian = torch.eye(tokens.shape[1], device=tokens.device) - root[:, :, None] * weights * root[:, None, :]
    vectors = torch.linalg.svd(laplacian)[0][:, :, -clusters:]
    return naive_kmedoids(F.normalize(vectors, dim=-1), clusters)


PEERS = {
    "kmedoids": (kmedoids, naive_kmedoids),
    "spectral": (partial(spectral, neighbours=NEIGHBOURS, sigma=None), naive_spectral),
}


def random_tokens(segments: int, count: int) -> Tensor:
    """Tokens [B, N, WIDTH] float32 from a normal distribution."""
    return torch.randn(segments, count, WIDTH, generator=torch.Generator().manual_seed(0))


def peak_resident() -> int:
    """The most bytes that this process has had in memory so far. Linux only."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    ]
    return 1024 * int(line.split()[1])


def peak_bytes(function: Callable, segments: int, count: int, clusters: int, device: torch.device) -> int:
    """Memory that one call adds at most: of a GPU what is allocated, of a CPU what is resident, for which this is to be
    called in a process of its own. Linux only."""

    def peak() -> int:
        return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident()

    tokens = random_tokens(segments, count).to(device)
    function(tokens[:1, :64], 8)  # libraries loaded and warm
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak()
    function(tokens, clusters)
    return peak() - before


def measure(shape: tuple[int, int, int], repeats: int, device: torch.device) -> list[dict]:
    """A row for each algorithm on one shape; the two sides of each take turns."""
    segments, count, clusters = shape
    tokens = random_tokens(segments, count).to(device)
    rows = []
    for name, sides in PEERS.items():
        ways = [partial(elapsed, partial(side, tokens, clusters), tokens) for side in sides]
        ms, naive_ms = map(median, in_turns(ways, repeats, deadline=now() + PATIENCE))
        if device.type == "cuda":  # whose memory another process would not have, while this one holds it in reserve
            memory = [peak_bytes(side, *shape, device) / 1e6 for side in sides]
        else:
            with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
                memory = [pool.submit(peak_bytes, side, *shape, device).result() / 1e6 for side in sides]
        row = {"tokens": f"{count} -> {clusters}", "segments": segments, "algorithm": name}
        times = {"ms": ms, "naive_ms": naive_ms, "ratio": naive_ms / ms}
        rows.append(row | times | {"mb": memory[0], "naive_mb": memory[1]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.algorithms", description=__doc__)
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        device, rows = pick_device(), []
        for shape in tqdm(SHAPES, "clustering", unit="shape"):
            rows += measure(shape, arguments.repeats, device)
        table = pd.DataFrame(rows)
        print(table.round(1).to_markdown(index=False))
        last = table[table["tokens"] == table["tokens"].iloc[-1]].set_index("algorithm")["ms"]
        print(f"spectral takes {last['spectral'] / last['kmedoids']:.1f} times as long as kmedoids on the last shape")
        if arguments.out:
            conditions = {"threads": arguments.threads, "repeats": arguments.repeats, "device": device_name(device)}
            write_json(arguments.out, conditions | {"rows": table.to_dict("records")})

    run(parser, job)


if __name__ == "__main__":
    main()
