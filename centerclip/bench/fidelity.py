"""Where this project follows the authors' public code and where it does not, with what each choice changes, measured
with made-up weights and videos: python -m centerclip.bench.fidelity --out docs/fidelity.md
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from centerclip import backbones
from centerclip.backbones.clip import build, freeze
from centerclip.command import atomic, positive, run, typed
from centerclip.data.video.batches import sample
from centerclip.data.video.decoding import Shown
from centerclip.data.video.extraction import choose
from centerclip.evaluate.costs import saved_bytes, smooth_videos
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.spectral import spectral
from centerclip.method.stage import Model, Stage
from centerclip.report.documents import Table, markdown
from centerclip.settings.cell import Training
from centerclip.train.loop import learning_rate_factor, parameter_groups

FRAMES = 12
MSVD = {"videos": 670, "captions a video": 41, "share of captions of two videos or more": 0.157}


class Sample:
    """Made-up videos, and models of a backbone with the same made-up weights: the baseline, k-medoids++ and spectral
    clustering in 4 segments after half of the blocks."""

    def __init__(self, videos: int, backbone: str):
        geometry = backbones.geometry(backbone)
        self.videos = smooth_videos(videos, FRAMES, geometry.image_size)
        self.block, self.baseline = geometry.blocks // 2, Model(backbone)
        self.kmedoids, self.spectral = self.staged("kmedoids"), self.staged("spectral")

    def staged(self, algorithm: str, **settings) -> Model:
        """The model with a stage of these further settings."""
        return replace(self.baseline, stages=(Stage(algorithm, self.block, 4, 49, **settings),))

    @torch.no_grad()
    def vectors(self, model: Model, real: int = FRAMES, precision: torch.dtype | None = None) -> Tensor:
        """The video vectors [V, E] of a model, of videos with `real` frames and the last repeated, on the CPU in
        float32 or under autocast."""
        built = build(model, seed=0).eval()
        indices = torch.arange(FRAMES).clamp(max=real - 1)
        mask = (torch.arange(FRAMES) < real).expand(len(self.videos), -1)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            return built.encode_video(self.videos[:, indices], mask)

    @cached_property
    def tokens(self) -> Tensor:
        """What the stages cluster: [B, N, D]."""
        given, built = [], build(self.kmedoids, seed=0).eval()
        built.stages[str(self.block)].reduction.register_forward_pre_hook(lambda _, given_to: given.append(given_to[0]))
        with torch.no_grad():
            built.encode_video(self.videos)
        return given[0]


def alike(one: Tensor, other: Tensor) -> str:
    """The lowest cosine of vectors [V, E] that belong together."""
    return f"cosine of video vectors {(one * other).sum(-1).min():.6f}"


def shared(one: Tensor, other: Tensor) -> str:
    """How many medoids [B, K] of one are medoids of the other."""
    return f"{(one[:, :, None] == other[:, None]).any(2).double().mean():.0%} of medoids equal"


def stem(made: Sample) -> str:
    def megabytes(model: Model, frozen: str) -> float:
        freeze(built := build(model, seed=0), frozen)
        return saved_bytes(built, made.videos[:1].clone()) / 1e6

    parts = [
        f"{name} {megabytes(model, 'stem'):.1f} instead of {megabytes(model, 'none'):.1f}"
        for name, model in (("baseline", made.baseline), ("k-medoids", made.kmedoids))
    ]
    freeze(built := build(made.baseline, seed=0), "stem")
    still = sum(parameter.numel() for parameter in built.parameters() if not parameter.requires_grad)
    saved = f"{still / 1e6:.1f} million parameters without gradient and moments, {12 * still / 1e9:.2f} GB less"
    return f"MB a video saved for backward: {' and '.join(parts)}; {saved}"


def graph(made: Sample) -> str:
    options = {"sigma": None, "neighbours": 16}
    medoids = spectral(made.tokens, 49, frames=3)[0], spectral(made.tokens, 49, **options)[0]
    vectors = made.vectors(made.spectral), made.vectors(made.staged("spectral", options=options))
    return f"{shared(*medoids)}, {alike(*vectors)}"


def shifts(made: Sample) -> str:
    parts = []
    for name in ("temporal_shift", "token_shift"):
        both = [made.vectors(replace(made.baseline, shift=shift)) for shift in (name, f"{name}_in_branches")]
        parts.append(f"{name}: {alike(*both)}")
    return "; ".join(parts)


def padding(made: Sample) -> str:
    drop, keep = made.kmedoids, made.staged("kmedoids", padded="keep")
    both = {real: (made.vectors(drop, real), made.vectors(keep, real)) for real in (2, 7, 8)}
    return "; ".join(f"{real} frames of 12: {alike(*vectors)}" for real, vectors in both.items())


def spans(_: Sample) -> str:
    unseen = [1 - available // FRAMES * FRAMES / available for available in range(12, 61)]
    mean = sum(unseen) / len(unseen)
    return f"of videos of 12 to 60 frames {mean:.0%} of the frames are never drawn, at most {max(unseen):.0%}"


def lowered(made: Sample, *precisions: torch.dtype) -> str:
    exact = made.vectors(made.kmedoids)
    vectors = {str(precision): made.vectors(made.kmedoids, precision=precision) for precision in precisions}
    return "; ".join(f"{name.removeprefix('torch.')}: {alike(exact, other)}" for name, other in vectors.items())


def evaluated(made: Sample) -> str:
    return lowered(made, torch.bfloat16)


def trained(made: Sample) -> str:
    return lowered(made, torch.float16, torch.bfloat16)


def decayed(made: Sample) -> str:
    counts = []
    for no_decay in ("biases", "vectors"):
        groups = parameter_groups(build(made.baseline, seed=0), Training(no_decay=no_decay))
        counts.append(sum(p.numel() for group in groups if group["weight_decay"] for p in group["params"]))
    return f"{counts[0] - counts[1]:,} numbers of {counts[0] / 1e6:.0f} million"


def embedding(made: Sample) -> str:
    learned = made.vectors(made.staged("kmedoids", embedding=True))
    return f"from one that starts at zero, before any training: {alike(learned, made.vectors(made.kmedoids))}"


def ties(_: Sample) -> str:
    """Made-up vectors in MSVD's shape."""
    generator = torch.Generator().manual_seed(0)
    count, each, share = MSVD.values()
    videos = F.normalize(torch.randn(count, 64, generator=generator), dim=-1)
    noise = torch.randn(count * each, 64, generator=generator)
    truth = torch.arange(count).repeat_interleave(each)
    texts = F.normalize(videos[truth] + 0.25 * noise, dim=-1)
    common = torch.rand(len(texts), generator=generator) < share / 2
    others = torch.randint(len(texts), (int(common.sum()),), generator=generator)
    texts[common] = texts[others]  # the same sentence of another video
    metrics = retrieval_metrics(texts, videos, truth)
    both = [part["video_to_text"]["R@1"] for part in (metrics, metrics["published"])]
    t2v = [part["text_to_video"]["R@1"] for part in (metrics, metrics["published"])]
    words = f"v2t R@1 {both[0]:.1f} here and {both[1]:.1f} by their count, t2v R@1 {t2v[0]:.1f} and {t2v[1]:.1f}"
    return f"made-up vectors in the shape of MSVD's test split: {words}"


