"""Measure the figures of docs/fidelity.md, with random weights and generated videos on a CPU, and print a table."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from centerclip import backbones
from centerclip.backbones.clip import build, freeze
from centerclip.command import positive, run
from centerclip.data.video.batches import sample
from centerclip.data.video.decoding import Shown
from centerclip.data.video.extraction import choose
from centerclip.evaluate.costs import saved_bytes, smooth_videos
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.spectral import spectral
from centerclip.method.stage import Model, Stage
from centerclip.settings.schema import Training
from centerclip.train.loop import learning_rate_factor, parameter_groups

FRAMES, SEGMENTS, CLUSTERS = 12, 4, 49
OWN_GRAPH = {"sigma": None, "neighbours": 16}
VIDEOS, CAPTIONS, SHARED = 670, 41, 0.157  # MSVD's test split; the share of captions that two videos or more have


def of_network(backbone: str, count: int) -> Iterator[tuple[str, str]]:
    """Each choice that changes the network, and its effect on `backbone` for `count` generated videos."""
    geometry = backbones.geometry(backbone)
    videos, block, baseline = smooth_videos(count, FRAMES, geometry.image_size), geometry.blocks // 2, Model(backbone)

    def staged(algorithm: str, **settings) -> Model:
        return replace(baseline, stages=(Stage(algorithm, block, SEGMENTS, CLUSTERS, **settings),))

    @torch.no_grad()
    def vectors(model: Model, real: int = FRAMES, precision: torch.dtype | None = None) -> Tensor:
        """[V, E] of videos with `real` frames, the last one repeated, in float32 or under autocast."""
        indices, mask = torch.arange(FRAMES).clamp(max=real - 1), (torch.arange(FRAMES) < real).expand(count, -1)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            return build(model, seed=0).eval().encode_video(videos[:, indices], mask)

    def cosines(model: Model, other: Model, real: int = FRAMES) -> str:
        return cosine(vectors(model, real), vectors(other, real))

    def megabytes(model: Model, frozen: str) -> float:
        freeze(built := build(model, seed=0), frozen)
        return saved_bytes(built, videos[:1].clone()) / 1e6

    clustered, given = staged("kmedoids"), []
    built = build(clustered, seed=0).eval()
    built.stages[str(block)].reduction.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    with torch.no_grad():
        exact = built.encode_video(videos)
    (tokens,) = given

    for name, model in (("baseline", baseline), ("k-medoids", clustered)):
        yield "Frozen stem", f"{name} {megabytes(model, 'stem'):.1f} instead of {megabytes(model, 'none'):.1f} MB"
    yield "Spectral graph", same(spectral(tokens, CLUSTERS, frames=3)[0], spectral(tokens, CLUSTERS, **OWN_GRAPH)[0])
    yield "Spectral graph", cosines(staged("spectral"), staged("spectral", options=OWN_GRAPH))
    for shift in ("temporal_shift", "token_shift"):
        both = [replace(baseline, shift=name) for name in (shift, f"{shift}_in_branches")]
        yield "Shifts", f"{shift}: {cosines(*both)}"
    for real in (2, 7, 8):
        yield "Short videos", f"{real} frames: {cosines(clustered, staged('kmedoids', padded='keep'), real)}"
    for name in ("float16", "bfloat16"):
        yield "Precision of training", f"{name}: {cosine(exact, vectors(clustered, precision=getattr(torch, name)))}"
    counts = [decayed(build(baseline, seed=0), no_decay) for no_decay in ("biases", "vectors")]
    yield "Weight decay", f"{counts[0] - counts[1]:,} of {counts[0] / 1e6:.0f} million numbers"
    yield "Cluster embedding", cosines(staged("kmedoids", embedding=True), clustered)
    pairs = (F.one_hot(kmedoids(tokens, CLUSTERS)[1], CLUSTERS).sum(1) == 2).double().mean()
    yield "Ties of medoids", f"{pairs:.0%} of the clusters have two members"
    by_norm, by_rounding = kmedoids(tokens, CLUSTERS, normalise=True), kmedoids(F.normalize(tokens, dim=-1), CLUSTERS)
    yield "`normalise`", same(by_norm[0], by_rounding[0])


def of_rules() -> Iterator[tuple[str, str]]:
    """Each choice that does not depend on a network, and its effect, the same on every machine."""
    unseen = [1 - available // FRAMES * FRAMES / available for available in range(12, 61)]
    yield "Frames drawn in training", f"{sum(unseen) / len(unseen):.0%} in the mean, {max(unseen):.0%} at most"
    for benchmark, captions, epochs in (("MSR-VTT", 180_000, 5), ("DiDeMo", 8_395, 8)):  # the longest, the shortest
        steps, rise = captions // 128 * epochs, 0.1 * (captions // 128 * epochs)
        ours = [learning_rate_factor(step, steps, 0.1) for step in range(steps)]
        other = [(step + 1) / (rise + 1) if step < rise else rate for step, rate in enumerate(ours)]
        yield "Warm-up", f"{benchmark}: {1 / (rise + 1):.2%} of the peak, the sum {sum(other) / sum(ours) - 1:.3%}"
    for count in (12, 60):
        spans = {available: (np.arange(count) + 0.5) * (available / count) for available in range(count, 3001)}
        lengths = [not np.array_equal(sample(length, count)[0], span.astype(int)) for length, span in spans.items()]
        yield "Frames of evaluation", f"{sum(lengths)} lengths at T = {count}"
    for end in (1.0, 3.5):
        yield "Frames", f"{len(choose(Shown(np.arange(int(30 * end)) / 30, end), 3, 0, end))} frames of {end} s"
    yield "Ties", ties()
    ends = np.arange(1, 180, 0.07)
    more = [3 * math.ceil(end) + 1 - len(choose(Shown(np.arange(0, end, 0.04), end), 3, 0, end)) for end in ends]
    yield "ActivityNet's end", f"{min(more)} to {max(more)} frames more"


def cosine(one: Tensor, other: Tensor) -> str:
    """The lowest cosine between rows of vectors [V, E], in words."""
    return f"cosine {(one * other).sum(-1).min():.6f}"


def same(one: Tensor, other: Tensor) -> str:
    """The share of medoids [B, K] that both have, in words."""
    return f"{(one[:, :, None] == other[:, None]).any(2).double().mean():.0%} of medoids equal"


def decayed(model: torch.nn.Module, no_decay: str) -> int:
    """The number of a model's parameters with weight decay."""
    groups = parameter_groups(model, Training(no_decay=no_decay))
    return sum(parameter.numel() for group in groups if group["weight_decay"] for parameter in group["params"])


