"""Spectral clustering's two ways to the distances between rows, by a solver and by products of matrices: what each
takes, and how many of its medoids are those of the solver in float64. In encoders of random weights, of made-up videos.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from centerclip import backbones
from centerclip.backbones.clip import build
from centerclip.backbones.device import pick_device
from centerclip.bench.algorithms import in_turns, keep
from centerclip.command import positive, run
from centerclip.evaluate.costs import smooth_videos
from centerclip.method.reduction.kmedoids import alternate, pairwise_distances
from centerclip.method.reduction.spectral import (
    affinity,
    distances_by_products,
    distances_by_solver,
    nearest,
    normalised,
    published_neighbours,
)
from centerclip.method.stage import Model, Stage

BLOCK = 6  # the one that clusters, as published
# Backbone, frames, segments, clusters, videos: MSR-VTT with S=4, ActivityNet with S=12, MSVD by ViT-B-16 with S=4.
SHAPES = [("ViT-B-32", 12, 4, 49, 16), ("ViT-B-32", 60, 12, 49, 1), ("ViT-B-16", 12, 4, 160, 2)]
WAYS: dict[str, Callable[[Tensor, int], Tensor]] = {"solver": distances_by_solver, "products": distances_by_products}


def tokens(backbone: str, frames: int, segments: int, clusters: int, videos: int, device: torch.device) -> Tensor:
    """What BLOCK's clustering is given of made-up videos: tokens [videos * segments, N, D] float32."""
    model = build(Model(backbone, stages=(Stage("spectral", BLOCK, segments, clusters),)), 0).eval().to(device)
    seen = []
    model.stages[str(BLOCK)].reduction.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model.encode_video(smooth_videos(videos, frames, backbones.geometry(backbone).image_size).to(device))
    return seen[0]


def measure(shape: tuple, sigma: float | None, repeats: int, device: torch.device) -> dict:
    """A row for one of SHAPES: for each of WAYS the ms to the distances, the median of `repeats` turns, and the share
    of the medoids that are those of the solver in float64; and the `gap` of the problems."""
    _, frames, segments, clusters, _ = shape
    given = tokens(*shape, device)
    distances, joined = pairwise_distances(given, precision=torch.float32), frames // segments
    edges = nearest(distances, published_neighbours(given.shape[1], joined))
    weights, exact = (affinity(part, edges, sigma) for part in (distances, distances.double()))

    def medoids(between: Tensor) -> Tensor:
        first = torch.zeros(len(between), dtype=torch.int64, device=device)
        return alternate(between, first, clusters, 100)[0]

    expected = medoids(distances_by_solver(exact, clusters))
    row = {"tokens": f"{given.shape[1]} -> {clusters}", "problems": len(given), "sigma": str(sigma)}
    row["gap"] = gap(exact, clusters)
    for name, way in WAYS.items():
        found = medoids(way(weights, clusters))
        row[f"{name}, medoids"] = float((found[:, :, None] == expected[:, None]).any(-1).double().mean())
    return row | in_turns(
        {f"{name}, ms": partial(way, weights, clusters) for name, way in WAYS.items()}, repeats, weights
    )


def gap(weights: Tensor, clusters: int) -> float:
    """The least difference between eigenvalues K and K + 1 of the normalised Laplacians of weights [B, N, N], K < N."""
    values = torch.linalg.eigvalsh(normalised(weights))
    return float((values[:, -clusters] - values[:, -clusters - 1]).min())


def rows(repeats: int, device: torch.device) -> list[dict]:
    """`measure` of all of SHAPES, with the published sigma and with one that is free of the tokens' scale."""
    asked = [(shape, sigma) for sigma in (None, 2.0) for shape in SHAPES]
    return [measure(*each, repeats, device) for each in tqdm(asked, "spectral", unit="shape")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.spectral", description=__doc__)
    parser.add_argument("--repeats", type=positive, default=7, help="turns that each takes (default: 7)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        torch.set_flush_denormal(True)  # which the products have at a small sigma, and CPUs are slow with
        device = pick_device()
        table = pd.DataFrame(rows(arguments.repeats, device))
        print(table.to_markdown(index=False, floatfmt=".3g"))
        keep(arguments, device, table)

    run(parser, job)


if __name__ == "__main__":
    main()