def pairs(made: Sample) -> str:
    _, assignment = kmedoids(made.tokens, 49)
    sizes = F.one_hot(assignment, 49).sum(1)
    return f"{(sizes == 2).double().mean():.0%} of the clusters have two members"


def first_medoid(made: Sample) -> str:
    ours, _ = kmedoids(made.tokens, 49, normalise=True)
    theirs, _ = kmedoids(F.normalize(made.tokens, dim=-1), 49)
    return shared(ours, theirs)


def stored(_: Sample) -> str:
    counts = [len(choose(Shown(torch.arange(int(30 * end)).numpy() / 30, end), 3, 0, end)) for end in (1.0, 3.5)]
    return f"of 1.0 s {counts[0]} frames, theirs 5; of 3.5 s {counts[1]}, theirs 12"


def warmed(_: Sample) -> str:
    """Of the longest and of the shortest of the published trainings."""

    def shares(captions: int, epochs: int) -> tuple[float, float]:
        steps = captions // 128 * epochs
        rates = [learning_rate_factor(step, steps, 0.1) for step in range(steps)]
        rising = 0.1 * steps
        other = [(step + 1) / (rising + 1) if step < rising else rate for step, rate in enumerate(rates)]
        return 1 / (rising + 1), sum(other) / sum(rates) - 1

    (msrvtt, msrvtt_sum), (didemo, didemo_sum) = shares(180_000, 5), shares(8_395, 8)
    rates = f"rates of warm-up up to {msrvtt:.2%} (MSR-VTT) to {didemo:.1%} (DiDeMo) of the peak higher"
    return f"{rates}, their sum {msrvtt_sum:.3%} to {didemo_sum:.2%}"


def rounded(_: Sample) -> str:
    def differing(count: int) -> int:
        def differs(available: int) -> bool:
            other = ((np.arange(count) + 0.5) * (available / count)).astype(int)
            return not np.array_equal(sample(available, count)[0], other)

        return sum(map(differs, range(count, 3001)))

    return f"of videos of up to 3,000 frames {differing(12)} lengths at T = 12, {differing(60)} at T = 60, by one frame"


