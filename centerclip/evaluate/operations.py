"""The operations of a model in closed form, 2 a multiply-add, and its parameters. No model is built, nothing heavy is
imported."""

from centerclip import backbones
from centerclip.method import reduction
from centerclip.method.fit import TokenCounts, tokens_after
from centerclip.method.stage import Model, Stage

MLP = 4.0  # open_clip's hidden numbers a number of the width, where a backbone sets no `mlp_ratio`


def block(length: int, width: int, ratio: float, inside: bool | None = None) -> float:
    """Operations of a block on a sequence of `length` tokens: 8 D^2 a token and 4 D a pair of tokens in attention,
    4 `ratio` D^2 a token in the MLP. `inside` False: of attention alone; True: of the MLP alone."""
    attention, mlp = 8 * width**2 * length + 4 * width * length**2, 4 * ratio * width**2 * length
    return attention * (inside is not True) + mlp * (inside is not False)


def of_blocks(model: Model, frames: int, image_size: int | None = None) -> float:
    """Operations of the encoder's blocks on a video, without those of the reductions."""
    return video(model, frames, image_size)["blocks"]


def of_video(model: Model, frames: int, image_size: int | None = None) -> float:
    """Operations of encoding a video. At most so many where a stage sees pixels, whose video decides what it keeps."""
    return sum(video(model, frames, image_size).values())


def video(model: Model, frames: int, image_size: int | None = None) -> dict[str, float]:
    """Operations of encoding a video of frames of `image_size` pixels, None: of the backbone's own size: `stem`, in
    front of the blocks, `blocks`, `reductions` and `projection`."""
    geometry = backbones.geometry(model.backbone, image_size)
    vision = backbones.model_config(model.backbone)["vision_cfg"]
    width, ratio = geometry.width, vision.get("mlp_ratio", MLP)
    stages = {stage.place: stage for stage in model.stages if not reduction.sees_pixels(stage.algorithm)}
    counts, blocks, reductions = TokenCounts(frames, geometry.patches, 1), 0.0, 0.0
    for index in range(geometry.blocks):
        for inside in (False, True):
            if stage := stages.get((index, inside)):
                before, counts = counts, tokens_after(stage, counts, [])
                reductions += counts.sequences * of_reduction(stage, before, counts, model)
            blocks += counts.sequences * block(counts.classes + counts.patches, width, ratio, inside)
    pooled = counts.sequences * (counts.classes if geometry.pooling == "tok" else 1)
    if model.vectors == "medoids":
        pooled = counts.sequences * counts.patches
    return {
        "stem": frames * geometry.patches * 2 * 3 * geometry.patch_size**2 * width,
        "blocks": blocks,
        "reductions": reductions,
        "projection": pooled * 2 * width * backbones.model_config(model.backbone)["embed_dim"],
    }


def index_bytes(model: Model, frames: int, image_size: int | None = None) -> int:
    """Bytes of a video's vectors in float16."""
    geometry = backbones.geometry(model.backbone, image_size)
    counts = TokenCounts(frames, geometry.patches, geometry.classes)
    for stage in sorted(model.stages, key=lambda stage: stage.place):
        if not reduction.sees_pixels(stage.algorithm):
            counts = tokens_after(stage, counts, [])
    sequences, classes = counts.sequences, max(1, counts.classes)
    vectors = {"mean": 1, "segments": sequences * classes, "medoids": sequences * counts.patches}[model.vectors]
    return 2 * vectors * backbones.model_config(model.backbone)["embed_dim"]


def of_reduction(stage: Stage, before: TokenCounts, after: TokenCounts, model: Model) -> float:
    """Operations of a stage's matrix products on one segment: the likenesses of its tokens, three quarters of a Gram
    matrix or a quarter where the two halves of the tokens are compared, and the means of clusters. `spectral` compares
    rows of eigenvectors, too; what finds the eigenvectors is left out."""
    width = backbones.geometry(model.backbone).width
    tokens, joined = before.sequences // after.sequences * before.patches, 0
    half = tokens // 2
    if stage.keep != "medoid":
        joined = 2 * after.patches * (tokens - after.patches) * width
    if reduction.kind(stage.algorithm) == reduction.SAMPLING:
        return joined
    if reduction.keeps(stage.algorithm) == reduction.HALF:
        seen = width // heads(model.backbone) if stage.sees == "keys" else width
        return joined + 2 * half * (tokens - half) * seen
    seen = width + (after.patches if stage.algorithm == "spectral" else 0)
    return joined + 2 * (half * tokens + (tokens - half) ** 2) * seen


def heads(backbone: str) -> int:
    """Attention heads of the video side."""
    vision = backbones.model_config(backbone)["vision_cfg"]
    return vision["width"] // vision.get("head_width", 64)


def of_text(backbone: str, length: int) -> float:
    """Operations of encoding a text of `length` tokens."""
    text, embedding = backbones.model_config(backbone)["text_cfg"], backbones.model_config(backbone)["embed_dim"]
    blocks = text["layers"] * block(length, text["width"], text.get("mlp_ratio", MLP))
    return blocks + 2 * text["width"] * embedding


def parameters(backbone: str, image_size: int | None = None) -> int:
    """Numbers in the weights of a backbone on frames of `image_size` pixels, without the vectors that stages learn."""
    config, geometry = backbones.model_config(backbone), backbones.geometry(backbone, image_size)
    text, embedding = config["text_cfg"], config["embed_dim"]

    def blocks(count: int, width: int, ratio: float) -> int:
        hidden = int(width * ratio)
        return count * (4 * width**2 + 2 * width * hidden + 9 * width + hidden)

    positions = (1 + geometry.patches + 1) * geometry.width  # and the class embedding
    norms = 4 * geometry.width + 2 * text["width"]
    stem = 3 * geometry.patch_size**2 * geometry.width + positions
    tokens = (text["vocab_size"] + text["context_length"]) * text["width"]
    towers = (
        blocks(geometry.blocks, geometry.width, config["vision_cfg"].get("mlp_ratio", MLP)),
        blocks(text["layers"], text["width"], text.get("mlp_ratio", MLP)),
    )
    return sum(towers) + stem + norms + tokens + embedding * (geometry.width + text["width"]) + 1
