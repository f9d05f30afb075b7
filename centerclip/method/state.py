"""How a model reduces tokens, kept in its state dict, so that its weights are not read into another model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from centerclip.method.stage import Stage

SETTINGS = "_extra_state"  # PyTorch's name in a state dict for what a module adds to its parameters


@dataclass(frozen=True)
class Settings:
    """How a model reduces the tokens of a video of so many frames."""

    stages: tuple[Stage, ...]
    proportional: bool
    frames: int

    def tensor(self) -> Tensor:
        """Json's characters as floats, which survive half precision and a moving average of a state dict."""
        return torch.tensor([float(code) for code in json.dumps(asdict(self)).encode()])

    @classmethod
    def of_tensor(cls, codes: Tensor) -> Settings:
        """The settings that `tensor` wrote. Raises ValueError for other numbers."""
        try:
            fields = json.loads(bytes(codes.float().round().int().tolist()))
            return cls(tuple(Stage(**stage) for stage in fields.pop("stages")), **fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError("the settings of its reduction are damaged") from None


def other_reduction(codes: Tensor, model: nn.Module) -> str | None:
    """What is wrong with the settings of a state dict for `model`, and what to do; None: both reduce alike."""
    try:
        settings = Settings.of_tensor(codes)
    except ValueError as error:
        return str(error)
    stages = tuple(stage.settings for stage in getattr(model, "stages", nn.ModuleDict()).values())
    if (stages, getattr(model, "proportional", False)) == (settings.stages, settings.proportional):
        return None
    stage, *others = settings.stages or [None]
    told = "without a stage"
    if stage:
        told = f"by {stage.algorithm} after block {stage.block}" + (f" and {len(others)} more stages" if others else "")
    if stage and not others and stage == Stage("kmedoids", stage.block, stage.segments, stage.clusters):
        told += f" (--stage {stage.block} {stage.segments} {stage.clusters})"
    return (
        f"of a model of centerclip.reduce, {told}, and here tokens are reduced otherwise: give the same stage, "
        "use centerclip.load_reduced, or save the state dict of its .clip alone"
    )
