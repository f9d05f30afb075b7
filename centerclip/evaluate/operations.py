"""Count a model's operations in closed form, 2 for a multiply-add, and its parameters, and estimate its time. Only a
tower of timm's needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from centerclip import backbones
from centerclip.method import reduction
from centerclip.method.fit import Geometry, TokenCounts, tokens_after
from centerclip.method.stage import Model, Stage

if TYPE_CHECKING:
    from torch import nn

MLP = 4.0  # open_clip's hidden numbers a number of the width, where a backbone sets no `mlp_ratio`
TRANSFORMERS = {  # text sides by their names on the Hub -> blocks, width, hidden numbers a number of it, words
    "roberta-base": (12, 768, 4, 50265),
    "xlm-roberta-base": (12, 768, 4, 250002),
    "xlm-roberta-large": (24, 1024, 4, 250002),
    "google/mt5-base": (12, 768, 4, 250112),  # a gated MLP of 2,048 has as many weights
    "google/mt5-xl": (24, 2048, 3.75, 250112),
    "facebook/nllb-200-distilled-600M": (12, 1024, 4, 256206),
    "facebook/nllb-200-distilled-1.3B": (24, 1024, 8, 256206),
}
# Operations of a block that take as long as clustering takes for a pair of tokens, beside their distance: 1,270 to
# 1,410 with PE-Core-T-16-384 in docs/benchmarks/2026-11-30-families.csv
A_PAIR = 1300
ADVICE = "docs/backbones.md#where-clustering-costs-most says what to take instead"
TAKEN = 0.4  # share of the saved time that clustering may take without a word


class Parts(NamedTuple):
    """Operations of the parts of an encoder, and its geometry.

    stem: of a frame in front of the blocks. attention, mlp: of a token in a block, without `pair`: of a pair of tokens
    in its attention. pool: of a sequence, or of each [CLASS] that is pooled. pooled_token: of a token in an attention
    pool. head: numbers of a key of one attention head.
    """

    geometry: Geometry
    stem: float
    attention: float
    mlp: float
    pair: float
    pool: float
    pooled_token: float
    head: int


@cache
def parts(backbone: str, image_size: int | None = None) -> Parts:
    """The parts of a backbone on frames of `image_size` pixels; None: the backbone's own size."""
    config = backbones.read(backbone)
    if "timm_model_name" in config["vision_cfg"]:
        return parts_of(without_memory(backbone, image_size))
    geometry, vision = backbones.geometry(backbone, image_size), config["vision_cfg"]
    width = geometry.width
    return Parts(
        geometry,
        stem=geometry.patches * 2 * 3 * geometry.patch_size**2 * width,
        attention=8 * width**2,
        mlp=4 * vision.get("mlp_ratio", MLP) * width**2,
        pair=4 * width,
        pool=2 * width * config["embed_dim"],
        pooled_token=0,
        head=vision.get("head_width", 64),
    )


def parts_of(model: nn.Module) -> Parts:
    """The parts of a model in memory. Raises UserError if `centerclip.reduce` does not take the model."""
    from centerclip.evaluate import costs

    return Parts(**costs.parts(model))


def of_blocks(model: Model, frames: int, image_size: int | None = None) -> float:
    """Operations of the encoder's blocks on a video, without those of the reductions."""
    return video(model, frames, image_size)["blocks"]


def of_video(model: Model, frames: int, image_size: int | None = None) -> float:
    """Operations of encoding a video; an upper limit if a stage sees pixels, because then the video decides."""
    return sum(video(model, frames, image_size).values())


def video(model: Model, frames: int, image_size: int | None = None) -> dict[str, float]:
    """`encoding` of a video of frames of `image_size` pixels; None: of the backbone's own size."""
    return encoding(parts(model.backbone, image_size), model.stages, frames, model.vectors)


def encoding(parts: Parts, stages: Sequence[Stage], frames: int, vectors: str = "mean") -> dict[str, float]:
    """Operations of encoding a video by stages: `stem`, `blocks`, `reductions`, and `projection` with a pool."""
    geometry, blocks, reductions = parts.geometry, 0.0, 0.0
    counts = TokenCounts(frames, geometry.patches, geometry.classes)
    acting = {stage.place: (stage, before, after) for stage, before, after in reduced(parts, stages, frames)}
    for index in range(geometry.blocks):
        for inside in (False, True):
            if (index, inside) in acting:
                stage, before, counts = acting[index, inside]
                reductions += counts.sequences * of_reduction(stage, before, counts, parts)
            tokens = counts.classes + counts.patches
            blocks += counts.sequences * tokens * (parts.mlp if inside else parts.attention + parts.pair * tokens)
    pooled = counts.sequences * (counts.classes if geometry.pooling == "tok" else 1)
    if vectors == "medoids":  # each token is pooled alone, given twice (`video.pooled_alone`)
        pooled, tokens = counts.sequences * counts.patches, 2 * counts.patches
    return {
        "stem": frames * parts.stem,
        "blocks": blocks,
        "reductions": reductions,
        "projection": pooled * parts.pool + counts.sequences * tokens * parts.pooled_token,
    }


def reduced(parts: Parts, stages: Sequence[Stage], frames: int) -> Iterator[tuple[Stage, TokenCounts, TokenCounts]]:
    """The stages that reduce tokens, in order, each with the counts before and after it."""
    counts = TokenCounts(frames, parts.geometry.patches, parts.geometry.classes)
    for stage in sorted(stages, key=lambda stage: stage.place):
        if not reduction.sees_pixels(stage.algorithm):
            before, counts = counts, tokens_after(stage, counts)
            yield stage, before, counts


