"""Published weights by name, a tag of open_clip's or `hf-hub:ORG/NAME`, and whether they are a backbone's.

Nothing heavy is imported until `problem` looks at open_clip's list of tags, which takes seconds.
"""

import re

from centerclip import backbones

HUB, OPENAI = "hf-hub:", "openai"
SOURCED = ("ViT-B-32", "ViT-B-16")  # backbones whose OpenAI weights have a row in config/sources.csv


def published(weights: str | None) -> bool:
    """Whether weights are named as published ones; else they are a file or None, random ones."""
    return bool(weights) and (weights.startswith(HUB) or re.fullmatch(r"[\w-]+", weights) is not None)


def misnamed(backbone: str, weights: str) -> str | None:
    """Why published weights are not those of a backbone, by their names alone; None: they may be."""
    if weights.startswith(HUB):
        right = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", weights.removeprefix(HUB))
        return None if right else f"{weights!r} is not {HUB}ORG/NAME, a repository of Hugging Face's"
    if backbone == "tiny":
        return f"{weights!r}: nothing is published of tiny; a file is named with its suffix"
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
    """Why weights with open_clip's settings `trained` do not work in a backbone, whose frames are normalised as
    OpenAI's images are; None: they do."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    if mismatch := backbones.mismatch(backbone, "quick_gelu" if trained.get("quick_gelu") else "gelu"):
        return mismatch
    mean, std = tuple(trained.get("mean", OPENAI_DATASET_MEAN)), tuple(trained.get("std", OPENAI_DATASET_STD))
    if (mean, std) == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD):
        return None
    return f"trained on images normalised by mean {list(mean)} and std {list(std)}, where frames are by OpenAI's"