def beyond_end(_: Sample) -> str:
    here = {end: len(choose(Shown(np.arange(0, end, 0.04), end), 3, 0, end)) for end in np.arange(1, 180, 0.07)}
    more = [3 * math.ceil(end) + 1 - frames for end, frames in here.items()]
    return f"{min(more)} to {max(more)} frames more"


class Choice(NamedTuple):
    """A choice on which the two codes may differ, in words, and what it changes."""

    what: str
    authors: str
    here: str  # what else can be chosen or, where this project differs, what it does
    why: str
    switch: str
    effect: Callable[[Sample], str] | None = None


FOLLOWED = [
    Choice(
        "Frozen stem",
        "token, position and class embeddings, patch convolution and the LayerNorm behind it do not train",
        "everything trains",
        "weights that start at random need their stem trained: the demo's do",
        "`training: {frozen: none}`",
        stem,
    ),
    Choice(
        "Spectral graph",
        "sigma 2 between tokens as they are; 5 neighbours a frame, the token itself counted, 5 more from 100 tokens on",
        "sigma is the root mean square length of the edges",
        "another backbone's tokens may have another scale",
        "`options: {sigma: null, neighbours: 16}` of a stage",
        graph,
    ),
    Choice(
        "Shifts",
        "on the residual stream: patches once a block; [CLASS] before attention and before the MLP",
        "only what attention and MLP see is shifted",
        "the residual path stays whole, as in TSM's residual shift",
        "`shift: temporal_shift_in_branches`",
        shifts,
    ),
    Choice(
        "Short videos",
        "a segment counts if its last frame is real; [CLASS] is the mean over all its frames; with none of them NaN,"
        " here the last one with a real frame, and results say of how many videos (`n_videos_short`)",
        "a segment counts if any frame is real; [CLASS] is the mean over these",
        "no real frame is dropped",
        "`stage: {padded: keep}` of a benchmark",
        padding,
    ),
    Choice(
        "Frames drawn in training",
        "of spans of floor(frames / T), so that the end of a video is never seen",
        "of equal parts of the whole video",
        "the end of a clip may be what its caption tells: the demo's is",
        "`training: {spans: whole}`",
        spans,
    ),
    Choice(
        "Precision of evaluation",
        "float32",
        "bfloat16 or float16 autocast",
        "faster on a GPU",
        "`evaluation: {precision: bfloat16}`",
        evaluated,
    ),
    Choice(
        "Precision of training",
        "float16 autocast with scaled gradients",
        "bfloat16 autocast, or float32",
        "bfloat16 does not overflow",
        "`training: {precision: bfloat16}`",
        trained,
    ),
    Choice(
        "Weight decay",
        "on all but biases: their list of exceptions matches no other name of CLIP's",
        "not on LayerNorms, the class embedding and the logit scale either",
        "the usual recipe",
        "`training: {no_decay: vectors}`",
        decayed,
    ),
    Choice(
        "Selected epoch",
        "best t2v R@1 on the test split, the later of equal ones",
        "by the validation split, or the last",
        "test data selects nothing",
        "`select: val` or `last`",
    ),
    Choice(
        "Cluster embedding",
        "starts as the patches' positional embedding, at CLIP's learning rate",
        "another rate",
        "a new parameter may want a higher one",
        "`training: {lr_new: 5.0e-3}`",
        embedding,
    ),
    Choice(
        "Sparse sampling of tokens",
        "in training one draw a batch and segment",
        "a draw a video",
        "nothing would be gained, and results would depend on chunks and GPUs",
        "none",
    ),
    Choice(
        "Warm-up",
        "step / rise, from step 0 on: the first one changes nothing (1e-11 in place of 0)",
        "(step + 1) / (rise + 1)",
        "no step is lost",
        "none",
        warmed,
    ),
    Choice(
        "Frames of evaluation",
        "the middle of T spans of n frames: int(n / T / 2 + n / T * i)",
        "int((i + 0.5) * n / T)",
        "exact where the middle is a whole number",
        "none",
        rounded,
    ),
    Choice(
        "Ties of medoids",
        "the member of the lower index, so of two members the first",
        "the medoid stays",
        "nothing moves without a gain",
        "none",
        pairs,
    ),
    Choice(
        "DiDeMo's length",
        "94 frames of a video, at 0 s to 31 s",
        "all of it",
        "nothing is dropped",
        "`source: {seconds: null}`",
    ),
]
DEVIATIONS = [
    Choice(
        "Frames",
        "of videos re-encoded by FFmpeg at 3 frames a second, 224 px: two more a clip, the first repeated, the others"
        " late by up to a frame",
        "those shown at (i + 0.5) / 3 s, as JPEGs of quality 85, 4:2:0",
        "right by the clock, whatever the file",
        "`fps: all` and `source: {local: {videos: DIRECTORY}}` with their re-encoded videos: every frame, without loss",
        stored,
    ),
    Choice(
        "Ties",
        "every tied position is a hit, and a query of its own; but where videos have several captions (MSVD), a caption"
        " has one rank, with equal videos in their order; the median is the lower of the middle two ranks",
        "a tie counts against the query; the median is the mean of the middle two",
        "a model that tells nothing apart should score nothing",
        "results have both counts; what is compared with published numbers is theirs",
        ties,
    ),
    Choice(
        "Gradient clipping",
        "with several GPUs the encoders' gradients are divided by their number, which makes the limit of 1.0 looser",
        "the gradient of the whole batch, however many GPUs",
        "a result should not depend on the number of GPUs",
        "`training: {clip_norm: 2.0}` for their 2 GPUs",
    ),
    Choice(
        "DiDeMo's captions",
        "a description whose video is not called as in the list is skipped: 71 of 4,180 of val, 89 of 4,021 of test",
        "all descriptions of a video, by either of its names",
        "the lists are not published with the data",
        "`source: {lists: DIRECTORY}`",
        lambda _: "29 of 1,065 paragraphs of val and 33 of 1,004 of test",
    ),
    Choice(
        "ActivityNet's videos",
        "9,933 of train and 4,869 of test: those of their `video_path.json`, less one that they call broken",
        "all with captions, 10,009 and 4,917, less those without a file",
        "what is there counts",
        "`source: {lists: FILE}`, their `video_path.json`, and `counts` of 9933 and 4869, or 4870 with the broken one",
        lambda _: "76 and 48 videos more, if they are there; captions of the others equal",
    ),
    Choice(
        "ActivityNet's end",
        "3 * ceil(duration) frames and one more, as both ends count",
        "frames up to the annotated duration",
        "right by the clock",
        "none",
        beyond_end,
    ),
    Choice(
        "Clamp of the scale",
        "its logarithm is at most 4.6052",
        "ln 100",
        "what the paper says",
        "none",
        lambda _: f"{4.6052 - math.log(100):.0e}, and training does not reach it",
    ),
    Choice(
        "`normalise`",
        "the first medoid by the norms after normalising, all 1 but for rounding; spectral ignores the flag",
        "by the norms before; spectral takes it",
        "the same on every machine",
        "none",
        first_medoid,
    ),
    Choice(
        "Memory in the tables",
        "may be GiB, the peak of the whole run, evaluation and buckets of several GPUs (about 0.5 GB) included",
        "GB, the peak of one training step",
        "what a step needs",
        "compare ratios, as the summary does",
        lambda _: f"{2**30 / 1e9 - 1:.0%} by the unit alone",
    ),
    Choice(
        "Time in the tables",
        "a timer around loading, both encoders, batches of 16 to 64",
        "the video encoder alone, one video and the best batch",
        "what clustering changes",
        "compare ratios, as the summary does",
    ),
]
INTRODUCTION = """\
# Fidelity: what the authors' code does and what we do

Made by `{command}`; do not edit. The default of every benchmark of the paper is
the published recipe: the paper's where it says, and otherwise that of its authors' public code, read for facts and not
copied. Effects are measured with made-up weights of {backbone}, {videos} generated videos of 12 frames and 4 segments
of 49 tokens after half of the blocks, on a CPU in float32: they say how much a choice moves the network, not what it
does to recall, which wants real weights and data. A cosine is the lowest of the {videos} videos; with made-up weights
all vectors are close, so that small differences from 1 count."""