def index_bytes(model: Model, frames: int, image_size: int | None = None) -> int:
    """Bytes of a video's vectors in float16."""
    given = parts(model.backbone, image_size)
    whole = TokenCounts(frames, given.geometry.patches, given.geometry.classes)
    *_, counts = whole, *(after for _, _, after in reduced(given, model.stages, frames))
    sequences, classes = counts.sequences, max(1, counts.classes)
    vectors = {"mean": 1, "segments": sequences * classes, "medoids": sequences * counts.patches}[model.vectors]
    return 2 * vectors * backbones.model_config(model.backbone)["embed_dim"]


def of_reduction(stage: Stage, before: TokenCounts, after: TokenCounts, parts: Parts) -> float:
    """Operations of a stage's matrix products on one segment: similarities of its tokens, three quarters of a Gram
    matrix, or a quarter if only the two halves of the tokens are compared, and means of clusters. `spectral` also
    compares rows of eigenvectors; its eigenvalue solver is left out."""
    width, tokens, joined = parts.geometry.width, tokens_of_segment(before, after), 0
    half = tokens // 2
    if stage.keep != "medoid":
        joined = 2 * after.patches * (tokens - after.patches) * width
    if reduction.kind(stage.algorithm) == reduction.SAMPLING:
        return joined
    if reduction.keeps(stage.algorithm) == reduction.HALF:
        return joined + 2 * half * (tokens - half) * (parts.head if stage.sees == "keys" else width)
    seen = width + (after.patches if stage.algorithm == "spectral" else 0)
    return joined + 2 * (half * tokens + (tokens - half) ** 2) * seen


def tokens_of_segment(before: TokenCounts, after: TokenCounts) -> int:
    """Patches that a stage joins in one segment."""
    return before.sequences // after.sequences * before.patches


def shares(parts: Parts, stages: Sequence[Stage], frames: int) -> tuple[float, float]:
    """The operations of encoding a video by stages, and its estimated time on one thread of a CPU, as shares of those
    without stages.

    Matrix products take as long as their operations. Clustering also passes over the distances of a segment's tokens
    many times, which waits for memory: A_PAIR for each pair of tokens, whatever their width.
    """
    pairs = sum(
        after.sequences * tokens_of_segment(before, after) ** 2
        for stage, before, after in reduced(parts, stages, frames)
        if clusters(stage)
    )
    own, whole = (sum(encoding(parts, given, frames).values()) for given in (stages, ()))
    return own / whole, (own + A_PAIR * pairs) / whole


def costly_clustering(parts: Parts, stages: Sequence[Stage], frames: int) -> str | None:
    """A warning if clustering is estimated to take more than TAKEN of the time that fewer tokens save; else None."""
    counted, time = shares(parts, stages, frames)
    if not any(map(clusters, stages)) or 1 - time >= (1 - TAKEN) * (1 - counted):
        return None
    return f"time is {time:.2f} of the baseline's, operations {counted:.2f}: clustering costs too much ({ADVICE})"


def clusters(stage: Stage) -> bool:
    """Whether a stage's algorithm is of kind CLUSTERING."""
    return reduction.kind(stage.algorithm) == reduction.CLUSTERING


def text_side(backbone: str) -> dict:
    """The configuration of a backbone's text tower: `layers`, `width`, `vocab_size`, `context_length` and others."""
    text = backbones.read(backbone)["text_cfg"]
    if "hf_model_name" not in text:
        return text
    sizes = dict(zip(("layers", "width", "mlp_ratio", "vocab_size"), TRANSFORMERS[text["hf_model_name"]], strict=True))
    return {"context_length": 512} | text | sizes


def of_text(backbone: str, length: int) -> float:
    """Operations of encoding a text of `length` tokens."""
    text = text_side(backbone)
    width, ratio = text["width"], text.get("mlp_ratio", MLP)
    block = (8 + 4 * ratio) * width**2 * length + 4 * width * length**2
    return text["layers"] * block + 2 * width * backbones.read(backbone)["embed_dim"]


def parameters(backbone: str, image_size: int | None = None) -> int:
    """The number of weights of a backbone on frames of `image_size` pixels, without vectors of stages. Exact to 1 % for
    a text tower of transformers."""
    config, text = backbones.read(backbone), text_side(backbone)
    vision, embedding = config["vision_cfg"], config["embed_dim"]

    def blocks(count: int, width: int, ratio: float) -> int:
        hidden = int(width * ratio)
        return count * (4 * width**2 + 2 * width * hidden + 9 * width + hidden)

    if "timm_model_name" in vision:
        visual = sum(parameter.numel() for parameter in without_memory(backbone, image_size).visual.parameters())
    else:
        geometry = backbones.geometry(backbone, image_size)
        vectors = 1 + geometry.patches + 1 + 4 + embedding  # positions, [CLASS], two norms, the projection
        visual = (3 * geometry.patch_size**2 + vectors) * geometry.width
        visual += blocks(geometry.blocks, geometry.width, vision.get("mlp_ratio", MLP))
    vectors = text["vocab_size"] + text["context_length"] + 2 + embedding
    texts = vectors * text["width"] + blocks(text["layers"], text["width"], text.get("mlp_ratio", MLP))
    return visual + texts + embedding * text.get("proj_bias", False) + 1 + ("init_logit_bias" in config)


@cache
def without_memory(backbone: str, image_size: int | None) -> nn.Module:
    """A model with the tower of timm's of a backbone as its `visual`, on the meta device."""
    import torch
    from open_clip.model import _build_vision_tower

    config = backbones.read(backbone)
    with torch.device("meta"):
        model = torch.nn.Module()
        model.visual = _build_vision_tower(config["embed_dim"], config["vision_cfg"])
    if image_size:
        model.visual.set_input_size(image_size)
    return model
