"""Models of `centerclip.reduce` on disk."""

from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from centerclip import backbones
from centerclip.backbones import weights
from centerclip.backbones.clip import arguments, has_text_module
from centerclip.command import UserError, first_line, located
from centerclip.method.fit import check_stages
from centerclip.method.reduced import ReducedCLIP, held_geometry
from centerclip.method.stage import Model
from centerclip.method.state import SETTINGS, Settings

OF_RUNS = ("training", "grad_checkpointing", "output_dict")  # attributes of modules that are not their architecture


def save_reduced(model: ReducedCLIP, path: str | Path) -> None:
    """Write a model of `centerclip.reduce` as safetensors: its weights, settings and, if it is one of `centerclip
    backbones`, the backbone."""
    backbone = backbone_of(model.clip)
    about = {"backbone": backbone, "activation": backbones.activation(backbone)} if backbone else {}
    state = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    weights.write(state, path, about)


def load_reduced(path: str | Path, model: open_clip.CLIP | None = None) -> ReducedCLIP:
    """The model that `ReducedCLIP.save` wrote to `path`, on the CPU, in evaluation mode.

    If the file is of none of `centerclip backbones`, `model` must have the reduced model's architecture; it takes the
    file's weights. Raises UserError for a file that is missing or damaged, or a model that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{located(path)}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        with safe_open(path, "pt") as file:
            backbone = (file.metadata() or {}).get("backbone")
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)})") from None
    if SETTINGS not in state:
        raise UserError(f"{path}: not of a model of centerclip.reduce, whose save(path) keeps its settings")
    try:
        settings = Settings.of_tensor(state[SETTINGS])
        if model is None and backbone is None:
            raise UserError("its backbone is not in `centerclip backbones`: load_reduced(path, model) with one like it")
        built = created(backbone) if model is None else model
        check_stages(Model(backbone or "the model", stages=settings.stages), settings.frames, held_geometry(built))
        reduced = ReducedCLIP(built, settings.stages, settings.proportional, settings.frames)
        reduced.load_state_dict(state, assign=model is None)  # assigned, weights keep their precision
    except (UserError, RuntimeError, TypeError, ValueError) as error:  # of names, shapes and settings that do not fit
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    return reduced.eval()


def backbone_of(clip: nn.Module) -> str | None:
    """The backbone with the architecture of a model in memory; None if no backbone has it."""
    geometry, modules = held_geometry(clip), dict(clip.named_modules())
    shapes = {name: tensor.shape for name, tensor in clip.state_dict().items()}

    def same(name: str) -> bool:
        if backbones.geometry(name) != geometry or "hf_model_name" in backbones.model_config(name)["text_cfg"]:
            return False
        with torch.device("meta"):
            other = created(name)
        return {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes and all(
            place in modules and architecture(module).items() <= architecture(modules[place]).items()
            for place, module in other.named_modules()
        )

    return next(filter(same, backbones.names()), None)


def created(backbone: str) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """open_clip's model of a backbone, with random weights."""
    kind = open_clip.CustomTextCLIP if has_text_module(backbone) else open_clip.CLIP
    return kind(**arguments(backbone))


def architecture(module: nn.Module) -> dict[str, object]:
    """What decides what a module computes, besides its parameters: plain attributes and, unless a CLIP, its class."""
    plain = (int, float, str, tuple, type(None))
    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, plain) and not name.startswith("_") and name not in OF_RUNS
    }
    return found if hasattr(module, "visual") else found | {"": type(module).__name__}
