"""The CLIP backbones by name, as open_clip's model configurations; nothing heavy is imported.

They are the models of open_clip whose two sides are its own code, by its names but for four: `ViT-B-32` and `ViT-B-16`
are OpenAI's, whose activation is `quick_gelu`, x * sigmoid(1.702 x); `ViT-B-32-gelu` and `ViT-B-16-gelu` have `gelu`.
`tiny` is this project's own, for the demo and the tests, with 49 patches a frame.
"""

import argparse
import json
import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from centerclip.command import UserError
from centerclip.method.fit import COCA, Geometry

OTHER_NAMES = {  # ours -> open_clip's
    "ViT-B-32": "ViT-B-32-quickgelu",
    "ViT-B-16": "ViT-B-16-quickgelu",
    "ViT-B-32-gelu": "ViT-B-32",
    "ViT-B-16-gelu": "ViT-B-16",
}
OUR_NAMES = {theirs: ours for ours, theirs in OTHER_NAMES.items()}
QUICK = "-quickgelu"
SEQUENCES = re.compile("vit_(?!relpos)|vitamin_|eva")  # models of timm in which patches stay a plain sequence
TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 56, "patch_size": 8, "layers": 4, "width": 64, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 64, "heads": 4},
}


@cache
def directory() -> Path:
    """The folder of open_clip's model configurations."""
    (package,) = find_spec("open_clip").submodule_search_locations
    return Path(package, "model_configs")


@cache
def read(name: str) -> dict | None:
    """The configuration of `tiny` or of open_clip's model `name`; None for an unknown name."""
    if name == "tiny":
        return TINY
    file = directory() / f"{OTHER_NAMES.get(name, name)}.json"
    return json.loads(file.read_text()) if re.fullmatch(r"[\w.-]+", name) and file.is_file() else None


def reason(config: dict) -> str | None:
    """Why a model of open_clip does not work here; None: it works."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    timm = vision.get("timm_model_name", "")
    own = isinstance(vision.get("layers"), int) and "context_length" in text
    reasons = {
        "its video side is a ViT of timm's, which only centerclip.reduce takes": SEQUENCES.match(timm),
        "its video side is a model of timm": timm,
        "its video side is a ResNet": isinstance(vision.get("layers"), list),
        COCA: "multimodal_cfg" in config or vision.get("attentional_pool"),
        "its text side is a model of Hugging Face": "hf_model_name" in text,
        "its tokenizer is Hugging Face's": "hf_tokenizer_name" in text,
        "it is not one of open_clip's own ViT and text transformer": not own,
        "its images are not square": not isinstance(vision.get("image_size"), int),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@cache
def names() -> list[str]:
    """The names of all backbones."""
    theirs = [OUR_NAMES.get(file.stem, file.stem) for file in directory().glob("*.json")]
    return [*sorted(name for name in theirs if reason(read(name)) is None), "tiny"]


@cache
def problem(name: str) -> str | None:
    """Why `name` is no backbone's, with names that are; None: it is one."""
    if name in OUR_NAMES and name not in OTHER_NAMES:
        return f"{name} is called {OUR_NAMES[name]} here"
    config = read(name)
    if config is not None and reason(config) is None:
        return None
    wrong = f"{name!r} is no backbone" if config is None else f"{name} does not work here, as {reason(config)}"
    near = ", ".join(get_close_matches(name, names())) or "ViT-B-32, ViT-L-14"
    return f"{wrong}; such as {near} do, `centerclip backbones` lists all"


def named(text: str) -> str:
    """A command line's backbone, for argparse."""
    if wrong := problem(text):
        raise argparse.ArgumentTypeError(wrong)
    return text


def model_config(name: str, image_size: int | None = None) -> dict:
    """The arguments of `open_clip.CLIP` for backbone `name` on frames of `image_size` pixels; None: of its own size.
    Raises UserError for an unknown name."""
    if wrong := problem(name):
        raise UserError(f"backbone: {wrong}")
    config = read(name)
    return config | {"vision_cfg": config["vision_cfg"] | ({"image_size": image_size} if image_size else {})}


def activation(name: str) -> str:
    """`quick_gelu` or `gelu`: the activation in the MLPs of backbone `name`."""
    return "quick_gelu" if model_config(name).get("quick_gelu") else "gelu"


def twin(name: str) -> str | None:
    """The backbone that differs from `name` only in its activation; None if open_clip lacks it."""
    own = OTHER_NAMES.get(name, name)
    other = own.removesuffix(QUICK) if own.endswith(QUICK) else own + QUICK
    partner = OUR_NAMES.get(other, other)
    return partner if problem(partner) is None else None


def mismatch(name: str, trained: str) -> str | None:
    """Why weights trained with an activation do not fit backbone `name`, and which they fit; None: they may fit it."""
    computed, other = activation(name), twin(name)
    if trained == computed:
        return None
    advice = f": name the backbone {other}" if other and trained == activation(other) else ""
    return f"trained with {trained}, where {name} has {computed}{advice}"


def geometry(name: str, image_size: int | None = None) -> Geometry:
    """The sizes of backbone `name` on frames of `image_size` pixels; None: of its own size."""
    config = model_config(name, image_size)
    vision = config["vision_cfg"]
    return Geometry(
        image_size=vision["image_size"],
        patches=(vision["image_size"] // vision["patch_size"]) ** 2,
        width=vision["width"],
        blocks=vision["layers"],
        pooling=vision.get("pool_type", "tok"),
        context=config["text_cfg"]["context_length"],
    )
