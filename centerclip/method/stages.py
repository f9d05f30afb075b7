"""A reduction stage: the frames of a segment become one sequence of fewer tokens (paper, section 3.3)."""

import json
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip.method import reduction
from centerclip.method.errors import UserError
from centerclip.method.reduction.contract import misshapen
from centerclip.method.stage import Stage


class Sequences(NamedTuple):
    """Videos inside the encoder: each is S sequences, frames or segments, of C [CLASS] tokens and N others.

    tokens: [B * S, C + N, D]. counts: [B, S * C] bool, which [CLASS] tokens count, or [B, S], which sequences, if C is
    0. classes: C. sizes: [B * S, C + N] float32, how many patches each token stands for; None while each is one.
    places: [B * S, C + N] int64, those of `Tower`; None where the tower needs none.
    """

    tokens: Tensor
    counts: Tensor
    classes: int = 1
    sizes: Tensor | None = None
    places: Tensor | None = None

    @property
    def sequences_per_video(self) -> int:
        """S."""
        return self.counts.shape[1] // max(self.classes, 1)


class Reduction(nn.Module):
    """A token-reduction algorithm with its options; it has no parameters and passes no gradient."""

    def __init__(self, algorithm: str, options: dict):
        super().__init__()
        self.algorithm, self.options, self.written = algorithm, options, json.dumps(options)
        self.function, self.context = reduction.algorithm(algorithm), reduction.context(algorithm)
        self.sees_pixels = reduction.sees_pixels(algorithm)

    def forward(self, seen: Tensor, *arguments: int, **context: object) -> tuple[Tensor, Tensor] | Tensor:
        """What the algorithm makes of `seen`, which for most is tokens [B, N, D] of any float dtype, a segment a row,
        its patches frame by frame, and of K: medoids [B, K] and assignment [B, N], both int64.

        `context` is what the algorithm may ask for: reduction.CONTEXT but for `training`. Raises UserError where the
        algorithm breaks its contract.
        """
        known = context | {"training": self.training}
        if torch.compiler.is_compiling() and not self.sees_pixels:
            return in_one_node(seen.detach(), *arguments, self.algorithm, self.written, **known)
        asked = {name: known[name] for name in self.context}
        # Algorithms compute in the precision that they state: autocast would lower their matrix products.
        with torch.no_grad(), torch.autocast(seen.device.type, enabled=False):
            result = self.function(seen.detach(), *arguments, **self.options, **asked)
        if wrong := misshapen(result, seen, *arguments) if not self.sees_pixels else None:
            raise UserError(f"algorithm {self.algorithm}: {wrong} (docs/reduction.md has the contract)")
        return result


@torch.library.custom_op("centerclip::reduction", mutates_args=())
def in_one_node(
    seen: Tensor,
    clusters: int,
    algorithm: str,
    options: str,
    frames: int,
    segments: int,
    classes: int,
    scores: Tensor | None,
    training: bool,
) -> tuple[Tensor, Tensor]:
    """A `Reduction` as one node of a graph of torch.compile or torch.export, which cannot follow an algorithm that
    iterates until nothing moves."""
    reduced = Reduction(algorithm, json.loads(options)).train(training)
    medoids, assignment = reduced(seen, clusters, frames=frames, segments=segments, classes=classes, scores=scores)
    return medoids.clone(memory_format=torch.contiguous_format), assignment.clone(memory_format=torch.contiguous_format)