def table(choices: list[Choice], here: str, made: Sample) -> Table:
    """A line a choice, its effect measured."""
    rows = [
        [
            choice.what,
            choice.authors,
            choice.here,
            choice.why,
            choice.switch,
            choice.effect(made) if choice.effect else "",
        ]
        for choice in tqdm(choices, here, unit="choice")
    ]
    names = ["", "the authors' code", here, "why", "how to switch", "what it changes"]
    return Table(pd.DataFrame(rows, columns=names), len(names))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.fidelity", description=__doc__)
    parser.add_argument("--videos", type=positive, default=4, help="to measure on (default: 4)")
    parser.add_argument("--backbone", type=backbones.named, default="ViT-B-32", help="(default: ViT-B-32)")
    parser.add_argument("--out", required=True, type=Path, help="the page, markdown")

    def job(arguments: argparse.Namespace) -> None:
        made = Sample(arguments.videos, arguments.backbone)
        parts = [
            INTRODUCTION.format(command=typed(parser), videos=arguments.videos, backbone=arguments.backbone),
            "## Followed: the default, and the other choice",
            table(FOLLOWED, "the other choice", made),
            "## Deviations: where the default differs",
            table(DEVIATIONS, "here", made),
        ]
        with atomic(arguments.out) as temporary:
            temporary.write_text(markdown(parts))

    run(parser, job)


if __name__ == "__main__":
    main()
