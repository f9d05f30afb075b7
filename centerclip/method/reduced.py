"""A CLIP that one already holds, with a way to reduce the tokens of its videos: `centerclip.reduce`."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from centerclip import backbones
from centerclip.backbones import COCA
from centerclip.command import UserError, atomic, first_line, located
from centerclip.method import reduction
from centerclip.method.fit import Geometry, check_stages
from centerclip.method.schedules import SCHEDULES
from centerclip.method.schedules import stages as scheduled
from centerclip.method.stage import Model, Stage
from centerclip.method.state import SETTINGS, Settings, other_reduction
from centerclip.method.video import VideoSide

OF_RUNS = ("training", "grad_checkpointing", "output_dict")  # attributes of modules that are not their architecture


class ReducedCLIP(VideoSide, nn.Module):
    """A model of open_clip, as `clip` unchanged and its weights shared, that encodes videos by stages."""

    def __init__(self, clip: nn.Module, stages: Sequence[Stage], proportional: bool, frames: int = 12):
        super().__init__()
        self.clip = clip
        self.reduce_by(stages, proportional=proportional)
        self.settings = Settings(tuple(stage.settings for stage in self.stages.values()), proportional, frames)
        for stage in self.stages.values():
            stage.start_embedding(self.visual.positional_embedding[1:])
        self.to(clip.visual.conv1.weight.device).train(clip.training)

    @property
    def visual(self) -> VisionTransformer:
        return self.clip.visual

    def encode_text(self, text: Tensor) -> Tensor:
        """Encode token ids as the model's own tokenizer gives them to [B, E] float32 unit vectors."""
        return F.normalize(self.clip.encode_text(text).float(), dim=-1)

    def forward(
        self, frames: Tensor, mask: Tensor | None = None, text: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """`encode_video(frames, mask)` or, with `text`, what open_clip's models give a loss: the videos' vectors, the
        texts' and the factor of their similarities, exp(logit_scale)."""
        videos = self.encode_video(frames, mask)
        return videos if text is None else (videos, self.encode_text(text), self.clip.logit_scale.exp())

    def get_extra_state(self) -> Tensor:
        """What PyTorch adds to the state dict: it keeps the settings."""
        return self.settings.tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Raise UserError for the state dict of a model with other settings."""
        if wrong := other_reduction(state, self):
            raise UserError(f"the state dict is {wrong}")

    def save(self, path: str | Path) -> None:
        """Write the model as safetensors for `load_reduced`: its weights, settings and, if it is one of `centerclip
        backbones`, the backbone."""
        backbone = backbone_of(self.clip)
        about = {"backbone": backbone, "activation": backbones.activation(backbone)} if backbone else {}
        state = {name: tensor.detach().clone().contiguous() for name, tensor in self.state_dict().items()}
        with atomic(path) as temporary:
            save_file(state, temporary, about)


def load_reduced(path: str | Path, model: open_clip.CLIP | None = None) -> ReducedCLIP:
    """The model that `ReducedCLIP.save` wrote to `path`, on the CPU, in evaluation mode.

    `model` is needed where the file is of none of `centerclip backbones`: one of the architecture that was reduced; it
    takes the weights of the file.

    Raises:
        UserError: a file that is not there, damaged, or not of a reduced model; an unknown backbone; a model that does
            not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{located(path)}: no such file")
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
        built = open_clip.CLIP(**backbones.model_config(backbone)) if model is None else model
        check_stages(Model(backbone or "the model", stages=settings.stages), settings.frames, held_geometry(built))
        reduced = ReducedCLIP(built, settings.stages, settings.proportional, settings.frames)
        reduced.load_state_dict(state, assign=model is None)  # assigned, weights keep their precision
    except (UserError, RuntimeError, TypeError, ValueError) as error:  # of names, shapes and settings that do not fit
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    return reduced.eval()


def backbone_of(clip: nn.Module) -> str | None:
    """The backbone that has the architecture of a model in memory; None if none has."""
    geometry, modules = held_geometry(clip), dict(clip.named_modules())
    shapes = {name: tensor.shape for name, tensor in clip.state_dict().items()}

    def same(name: str) -> bool:
        if backbones.geometry(name) != geometry:
            return False
        with torch.device("meta"):
            other = open_clip.CLIP(**backbones.model_config(name))
        return {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes and all(
            place in modules and architecture(module).items() <= architecture(modules[place]).items()
            for place, module in other.named_modules()
        )

    return next(filter(same, backbones.names()), None)


def architecture(module: nn.Module) -> dict[str, object]:
    """What a module computes besides its parameters: its plain attributes and, but of a whole CLIP, its class."""
    plain = (int, float, str, tuple, type(None))
    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, plain) and not name.startswith("_") and name not in OF_RUNS
    }
    return found if hasattr(module, "visual") else found | {"": type(module).__name__}


def reduce(
    model: open_clip.CLIP,
    method: str,
    *,
    segments: int | None = None,
    clusters: int | None = None,
    block: int | None = None,
    keep: str = "medoid",
    frames: int = 12,
    **options: object,
) -> ReducedCLIP:
    """A model whose `encode_video(frames [B, T, 3, H, W], mask [B, T] or None)` gives [B, E] float32 unit vectors.

    Args:
        model: of open_clip, whose video side is its own ViT; it is not changed, and its weights are shared.
        method: an algorithm of `centerclip/method/reduction`, as one stage, or a schedule: "tome", "tempme".
        segments: of a video. None: frames stay apart. clusters: tokens that a segment keeps. None: as many as a frame
            has patches. block: how many blocks come before the stage. None: half of them. keep: "medoid", "mean" or
            "weighted". Schedules take none of these.
        frames: T, which a stage and a schedule have to fit.
        options: of the algorithm or the schedule.

    Raises:
        UserError: another video side, an unknown method or option, or what does not fit.
    """
    geometry = held_geometry(model)
    if method in SCHEDULES:
        stages = scheduled(method, geometry.blocks, frames, options)
    elif reduction.sees_pixels(method):
        stages = (Stage(method, 0, options=options),)
    else:
        block = geometry.blocks // 2 if block is None else block
        clusters = geometry.patches if clusters is None else clusters
        stages = (Stage(method, block, segments, clusters, keep, options=options),)
    described = Model("the model", None, stages, proportional=method in SCHEDULES)
    check_stages(described, frames, geometry)
    return ReducedCLIP(model, stages, described.proportional, frames)


def held_geometry(model: nn.Module) -> Geometry:
    """The geometry of a model in memory. Raises UserError where its video side is not open_clip's own ViT."""
    visual = getattr(model, "visual", None)
    if not isinstance(visual, VisionTransformer):
        kind = type(visual).__name__
        raise UserError(f"reduce: the video side is a {kind}, not open_clip's VisionTransformer")
    if visual.attn_pool is not None:
        raise UserError(f"reduce: the model does not work here, as {COCA}; such as ViT-B-32, ViT-L-14 do")
    return Geometry(
        image_size=visual.image_size[0],
        patches=visual.grid_size[0] * visual.grid_size[1],
        width=visual.conv1.out_channels,
        blocks=len(visual.transformer.resblocks),
        pooling=visual.pool_type,
        context=getattr(model, "context_length", 77),
    )