def ties() -> str:
    """R@1 of generated vectors in the shape of MSVD's test split, by both counts of ties, in words."""
    generator = torch.Generator().manual_seed(0)
    videos = F.normalize(torch.randn(VIDEOS, 64, generator=generator), dim=-1)
    noise = torch.randn(VIDEOS * CAPTIONS, 64, generator=generator)
    truth = torch.arange(VIDEOS).repeat_interleave(CAPTIONS)
    texts = F.normalize(videos[truth] + 0.25 * noise, dim=-1)
    common = torch.rand(len(texts), generator=generator) < SHARED / 2
    texts[common] = texts[torch.randint(len(texts), (int(common.sum()),), generator=generator)]
    counts = (ours := retrieval_metrics(texts, videos, truth), ours["published"])
    v2t, t2v = ([count[way]["R@1"] for count in counts] for way in ("video_to_text", "text_to_video"))
    return f"v2t R@1 {v2t[0]:.1f} here, {v2t[1]:.1f} theirs; t2v {t2v[0]:.1f} and {t2v[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.fidelity", description=__doc__)
    parser.add_argument("--videos", type=positive, default=4, help="number of generated videos (default: 4)")
    parser.add_argument("--backbone", type=backbones.named, default="ViT-B-32", help="architecture (default: ViT-B-32)")

    def job(arguments: argparse.Namespace) -> None:
        print("| choice | what it changes |\n|:--|:--|")
        for measured in (of_network(arguments.backbone, arguments.videos), of_rules()):
            for choice, effect in measured:
                print(f"| {choice} | {effect} |", flush=True)

    run(parser, job)


if __name__ == "__main__":
    main()
