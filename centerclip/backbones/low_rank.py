"""Low-rank tuning (LoRA; Hu et al., ICLR 2022): factors train in place of the weights that they are added to."""

import math
from collections.abc import Iterator, Sequence

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from centerclip.backbones.clip import freeze
from centerclip.command import UserError
from centerclip.method.towers import tower_of


class LowRank(nn.Module):
    """W [R, D] -> W + B A in some `rows` of W [M]. A [rank, D] is random; B [M, rank] is 0 at first. LoRA's factor
    alpha / rank is 1: the learning rate does the same."""

    def __init__(self, width: int, rank: int, rows: Tensor):
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.a, self.b = nn.Parameter(torch.empty(rank, width)), nn.Parameter(torch.zeros(len(rows), rank))
        nn.init.kaiming_uniform_(self.a, math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight.index_add(0, self.rows, self.b @ self.a)


def adapt(model: open_clip.CLIP | open_clip.CustomTextCLIP, rank: int, where: Sequence[str]) -> None:
    """Let low-rank factors of `where`, of "q", "k" and "v", train in all blocks of both towers, and what stages learn;
    all of CLIP's own parameters freeze. A is drawn on the CPU: the same on all devices.

    One A serves q, k and v where they are packed into one weight, as TempMe's published number of parameters implies.
    Separate weights have an A each. Raises UserError for a text side of transformers.
    """
    freeze(model, "clip")
    text = getattr(model, "text", model).transformer
    if not hasattr(text, "resblocks"):
        raise UserError(
            "training.tune lora: the text side is a model of transformers, which takes no factors: tune all"
        )
    for block in (*tower_of(model.visual).blocks, *text.resblocks):
        for module, name, parts in projections(block.attn, where):
            weight = getattr(module, name)
            size = len(weight) // len(parts)  # the rows of q, k or v
            rows = torch.cat([torch.arange(size) + parts.index(part) * size for part in where if part in parts])
            parametrize.register_parametrization(module, name, LowRank(weight.shape[1], rank, rows).to(weight.device))


def projections(attention: nn.Module, where: Sequence[str]) -> Iterator[tuple[nn.Module, str, str]]:
    """The weights of an attention that make some of `where`: the module of each, its name there, and the parts that
    are packed in it, in order."""
    if getattr(attention, "in_proj_weight", None) is not None:
        yield attention, "in_proj_weight", "qkv"
    elif attention.qkv is not None:
        yield attention.qkv, "weight", "qkv"
    else:
        for part in where:
            yield getattr(attention, f"{part}_proj"), "weight", part


def adapted(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """The weights with low-rank factors, by their names in the state dict: the module and its own name for each."""
    found = {}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            found |= {f"{name}.{weight}": (module, weight) for weight in module.parametrizations}
    return found


def merge(model: nn.Module) -> None:
    """Add the low-rank updates of a model to its weights, which drops the factors."""
    for module, weight in adapted(model).values():
        parametrize.remove_parametrizations(module, weight)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model as if merged; the model stays as it is."""
    plain = {name: tensor for name, tensor in model.state_dict().items() if ".parametrizations." not in name}
    return plain | {name: getattr(module, weight).detach() for name, (module, weight) in adapted(model).items()}
