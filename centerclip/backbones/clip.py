"""CLIP with a video side, built and frozen."""

from collections.abc import Sequence

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from centerclip import backbones
from centerclip.backbones.weights import load_weights
from centerclip.method.stage import Model, Stage
from centerclip.method.video import VideoSide

STEM = (  # the parameters of both towers in front of their blocks, by the beginning of their names
    *("token_embedding.", "positional_embedding"),
    *("visual.conv1.", "visual.class_embedding", "visual.positional_embedding", "visual.ln_pre."),
)
LEARNED = ("stages.",)  # the parameters that CLIP does not have
HEADS = ("visual.proj", "text_projection", "logit_scale", *LEARNED)


class CenterCLIP(VideoSide, open_clip.CLIP):
    """An open_clip CLIP (its parameter names kept) that encodes videos."""

    def __init__(
        self,
        backbone: str,
        stages: Sequence[Stage] = (),
        shift: str | None = None,
        proportional: bool = False,
        image_size: int | None = None,
        vectors: str = "mean",
    ):
        super().__init__(**backbones.model_config(backbone, image_size))
        self.reduce_by(stages, shift, proportional, vectors)

    def encode_text(self, text: Tensor, normalize: bool = True) -> Tensor:
        """Encode token ids [B, L], L up to the backbone's context, to [B, E] float32 vectors, of unit length if
        `normalize`. Texts take the first L positions; they are padded to full length where the model sees padding."""
        if self.attn_mask is None or self.text_pool_type == "last":
            text = F.pad(text, (0, self.context_length - text.shape[1]))
        length = text.shape[1]
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length]
        x = self.token_embedding(text) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, attn_mask=mask))
        x = text_global_pool(x, text, self.text_pool_type, self.text_eos_id)
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return F.normalize(x.float(), dim=-1) if normalize else x.float()


def build(model: Model, seed: int, image_size: int | None = None) -> CenterCLIP:
    """The model before any training, with its pretrained weights or, without, weights drawn from `seed`; it encodes
    frames of `image_size` pixels, None: of the backbone's own size. A stage's embedding starts as the positional
    embedding of the first K patches, as the authors' does. Raises UserError as `load_weights`."""
    torch.manual_seed(seed)
    built = CenterCLIP(model.backbone, model.stages, model.shift, model.proportional, image_size, model.vectors)
    if model.weights is not None:
        load_weights(built, model.backbone, model.weights)
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
