"""Weights that a model starts from: published ones, and files in any usual layout. Weights that are saved."""

import json
import pickle
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import open_clip
import torch
from open_clip import CLIPTextCfg, CLIPVisionCfg
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from centerclip import backbones
from centerclip.backbones import pretrained, torchscript
from centerclip.command import UserError, atomic, first_line, located, tell
from centerclip.method.state import SETTINGS, other_reduction

CRC = " crc32="  # before the checksum in the one entry of the metadata: safetensors writes several in any order
NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # in TorchScript archives of CLIPs

HUGGING_FACE = {  # parts of its names -> open_clip's
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers": "transformer.resblocks",
    "text_model.final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding": "visual.conv1",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "vision_model.post_layernorm": "visual.ln_post",
    "visual_projection.weight": "visual.proj",
    "self_attn.q_proj.": "attn.in_proj_",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def load_weights(model: open_clip.CLIP, backbone: str, weights: str | Path) -> None:
    """Load weights into `model`, a `backbone`: published ones, by open_clip's download, or a local file as `read_state`
    takes it. Parameters of stages that the file lacks stay as they are. For a model of another image size than the
    backbone's, open_clip interpolates the positional embedding.

    Raises:
        UserError: no download, or a file that is missing, damaged, not finite, or does not fit the model.
    """
    file = None if pretrained.published(str(weights)) else Path(weights)
    state = read_state(file or download(backbone, str(weights)))
    if SETTINGS in state and (wrong := other_reduction(state.pop(SETTINGS), model)):
        raise UserError(f"weights {weights}: {wrong}")
    if hasattr(model, "text"):  # older files have the names of a model without a text module
        state = convert_to_custom_text_state_dict(state)
    if model.logit_bias is not None:  # weights that softmax trained lack it
        state.setdefault("logit_bias", torch.zeros_like(model.logit_bias))
    state = {name: tensor for name, tensor in state.items() if not name.endswith(".position_ids")}  # 0, 1, 2...
    for name in {"logit_scale", "logit_bias"} & state.keys():
        state[name] = state[name].squeeze()  # some have one number [1]
    geometry, positions = backbones.geometry(backbone), state.get("visual.positional_embedding")
    if positions is not None and positions.shape == (1 + geometry.patches, geometry.width):
        state["visual.positional_embedding"] = positions.float()  # PyTorch interpolates no half precision on a CPU
        resize_pos_embed(state, model)
    expected = model.state_dict()
    missing = [name for name in expected if name not in state and not name.startswith("stages.")]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r} besides"
        raise UserError(f"weights {weights}: not those of {backbone}: the file {problem}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)} where {backbone} has {list(expected[name].shape)}"
            raise UserError(f"weights {weights}: {name} is {shapes}")
        if not tensor.isfinite().all():
            raise UserError(f"weights {weights}: {name} has numbers that are not finite")
    if file:
        check_activation(file, backbone)
    model.load_state_dict(state, strict=False)


def download(backbone: str, weights: str) -> Path:
    """The file of published weights of `backbone`, in open_clip's cache. Raises UserError if they do not fit the
    backbone or cannot be downloaded."""
    if wrong := pretrained.problem(backbone, weights):
        raise UserError(f"weights {weights}: {wrong}")

    def had(get: Callable[..., str], *arguments: object) -> Path:
        try:
            return Path(get(*arguments))
        except Exception as error:  # of any of the network's layers
            cause = f"open_clip cannot get them ({first_line(error)})"
            advice = f"name a local file (--weights FILE, or weights: {{{backbone}: FILE}})"
            raise UserError(f"weights {weights}: {cause}; {advice}, or null for random weights") from None

    if not weights.startswith(pretrained.HUB):
        return had(open_clip.pretrained.download_pretrained, pretrained.tags(backbone)[weights])
    get, repository = open_clip.pretrained.download_pretrained_from_hf, weights.removeprefix(pretrained.HUB)
    try:
        wrong = other_model(backbone, mapping_in(had(get, repository, "open_clip_config.json")))
    except (AttributeError, TypeError, ValueError):
        wrong = "its open_clip_config.json does not describe a model of open_clip's"
    if wrong:
        raise UserError(f"weights {weights}: {wrong}")
    return had(get, repository)


def other_model(backbone: str, config: dict) -> str | None:
    """How the model and images of an open_clip_config.json differ from a backbone's; None: they do not."""
    theirs, ours = config.get("model_cfg", {}), backbones.model_config(backbone)
    for part, defaults in ("vision_cfg", CLIPVisionCfg()), ("text_cfg", CLIPTextCfg()):
        both = [asdict(defaults) | model.get(part, {}) for model in (theirs, ours)]
        for key in both[0]:
            if both[0][key] != both[1].get(key):
                return f"{part}.{key} is {both[0][key]!r} where {backbone} has {both[1].get(key)!r}"
    wanted = config.get("preprocess_cfg", {}) | {"quick_gelu": theirs.get("quick_gelu")}
    if wrong := pretrained.fault(backbone, wanted):
        return wrong
    both = [asdict(images) for images in (pretrained.images_of(wanted), pretrained.images(backbone, None))]
    different = [f"{key} {value!r} where frames have {both[1][key]!r}" for key, value in both[0].items()
                 if value != both[1][key]]  # fmt: skip
    return f"its images have {different[0]}" if different else None


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a weights file, in open_clip's names, without prefixes of wrappers. Nothing of a file is run.

    The file is a .safetensors, OpenAI's TorchScript archive, or written by torch.save: a state dict, or a checkpoint
    with one under `state_dict`, in open_clip's names or Hugging Face's. Raises UserError for any other file.
    """
    if not path.is_file():
        problem = "a folder: name the file in it" if path.is_dir() else "no such file"
        raise UserError(f"weights {located(path)}: {problem}")
    if mistaken := mistaken_for_weights(path):
        raise UserError(f"weights {path}: {mistaken}")
    try:
        state = load(path)
    except Exception as error:  # bytes that are no weights may raise anything
        raise UserError(f"weights {path}: not a whole weights file ({unreadable(error)})") from None
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights {path}: not a state dict of tensors: torch.save the state dict alone")
    state = {str(name).replace("_orig_mod.", ""): tensor for name, tensor in state.items()}  # of torch.compile
    scale = next((name for name in state if name.endswith("logit_scale")), "")  # which every CLIP has
    inner = scale.removesuffix("logit_scale")
    outer = inner.removesuffix("clip.")  # of a ReducedCLIP's own parameters
    state = {name.removeprefix(inner if name.startswith(inner) else outer): value for name, value in state.items()}
    theirs = any(name.startswith(("text_model.", "vision_model.")) for name in state)
    return from_hugging_face(state) if theirs else state


def unreadable(error: Exception) -> str:
    """Why bytes are no weights: a reader's reason, without torch.load's advice to take a risk."""
    if "Unsupported global" in str(error):
        return "Python objects besides tensors, which are not loaded: save the state dict alone"
    if "weights_only" in str(error) and isinstance(error, RuntimeError):
        return f"a format that may run code: {torchscript.ADVICE}"
    return "nothing that torch.save wrote" if isinstance(error, pickle.UnpicklingError) else first_line(error)


def mistaken_for_weights(path: Path) -> str | None:
    """What a file is that people take for weights and what to do about it; None for any other."""
    with open(path, "rb") as file:
        head = file.read(100)
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file that it stands for, which `git lfs pull` gets in its repository"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page, such as one with a link to the weights: download what it links to"
    if path.suffix != ".safetensors" and head[8:10] == b'{"':
        return f"a safetensors file: name it {path.with_suffix('.safetensors').name}"
    return None


def load(path: Path) -> object:
    """What is in a weights file, on the CPU; of OpenAI's archive the state dict."""
    if path.suffix == ".safetensors":
        return load_file(path)
    if not torchscript.records(path):
        return torch.load(path, map_location="cpu", weights_only=True)
    state = torchscript.read(path)
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in NOT_PARAMETERS}


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of Hugging Face's CLIP in open_clip's form: q, k and v in one tensor, projections transposed."""
    renamed = {}
    for theirs, tensor in state.items():
        if theirs.endswith("position_ids") or ".k_proj." in theirs or ".v_proj." in theirs:
            continue  # the first are 0, 1, 2...; the others come with their q_proj
        if ".q_proj." in theirs:
            parts = [theirs.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj")]
            tensor = torch.cat([state[part] for part in parts if part in state])
        ours = theirs
        for old, new in HUGGING_FACE.items():
            ours = ours.replace(old, new)
        renamed[ours] = tensor.T if "_projection." in theirs else tensor
    return renamed


def check_activation(path: Path, backbone: str) -> None:
    """Raise UserError if weights were trained with another activation than the backbone's; say which is assumed if
    nothing tells it."""
    trained, twin = activation(path), backbones.twin(backbone)
    if trained is None and twin:
        assumed = f"trained with {backbones.activation(backbone)}, it is assumed, as {backbone} computes"
        tell(f"weights {path}: {assumed}; for {backbones.activation(twin)} name the backbone {twin}")
    elif trained and (mismatch := backbones.mismatch(backbone, trained)):
        raise UserError(f"weights {path}: {mismatch}")


def activation(path: Path) -> str | None:
    """The activation that weights were trained with, as the file or a config beside it tells; None: neither does."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            if recorded := (file.metadata() or {}).get("activation", "").partition(CRC)[0]:
                return recorded
    elif torchscript.records(path):  # OpenAI's
        return "quick_gelu"
    if isinstance(model := mapping_in(path.with_name("open_clip_config.json")).get("model_cfg"), dict):
        return "quick_gelu" if model.get("quick_gelu") else "gelu"
    config = mapping_in(path.with_name("config.json"))  # Hugging Face's
    vision = config.get("vision_config")
    return (vision if isinstance(vision, dict) else config).get("hidden_act")


def mapping_in(path: Path) -> dict:
    """The mapping in a json file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def checksum(state: dict[str, Tensor]) -> str:
    """The CRC-32 of the tensors of a state dict, with their names."""
    crc = 0
    for name in sorted(state):
        data = state[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        crc = zlib.crc32(data, zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def save_weights(state: dict[str, Tensor], backbone: str, path: Path) -> None:
    """Write a state dict of `backbone` as safetensors, with its activation and checksum, whole or not at all."""
    write(state, path, {"activation": backbones.activation(backbone) + CRC + checksum(state)})


def write(state: dict[str, Tensor], path: str | Path, about: dict[str, str]) -> None:
    """Write tensors as safetensors with the metadata `about`, whole or not at all. Raises UserError."""
    with atomic(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(state, temporary, about)
        except SafetensorError as error:  # such as a full disk
            raise UserError(f"{path}: cannot be written: {first_line(error)}") from None
        with suppress(OSError):  # some file systems have no modes to change
            temporary.chmod(mode)  # safetensors lets only the user read the file
