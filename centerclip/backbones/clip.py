"""CLIP with a video side, built and frozen."""

from collections.abc import Sequence

import open_clip
import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from centerclip import backbones
from centerclip.backbones.texts import hub
from centerclip.backbones.weights import load_weights
from centerclip.method.stage import Model, Stage
from centerclip.method.video import VideoSide

STEM = (  # the parameters of both towers in front of their blocks, by the beginning of their names
    *("token_embedding.", "positional_embedding"),
    *("text.token_embedding.", "text.positional_embedding", "text.transformer.embed"),
    *("visual.conv1.", "visual.class_embedding", "visual.positional_embedding", "visual.ln_pre."),
    *(f"visual.trunk.{part}" for part in ("cls_token", "pos_embed", "patch_embed.", "norm_pre.")),
)
LEARNED = ("stages.",)  # the parameters that CLIP does not have
HEADS = (
    *("visual.proj", "visual.head.", "visual.trunk.attn_pool.", "visual.trunk.head."),
    *("text_projection", "text.text_projection", "text.proj.", "logit_", *LEARNED),
)


class Encoder(VideoSide):
    """What encodes videos and texts, of a model of open_clip; its parameter names are kept."""

    def __init__(
        self,
        backbone: str,
        stages: Sequence[Stage] = (),
        shift: str | None = None,
        proportional: bool = False,
        image_size: int | None = None,
        vectors: str = "mean",
    ):
        with hub(backbone, "model"):
            super().__init__(**arguments(backbone, image_size))
        self.reduce_by(stages, shift, proportional, vectors)

    def encode_text(self, text: Tensor, normalize: bool = True) -> Tensor:
        """Encode token ids [B, L], L up to the backbone's context, to [B, E] float32 vectors, of unit length if
        `normalize`. Texts take the first L positions; they are padded to full length where the model sees padding."""
        side = getattr(self, "text", self)
        x = side(text) if isinstance(side, HFTextEncoder) else self.transformed(side, text)
        return F.normalize(x.float(), dim=-1) if normalize else x.float()

    def transformed(self, side: nn.Module, text: Tensor) -> Tensor:
        """The projected vectors [B, E] of token ids [B, L] by open_clip's text transformer, whose parts `side` has."""
        pool = side.text_pool_type if side is self else side.pool_type
        if side.attn_mask is None or pool == "last":
            text = F.pad(text, (0, side.context_length - text.shape[1]))
        length = text.shape[1]
        mask = None if side.attn_mask is None else side.attn_mask[:length, :length]
        x = side.token_embedding(text) + side.positional_embedding[:length]
        x = side.ln_final(side.transformer(x, attn_mask=mask))
        x = text_global_pool(x, text, pool, side.text_eos_id if side is self else side.eos_id)
        if isinstance(side.text_projection, nn.Linear):
            return side.text_projection(x)
        return x if side.text_projection is None else x @ side.text_projection


class CenterCLIP(Encoder, open_clip.CLIP):
    """A CLIP whose text side's modules are its own."""


class CustomCenterCLIP(Encoder, open_clip.CustomTextCLIP):
    """A CLIP whose text side is its module `text`."""


def has_text_module(backbone: str) -> bool:
    """Whether open_clip's model of a backbone is a CustomTextCLIP."""
    config = backbones.model_config(backbone)
    return config.get("custom_text", False) or "hf_model_name" in config["text_cfg"]


def arguments(backbone: str, image_size: int | None = None) -> dict:
    """The arguments of open_clip's model of a backbone, which starts with random weights."""
    config = backbones.model_config(backbone, image_size)
    text = config["text_cfg"] | ({"hf_model_pretrained": False} if "hf_model_name" in config["text_cfg"] else {})
    return {key: value for key, value in config.items() if key != "custom_text"} | {"text_cfg": text}


def build(model: Model, seed: int, image_size: int | None = None) -> CenterCLIP:
    """The model before any training, with its pretrained weights or, without, weights drawn from `seed`; it encodes
    frames of `image_size` pixels, None: of the backbone's own size. A stage's embedding starts as the positional
    embedding of the first K patches, as the authors' does. Raises UserError as `load_weights` or `hub`."""
    torch.manual_seed(seed)
    kind = CustomCenterCLIP if has_text_module(model.backbone) else CenterCLIP
    built = kind(model.backbone, model.stages, model.shift, model.proportional, image_size, model.vectors)
    if model.weights is not None:
        load_weights(built, model.backbone, model.weights)
    if image_size and hasattr(built.visual, "trunk"):  # open_clip's own ViT is built for it
        built.visual.set_input_size(image_size)
    for stage in built.stages.values():
        stage.start_embedding(built.tower.positions)
    return built


def freeze(model: open_clip.CLIP, part: str) -> None:
    """Let all parameters of a model train but those of `part`: "stem", all in front of the first blocks; "backbone",
    all but HEADS; "clip", all but LEARNED; or "none"."""
    for name, parameter in model.named_parameters():
        trains = {
            "none": True,
            "stem": not name.startswith(STEM),
            "backbone": name.startswith(HEADS),
            "clip": name.startswith(LEARNED),
        }
        parameter.requires_grad_(trains[part])
