"""Published weights by name, a tag of open_clip's or `hf-hub:ORG/NAME`: whether they are a backbone's, and the images
that they want.

Nothing heavy is imported until something looks at open_clip's list of tags, which takes seconds.
"""

import re
from dataclasses import dataclass

from centerclip import backbones

HUB, OPENAI = "hf-hub:", "openai"
SOURCED = ("ViT-B-32", "ViT-B-16")  # backbones whose OpenAI weights have a row in config/sources.csv


@dataclass(frozen=True)
class Images:
    """How a model's images are made; the defaults are OpenAI's. squash: the sides of a frame are scaled apart, in place
    of cropping its centre. interpolation: "bicubic" or "bilinear"."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    squash: bool = False
    interpolation: str = "bicubic"


OPENAIS = Images()


def published(weights: str | None) -> bool:
    """Whether weights are named as published ones; else they are a file or None, random ones."""
    return bool(weights) and (weights.startswith(HUB) or re.fullmatch(r"[\w-]+", weights) is not None)


def misnamed(backbone: str, weights: str) -> str | None:
    """Why published weights are not those of a backbone, by their names alone; None: they may be."""
    if weights.startswith(HUB):
        right = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", weights.removeprefix(HUB))
        return None if right else f"{weights!r} is not {HUB}ORG/NAME, a repository of Hugging Face's"
    if backbone == "tiny":
        return f"{weights!r}: no weights of tiny are published; a file is named with its suffix"
    mismatch = backbones.mismatch(backbone, "quick_gelu") if weights == OPENAI else None
    return mismatch and f"OpenAI's were {mismatch}"


def problem(backbone: str, weights: str) -> str | None:
    """Why published weights do not work in a backbone, without a download; None: they may work."""
    wrong = misnamed(backbone, weights)
    if wrong or weights.startswith(HUB) or (weights == OPENAI and backbone in SOURCED):
        return wrong
    known, twin = tags(backbone), backbones.twin(backbone)
    if trained := known.get(weights) or (tags(twin).get(weights) if twin else None):
        return fault(backbone, trained)
    usable = ", ".join(tag for tag, trained in known.items() if not fault(backbone, trained)) or "none"
    return f"open_clip has no weights {weights!r} of {backbone}, but {usable}; a file is named with its suffix"


def tags(backbone: str) -> dict[str, dict]:
    """open_clip's weights of a backbone, tag -> its settings of them, whether they work here or not."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    name = backbones.OTHER_NAMES.get(backbone, backbone)
    return {tag: get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name)}


def fault(backbone: str, trained: dict) -> str | None:
    """Why weights with open_clip's settings `trained` do not work in a backbone; None: they do."""
    if mismatch := backbones.mismatch(backbone, "quick_gelu" if trained.get("quick_gelu") else "gelu"):
        return mismatch
    for key, allowed in ("resize_mode", ("shortest", "squash")), ("interpolation", ("bicubic", "bilinear", "random")):
        if trained.get(key, allowed[0]) not in allowed:
            return f"trained on images with {key} {trained[key]!r}, where frames have {' or '.join(allowed[:2])}"
    return None


def images_of(trained: dict) -> Images:
    """The images of weights with open_clip's settings `trained`."""
    return Images(
        mean=tuple(trained.get("mean", Images.mean)),
        std=tuple(trained.get("std", Images.std)),
        squash=trained.get("resize_mode") == "squash",
        interpolation="bilinear" if trained.get("interpolation") == "bilinear" else "bicubic",
    )


def images(backbone: str, weights: str | None) -> Images:
    """The images that weights of a backbone want: those of a tag, as open_clip has them. Repositories, files and random
    weights have those of the backbone's first tag, or OpenAI's where both sides are open_clip's own."""
    own = "timm_model_name" not in backbones.model_config(backbone)["vision_cfg"]
    tagged = published(weights) and not weights.startswith(HUB)
    if weights == OPENAI or (own and not tagged and not backbones.needs_transformers(backbone)):
        return OPENAIS
    known = tags(backbone)
    return images_of(known.get(weights) or next(iter(known.values()), {}))
