"""The video towers that the method works on; `tower.py` has what it knows of them."""

from open_clip.transformer import CustomResidualAttentionBlock, VisionTransformer
from torch import nn

from centerclip.method.errors import UserError
from centerclip.method.fit import COCA
from centerclip.method.towers.own import OwnViT
from centerclip.method.towers.tower import Tower
from centerclip.method.towers.trunk import Trunk, is_plain


def tower_of(visual: nn.Module) -> Tower:
    """The tower that is the `visual` of a CLIP. It holds no weights of its own and may be made for every call."""
    return OwnViT(visual) if isinstance(visual, VisionTransformer) else Trunk(visual)


def check_tower(visual: nn.Module | None) -> None:
    """Raise UserError where the `visual` of a model is no tower of this package."""
    if isinstance(visual, VisionTransformer) and visual.attn_pool is not None:
        raise UserError(f"reduce: the model does not work here, as {COCA}; try ViT-B-32 or ViT-L-14")
    own = isinstance(visual, VisionTransformer)
    if own and any(isinstance(block, CustomResidualAttentionBlock) for block in visual.transformer.resblocks):
        raise UserError("reduce: the video side has open_clip's custom blocks, which do not work here")
    if not own and not is_plain(visual):
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise UserError(
            f"reduce: the video side is a {kind}, not a ViT of open_clip's or timm's (docs/backbones.md lists them)"
        )
