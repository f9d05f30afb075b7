"""Measure operations and time that k-medoids++ saves in each family of backbones, with random weights and generated
videos."""

import argparse
from pathlib import Path
from typing import NamedTuple

import open_clip
import pandas as pd
import torch
from tqdm import tqdm

import centerclip
from centerclip.backbones.device import device_name, pick_device
from centerclip.command import positive, run, tell, typed
from centerclip.evaluate import operations
from centerclip.evaluate.costs import gflops, milliseconds, smooth_videos
from centerclip.method.reduced import ReducedCLIP
from centerclip.report import documents

SEED, FRAMES = 0, 12


class Case(NamedTuple):
    """A model of open_clip and a stage after half of its blocks; clusters None: as many as a frame has patches."""

    model: str
    segments: int
    clusters: int | None = None


CASES = [
    *(Case(name, 4) for name in ("ViT-B-32", "ViT-B-16", "ViT-B-16-SigLIP2", "PE-Core-B-16", "EVA02-B-16")),
    *(Case("PE-Core-T-16-384", *stage) for stage in ((4, None), (4, 144), (12, 192))),
]
TELLS = """\
The two models of a row were timed in turns. Times are the fastest turn of each, of one video. "Clustering" is the share
of clustering in the time of k-medoids. "Estimated" is the time ratio that `centerclip plan` expects.
Weights are random, so the table says nothing about recall."""


def measured(case: Case, turns: int, device: torch.device) -> dict:
    """A row of the table."""
    torch.manual_seed(SEED)
    clip = open_clip.create_model(case.model).eval().to(device)
    reduced = centerclip.reduce(clip, "kmedoids", segments=case.segments, clusters=case.clusters, frames=FRAMES)
    models, (stage,) = [ReducedCLIP(clip, (), False), reduced], reduced.settings.stages
    parts = operations.parts_of(clip)
    if line := operations.costly_clustering(parts, [stage], FRAMES):
        tell(f"warning: {case.model}, {stage.segments} segments of {stage.clusters}: {line}")
    video = smooth_videos(1, FRAMES, parts.geometry.image_size, SEED).to(device)
    times = milliseconds(models, [video, video], turns)
    (baseline, _), (ours, clustering) = map(min, times)
    counted = [gflops(model, video) for model in models]
    return {
        "model": case.model,
        "pixels": parts.geometry.image_size,
        "patches": parts.geometry.patches,
        "width": parts.geometry.width,
        "segments": stage.segments,
        "clusters": stage.clusters,
        "baseline GFLOPs": counted[0],
        "k-medoids GFLOPs": counted[1],
        "GFLOPs ratio": counted[1] / counted[0],
        "baseline s": baseline / 1000,
        "k-medoids s": ours / 1000,
        "time ratio": ours / baseline,
        "time / GFLOPs": ours * counted[0] / (baseline * counted[1]),
        "clustering": clustering / ours,
        "estimated": operations.shares(parts, [stage], FRAMES)[1],
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.families", description=__doc__)
    names = list(dict.fromkeys(case.model for case in CASES))
    parser.add_argument("--models", nargs="+", choices=names, default=names, help="models to measure (default: all)")
    parser.add_argument("--turns", type=positive, default=5, help="turns of each model (default: 5)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, help="write NAME.csv and the table NAME.md")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        device, cases = pick_device(), [case for case in CASES if case.model in arguments.models]
        table = pd.DataFrame([measured(case, arguments.turns, device) for case in tqdm(cases, "families")])
        text = table.drop(columns="turns").to_markdown(index=False, floatfmt=".3g")
        print(text)
        if arguments.out:
            where = f"{FRAMES} frames, {device_name(device)}, {arguments.threads} thread(s), seed {SEED},"
            where += f" {arguments.turns} turns, torch {torch.__version__}, open_clip {open_clip.__version__}"
            documents.write(arguments.out, [f"    {typed(parser)}", where, text, TELLS], ".md", table=table)

    run(parser, job)


if __name__ == "__main__":
    main()
