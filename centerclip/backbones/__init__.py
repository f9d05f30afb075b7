"""The CLIP backbones by name, as open_clip's model configurations; nothing heavy is imported.

They are the models of open_clip whose video side is a plain sequence of patches: its own ViT, or one of timm's in
TRUNKS. Four have another name here: `ViT-B-32` and `ViT-B-16` are OpenAI's, whose activation is `quick_gelu`,
x * sigmoid(1.702 x); `ViT-B-32-gelu` and `ViT-B-16-gelu` have `gelu`. `tiny` is this project's own, for the demo and
the tests, with 49 patches a frame.
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
TRUNKS = {  # timm's names without their image size -> width, blocks, pooling, [CLASS] tokens
    r"vit_base_patch\d+_siglip": (768, 12, "map", 0),
    r"vit_large_patch\d+_siglip": (1024, 24, "map", 0),
    r"vit_so400m_patch\d+_siglip": (1152, 27, "map", 0),
    r"vit_giantopt_patch\d+_siglip": (1536, 40, "map", 0),
    "vitamin_small": (384, 14, "avg", 0),
    "vitamin_base": (768, 14, "avg", 0),
    "vitamin_large2?": (1024, 31, "avg", 0),
    "vitamin_xlarge": (1152, 32, "avg", 0),
    "vit_medium_patch16_gap": (512, 12, "avg", 0),
    "vit_base_mci": (768, 12, "tok", 1),
    "vit_large_patch14_clip": (1024, 24, "tok", 1),
    "eva_giant_patch14": (1408, 40, "tok", 1),
    "eva02_base_patch16_clip": (768, 12, "tok", 1),
    "eva02_large_patch14_clip": (1024, 24, "tok", 1),
    "eva02_enormous_patch14_clip": (1792, 64, "tok", 1),
    "vit_pe_core_tiny_patch16": (192, 12, "map", 1),
    "vit_pe_core_small_patch16": (384, 12, "map", 1),
    "vit_pe_core_base_patch16": (768, 12, "map", 1),
    "vit_pe_core_large_patch14": (1024, 24, "map", 1),
    "vit_pe_core_gigantic_patch14": (1536, 50, "map", 0),
}
KNOWN = {  # the keys of a configuration that are followed here; a later open_clip may have others
    "": "embed_dim quick_gelu custom_text init_logit_scale init_logit_bias vision_cfg text_cfg",
    "vision_cfg": "image_size patch_size layers width head_width mlp_ratio ls_init_value no_ln_pre pool_type"
    " final_ln_after_pool timm_model_name timm_model_pretrained timm_pool timm_proj timm_drop timm_drop_path",
    "text_cfg": "context_length vocab_size width heads layers mlp_ratio no_causal_mask pool_type eos_id proj_type"
    " proj_bias norm_kwargs act_kwargs hf_tokenizer_name tokenizer_kwargs hf_model_name hf_model_pretrained"
    " hf_proj_type hf_pooler_type",
}
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


def trunk(vision: dict) -> tuple[int, int, str, int] | None:
    """What TRUNKS has of a video side; None: it is not a trunk of timm's that is known here."""
    name = (vision.get("timm_model_name") or "").rpartition("_")[0]
    return next((sizes for pattern, sizes in TRUNKS.items() if re.fullmatch(pattern, name)), None)


def reason(config: dict) -> str | None:
    """Why a model of open_clip does not work here; None: it works."""
    parts = {"": config, "vision_cfg": config.get("vision_cfg", {}), "text_cfg": config.get("text_cfg", {})}
    vision, timm = parts["vision_cfg"], parts["vision_cfg"].get("timm_model_name")
    unknown = [key for part, content in parts.items() for key in content if key not in KNOWN[part].split()]
    reasons = {
        "it has no video or no text side": not (vision and parts["text_cfg"]),
        "its video side is a ResNet": isinstance(vision.get("layers"), list),
        f"its video side, timm's {timm}, is no plain sequence of patches": timm and trunk(vision) is None,
        COCA: "multimodal_cfg" in config or vision.get("attentional_pool"),
        "its images are not square": not isinstance(vision.get("image_size"), int),
        f"its configuration has {', '.join(unknown)}, not known here": unknown,
        "it has no number of blocks": not timm and not isinstance(vision.get("layers"), int),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@cache
def refused() -> dict[str, str]:
    """The reason for each model of open_clip that does not work here."""
    reasons = {file.stem: reason(json.loads(file.read_text())) for file in sorted(directory().glob("*.json"))}
    return {name: reason for name, reason in reasons.items() if reason}


@cache
def names() -> list[str]:
    """The names of all backbones."""
    theirs = {file.stem for file in directory().glob("*.json")} - refused().keys()
    return [*sorted(OUR_NAMES.get(name, name) for name in theirs), "tiny"]


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
    return f"{wrong}; try {near} (`centerclip backbones` lists all)"


def named(text: str) -> str:
    """A command line's backbone, for argparse."""
    if wrong := problem(text):
        raise argparse.ArgumentTypeError(wrong)
    return text


def model_config(name: str, image_size: int | None = None) -> dict:
    """open_clip's configuration of backbone `name` for frames of `image_size` pixels; None: of its own size. Raises
    UserError for an unknown name."""
    if wrong := problem(name):
        raise UserError(f"backbone: {wrong}")
    config = read(name)
    vision = config["vision_cfg"]
    if trunk(vision):  # whose own size is in its name; open_clip's is another for ViTamin-XL-384
        image_size = image_size or int(vision["timm_model_name"].rpartition("_")[2])
    return config | {"vision_cfg": vision | ({"image_size": image_size} if image_size else {})}


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
    if known := trunk(vision):
        width, blocks, pooling, classes = known
        named = re.search(r"patch(\d+)", vision["timm_model_name"])
        patch = int(named[1]) if named else 16
    else:
        width, blocks, pooling, classes = vision["width"], vision["layers"], vision.get("pool_type", "tok"), 1
        patch = vision["patch_size"]
    return Geometry(
        image_size=vision["image_size"],
        patches=(vision["image_size"] // patch) ** 2,
        width=width,
        blocks=blocks,
        pooling=pooling,
        context=config["text_cfg"].get("context_length", 77),
        classes=classes,
    )


def reads_padding(name: str) -> bool:
    """Whether the text side of backbone `name` sees padding, so that each text has its full context."""
    text = model_config(name)["text_cfg"]
    return bool(text.get("no_causal_mask")) and "hf_model_name" not in text


def has_bias(name: str) -> bool:
    """Whether backbone `name` has the bias of SigLIP's loss."""
    return model_config(name).get("init_logit_bias") is not None


def needs_transformers(name: str) -> bool:
    """Whether texts of backbone `name` need the package transformers."""
    return bool({"hf_model_name", "hf_tokenizer_name"} & model_config(name)["text_cfg"].keys())
