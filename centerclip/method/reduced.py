"""`centerclip.reduce`: an open_clip model in memory with a way to reduce the tokens of its videos."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch.nn.functional as F
from torch import Tensor, nn

from centerclip.method import reduction
from centerclip.method.errors import UserError
from centerclip.method.fit import Geometry, check_stages
from centerclip.method.schedules import SCHEDULES
from centerclip.method.schedules import stages as scheduled
from centerclip.method.stage import Model, Stage
from centerclip.method.state import Settings, other_reduction
from centerclip.method.towers import check_tower, tower_of
from centerclip.method.video import VideoSide


class ReducedCLIP(VideoSide, nn.Module):
    """A model of open_clip that encodes videos by stages: `clip`, unchanged, whose weights it shares."""

    def __init__(self, clip: nn.Module, stages: Sequence[Stage], proportional: bool, frames: int = 12):
        super().__init__()
        self.clip = clip
        self.reduce_by(stages, proportional=proportional)
        self.settings = Settings(tuple(stage.settings for stage in self.stages.values()), proportional, frames)
        for stage in self.stages.values():
            stage.start_embedding(self.tower.positions)
        self.to(next(clip.visual.parameters()).device).train(clip.training)

    @property
    def visual(self) -> nn.Module:
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
        """The settings, which PyTorch adds to the state dict."""
        return self.settings.tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Raise UserError for the state dict of a model with other settings."""
        if wrong := other_reduction(state, self):
            raise UserError(f"the state dict is {wrong}")

    def save(self, path: str | Path) -> None:
        """Write the model as safetensors for `centerclip.load_reduced`: its weights, settings and backbone."""
        from centerclip import save_reduced  # which knows the backbones' names

        save_reduced(self, path)


def reduce(
    model: open_clip.CLIP | open_clip.CustomTextCLIP,
    method: str,
    *,
    segments: int | None = None,
    clusters: int | None = None,
    block: int | None = None,
    keep: str | None = None,
    frames: int = 12,
    **options: object,
) -> ReducedCLIP:
    """A model whose `encode_video(frames [B, T, 3, H, W], mask [B, T] or None)` gives [B, E] float32 unit vectors.

    Args:
        model: of open_clip, of a family in docs/backbones.md; it is not changed, and its weights are shared. Of a
            ReducedCLIP it is the `clip`.
        method: an algorithm of `centerclip/method/reduction`, as one stage, or a schedule: "tome", "pitome",
            "tempme", "evit".
        segments: of a video. None: frames stay apart. clusters: tokens that a segment keeps. None: as many as a frame
            has patches. At least one of these two is needed. block: how many blocks come before the stage. None: half
            of them. keep: "medoid", "mean" or "weighted". None: what the algorithm's file says, else "medoid".
            Schedules and `rlt` take none of these.
        frames: T, which a stage and a schedule have to fit.
        options: of the algorithm or the schedule.

    Raises:
        UserError: another kind of video side, an unknown method or option, or settings that do not fit.
    """
    model = model.clip if isinstance(model, ReducedCLIP) else model
    geometry = held_geometry(model)
    of_a_stage = {"segments": segments, "clusters": clusters, "block": block, "keep": keep}
    given = {name: value for name, value in of_a_stage.items() if value is not None}
    sets_stages = method in SCHEDULES or reduction.sees_pixels(method)
    if sets_stages and given:
        raise UserError(f"reduce: {method} takes no {next(iter(given))}")
    if method in SCHEDULES:
        stages = scheduled(method, geometry.blocks, frames, options)
    elif sets_stages:
        stages = (Stage(method, 0, options=options),)
    else:
        defaults = {"clusters": geometry.patches, "block": geometry.blocks // 2, "keep": reduction.stays(method)}
        stages = (Stage(method, options=options, **defaults | given),)
    merges = any(stage.keep == "weighted" for stage in stages)
    described = Model("the model", None, stages, proportional=method in SCHEDULES and merges)
    check_stages(described, frames, geometry)
    if not sets_stages and segments is None and clusters is None:
        raise UserError(
            f"reduce: {method} would keep all {geometry.patches} tokens of a frame: give segments or clusters"
        )
    return ReducedCLIP(model, stages, described.proportional, frames)


def held_geometry(model: nn.Module) -> Geometry:
    """The geometry of a model in memory. Raises UserError where the method does not know its video tower."""
    visual = getattr(model, "visual", None)
    if visual is None:
        raise UserError(f"reduce: a {type(model).__name__} is not a model as open_clip.create_model returns it")
    check_tower(visual)
    tower = tower_of(visual)
    return Geometry(
        image_size=tower.image_size,
        patches=tower.patches,
        width=tower.width,
        blocks=len(tower.blocks),
        pooling=tower.pooling,
        context=getattr(model, "context_length", 77),
        classes=tower.classes,
    )
