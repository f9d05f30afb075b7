"""Low-rank tuning (LoRA; Hu et al., ICLR 2022): factors train in place of the weights that they are added to."""

import math
from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from centerclip.backbones.clip import freeze

PACKED = "in_proj_weight"  # q, k and v of open_clip's attention, [3 D, D]


class LowRank(nn.Module):
    """W [3 D, D] -> W + B A in the rows of `where`. A [rank, D] is random; B is 0 at first. As usual for packed weights
    and as TempMe's published number of parameters implies, one A serves q, k and v. LoRA's factor alpha / rank is 1:
    the learning rate does the same."""

    def __init__(self, width: int, rank: int, where: Sequence[str]):
        super().__init__()
        rows = torch.cat([torch.arange(width) + "qkv".index(part) * width for part in where])
        self.register_buffer("rows", rows, persistent=False)
        self.a, self.b = nn.Parameter(torch.empty(rank, width)), nn.Parameter(torch.zeros(len(rows), rank))
        nn.init.kaiming_uniform_(self.a, math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight.index_add(0, self.rows, self.b @ self.a)


def adapt(model: open_clip.CLIP, rank: int, where: Sequence[str]) -> None:
    """Let low-rank factors of `where`, of "q", "k" and "v", train in all blocks of both towers, and what stages learn;
    all of CLIP's own parameters freeze. A is drawn on the CPU: the same on all devices."""
    freeze(model, "clip")
    for tower in (model.visual.transformer, model.transformer):
        for block in tower.resblocks:
            weight = block.attn.in_proj_weight
            factors = LowRank(weight.shape[1], rank, where).to(weight.device)
            parametrize.register_parametrization(block.attn, PACKED, factors)


def adapted(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with low-rank factors, by name."""
    return {name: module for name, module in model.named_modules() if parametrize.is_parametrized(module)}


def merge(model: nn.Module) -> None:
    """Add the low-rank updates of a model to its weights, which drops the factors."""
    for module in adapted(model).values():
        parametrize.remove_parametrizations(module, PACKED)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model as if merged; the model stays as it is."""
    plain = {name: tensor for name, tensor in model.state_dict().items() if ".parametrizations." not in name}
    return plain | {f"{name}.{PACKED}": module.in_proj_weight.detach() for name, module in adapted(model).items()}
