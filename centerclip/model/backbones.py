"""The CLIP backbones by name, as open_clip model configurations; nothing heavy is imported.

`ViT-B-32` and `ViT-B-16` are OpenAI's, whose activation is `quick_gelu`, x * sigmoid(1.702 x); those with `-gelu` have
`gelu` in its place, as LAION's and DataComp's weights want. `tiny` is this project's own, for the demo and the tests:
49 patches a frame, as ViT-B-32 has.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OPEN_CLIP_NAMES = {
    "ViT-B-32": "ViT-B-32-quickgelu",
    "ViT-B-16": "ViT-B-16-quickgelu",
    "ViT-B-32-gelu": "ViT-B-32",
    "ViT-B-16-gelu": "ViT-B-16",
}
OPENAI = ("ViT-B-32", "ViT-B-16")  # those that OpenAI published weights of
TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 56, "patch_size": 8, "layers": 4, "width": 64, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 64, "heads": 4},
}


@dataclass(frozen=True)
class Geometry:
    """What a reduction stage must fit: image side in pixels, patch tokens a frame, blocks, longest text in tokens."""

    image_size: int
    patches: int
    blocks: int
    context: int


def names() -> list[str]:
    """The backbones there are."""
    return [*OPEN_CLIP_NAMES, "tiny"]


def model_config(name: str) -> dict:
    """The arguments of `open_clip.CLIP` for backbone `name`."""
    if name == "tiny":
        return TINY
    (package,) = find_spec("open_clip").submodule_search_locations
    return json.loads(Path(package, "model_configs", f"{OPEN_CLIP_NAMES[name]}.json").read_text())


def activation(name: str) -> str:
    """`quick_gelu` or `gelu`: what backbone `name` computes between the two layers of an MLP."""
    return "quick_gelu" if model_config(name).get("quick_gelu") else "gelu"


def twin(name: str) -> str | None:
    """The backbone that differs from `name` in its activation alone; None for one without such another."""
    partner = name.removesuffix("-gelu") if name.endswith("-gelu") else f"{name}-gelu"
    return partner if partner in OPEN_CLIP_NAMES else None


def geometry(name: str) -> Geometry:
    """The sizes of backbone `name`."""
    config = model_config(name)
    vision = config["vision_cfg"]
    return Geometry(
        image_size=vision["image_size"],
        patches=(vision["image_size"] // vision["patch_size"]) ** 2,
        blocks=vision["layers"],
        context=config["text_cfg"]["context_length"],
    )