@in_one_node.register_fake
def _(seen: Tensor, clusters: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    batch, count, _ = seen.shape
    return seen.new_empty(batch, clusters, dtype=torch.int64), seen.new_empty(batch, count, dtype=torch.int64)


class ReductionStage(nn.Module):
    """One stage of the video encoder, for tokens of `width` numbers, which carry their sizes if `sized`. Its
    `embedding` [K, D] and `clip_embedding` [S, D], a vector for each sequence of a video that it is given, are None or
    learned.

    With the settings' `padded` "drop" a segment counts if its last frame is real, and its [CLASS] is the mean of all
    its frames', padding included: so do the authors. In a video that is shorter than a segment, the
    last segment with a real frame counts. With "keep" a segment counts if any frame is real, and its [CLASS] is
    the mean of the real ones.
    """

    def __init__(self, stage: Stage, width: int, sized: bool = False):
        super().__init__()
        self.settings, self.sized, self.scored = stage, sized, stage.scored
        self.reduction = Reduction(stage.algorithm, stage.options)
        self.embedding = nn.Parameter(torch.zeros(stage.clusters, width)) if stage.embedding else None
        clips = stage.clip_embedding
        self.clip_embedding = nn.Parameter(torch.zeros(clips, width)) if clips else None

    @torch.no_grad()
    def start_embedding(self, positions: Tensor | None) -> None:
        """Start the embedding, if there is one, as the first K of `positions` [N, D], zero where there are fewer; one
        that came with weights, and so is not zero, stays. That of clips starts at zero."""
        if self.embedding is not None and positions is not None and not self.embedding.any():
            self.embedding[: len(positions)] = positions[: len(self.embedding)]

    def forward(self, given: Sequences, keys: Tensor | None = None, scores: Tensor | None = None) -> Sequences:
        """Join frames into segments and keep some tokens of each.

        An inside stage has `keys` [B * S, C + N, D / heads] of the attention before it, their mean over heads, and, if
        it needs them, `scores` [B * S, N] of `class_attention`; in joined frames each token's is that of its own frame.
        A kept token's size is the sum of its cluster's, and its place is its medoid's. Without [CLASS] tokens "all" of
        them are none, and segments count as with their "mean".
        """
        stage, width = self.settings, given.classes
        sequences = given.sequences_per_video
        segments = stage.segments or sequences
        if sequences % segments or stage.clip_embedding not in (0, sequences):
            needed = stage.clip_embedding or f"a multiple of {segments}"
            has = f"a video has {sequences} frames (or earlier segments)"
            raise UserError(f"{stage.algorithm} after block {stage.block}: {has}, and the stage needs {needed}")
        joined = sequences // segments
        x = given.tokens.unflatten(0, (-1, joined))  # [B * S, frames, C + N, D]
        classes = joined * width if stage.classes == "all" else width
        seen = patches(keys.unflatten(0, (-1, joined)) if stage.sees == "keys" else x, width)
        count = stage.kept(seen.shape[1], classes)
        scores = None if scores is None else scores.unflatten(0, (-1, joined)).flatten(1)  # [B * S, frames * N]
        medoids, assignment = self.reduction(
            seen, count, frames=joined, segments=segments, classes=classes, scores=scores
        )
        if self.clip_embedding is not None:  # after the tokens were compared
            added = self.clip_embedding.to(x.dtype).view(segments, joined, 1, -1)
            x = x + added.repeat(len(x) // segments, 1, 1, 1)
        if joined == 1 or (stage.classes == "all" and width):
            kept_classes, counts = x[:, :, :width].flatten(1, 2), given.counts
        else:
            kept_classes, counts = self.mean_class(x[:, :, :width], given.counts)
        tokens, sizes, places = patches(x, width), given.sizes, given.places
        if self.sized:
            sizes = torch.ones(given.tokens.shape[:2], device=x.device) if sizes is None else sizes
            sizes = patches(sizes.unflatten(0, (-1, joined)), width)
        if stage.keep == "medoid":
            kept = pick(tokens, medoids)
        else:
            if stage.keep == "attention":  # whole numbers, as `cluster_sums` needs
                scores = (scores.double() * 2**40).ceil().clamp(min=1)
            weights = {"mean": None, "weighted": sizes, "attention": scores}[stage.keep]
            kept = cluster_means(tokens, medoids, assignment, weights)
        if self.embedding is not None:
            kept = kept + self.embedding.to(kept.dtype)
        if self.sized:
            sizes = F.pad(cluster_sums(sizes, assignment, count), (classes, 0), value=1)
        if places is not None:
            places = F.pad(patches(places.unflatten(0, (-1, joined)), width).gather(1, medoids), (classes, 0))
        return Sequences(torch.cat([kept_classes, kept], 1), counts, classes, sizes, places)

    def mean_class(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The mean [CLASS] [B * S, C, D] of each segment, of those of its frames, x [B * S, frames, C, D] and mask
        [B, T], and which segments count [B, S]."""
        real = mask.unflatten(1, (-1, x.shape[1]))
        if self.settings.padded == "keep":
            counts, weights = real.any(-1), torch.where(real.any(-1, keepdim=True), real, True)
        else:
            counts, weights = whole_segments(real), torch.ones_like(real)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype).flatten(0, 1)  # [B * S, frames]
        # A GPU's autocast adds up in float32, in which all blocks from here on would pass their tokens
        return (x * weights[:, :, None, None]).sum(1).to(x.dtype), counts


def whole_segments(real: Tensor) -> Tensor:
    """[B, S] bool: the segments whose last frame is real, of `real` [B, S, frames] bool; in a video without one, the
    last segment that has a real frame."""
    whole, some = real[:, :, -1], real.any(-1)
    last = some & (some.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(whole.any(1, keepdim=True), whole, last)


def patches(x: Tensor, classes: int) -> Tensor:
    """What is behind the `classes` [CLASS] of each frame, frame by frame [B, frames * N, ...], of
    x [B, frames, classes + N, ...]."""
    return x[:, :, classes:].flatten(1, 2)


def pick(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens [B, K, D] at indices [B, K], of tokens [B, N, D]."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


def cluster_sums(sizes: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """[B, K] sums of sizes [B, N] over clusters. Sizes are whole, so that the order of adding changes nothing."""
    return sizes.new_zeros(len(sizes), clusters).scatter_add(1, assignment, sizes)


def cluster_means(tokens: Tensor, medoids: Tensor, assignment: Tensor, sizes: Tensor | None = None) -> Tensor:
    """[B, K, D] means of tokens [B, N, D] over their clusters, weighted by sizes [B, N] if given.

    The medoids [B, K] are picked and only the other tokens are added to them, by a product of matrices of N - K rows
    instead of N, which is nothing where a few tokens merge; unlike sums by index it gives the same on every run.
    """
    batch, count, _ = tokens.shape
    clusters = medoids.shape[1]
    sizes = torch.ones(batch, count, device=tokens.device) if sizes is None else sizes
    shares = (sizes / cluster_sums(sizes, assignment, clusters).gather(1, assignment)).to(tokens.dtype)
    others = torch.zeros_like(assignment).scatter_(1, medoids, 1).argsort(dim=1, stable=True)[:, : count - clusters]
    members = F.one_hot(assignment.gather(1, others), clusters) * shares.gather(1, others)[:, :, None]  # [B, N - K, K]
    with torch.autocast(tokens.device.type, enabled=False):  # tokens keep their precision
        joined = members.mT @ pick(tokens, others)
    return pick(tokens, medoids) * shares.gather(1, medoids)[:, :, None] + joined
