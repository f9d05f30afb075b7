"""timm's ViTs in open_clip's models: SigLIP, SigLIP 2, ViTamin, MobileCLIP-B and L, EVA-01, EVA-02 and PE-Core."""

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from centerclip.method.towers.tower import Tower, mean_of_patches

POOLING = {"token": "tok", "avg": "avg", "map": "map"}
PLAIN = {  # the classes of a trunk, its blocks and their attention
    (VisionTransformer, Block, Attention),
    (Eva, EvaBlock, EvaAttention),
    (Eva, EvaBlock, AttentionRope),
    (Eva, EvaBlockPostNorm, EvaAttention),
}


class Trunk(Tower):
    """A tower that is open_clip's `TimmModel`, with a trunk that `is_plain`.

    A token's rotation is a row of one table, by its place, so that it follows the token. [CLASS] has the identity.
    """

    def __init__(self, visual: TimmModel):
        trunk = visual.trunk
        self.visual, self.trunk, self.blocks = visual, trunk, trunk.blocks
        self.width, self.classes, self.pooling = trunk.embed_dim, trunk.num_prefix_tokens, POOLING[trunk.global_pool]
        self.image_size, self.patches = trunk.patch_embed.img_size[0], trunk.patch_embed.num_patches
        self.patch_size = self.image_size // trunk.patch_embed.grid_size[0]
        self.positions = None if trunk.pos_embed is None else trunk.pos_embed[0, -self.patches :]
        self.checkpointed = trunk.grad_checkpointing
        self.rotations = None
        if getattr(trunk, "rope", None) is not None:
            table = trunk.rope.get_embed(trunk.patch_embed.grid_size)  # [N, 2 A / heads], sines and cosines
            sines, cosines = table[:1].chunk(2, -1)
            identity = torch.cat([torch.zeros_like(sines), torch.ones_like(cosines)], -1)
            self.rotations = torch.cat([identity, table])

    def embed(self, frames: Tensor) -> Tensor:
        embedded = self.trunk._pos_embed(self.trunk.patch_embed(frames))
        return self.trunk.norm_pre(embedded[0] if isinstance(embedded, tuple) else embedded)

    def places(self, frames: int) -> Tensor | None:
        if self.rotations is None:
            return None
        return torch.arange(1 - self.classes, 1 + self.patches, device=self.rotations.device).expand(frames, -1)

    def rotated(self, block: nn.Module, x: Tensor, places: Tensor | None) -> Tensor:
        if self.rotations is None:
            return x
        return apply_rot_embed_cat(x, self.rotations[places][:, None], half=block.attn.rotate_half)

    def projected(self, block: nn.Module, x: Tensor) -> Tensor:
        attn, x = block.attn, x if isinstance(block, EvaBlockPostNorm) else block.norm1(x)
        if attn.qkv is None:
            return torch.cat([attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)], -1)
        if getattr(attn, "q_bias", None) is None:
            return attn.qkv(x)
        return F.linear(x, attn.qkv.weight, torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]))

    def mixed(self, block: nn.Module, values: Tensor) -> Tensor:
        return scaled(block, 1, block.attn.proj_drop(block.attn.proj(block.attn.norm(values))))

    def mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        return scaled(block, 2, block.mlp(x if isinstance(block, EvaBlockPostNorm) else block.norm2(x)))

    def pool(self, x: Tensor, classes: int, sizes: Tensor | None = None) -> Tensor:
        trunk, x = self.trunk, self.trunk.norm(x)
        if self.pooling == "tok":
            x = x[:, 0] if classes == 1 else x[:, :classes]
        else:
            # Eva's map attends to [CLASS], too
            first = 0 if self.pooling == "map" and isinstance(trunk, Eva) else classes
            x, sizes = x[:, first:], None if sizes is None else sizes[:, first:]
            if self.pooling == "map":
                x = trunk.attn_pool(x, attn_mask=None if sizes is None else sizes.log()[:, None, None].to(x.dtype))
            else:
                x = mean_of_patches(x, sizes)
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(x))))


def is_plain(visual: nn.Module) -> bool:
    """Whether `Trunk` computes all that a module does: blocks of the classes that CLIPs have, in their known form."""
    trunk = getattr(visual, "trunk", None)
    if not isinstance(visual, TimmModel) or type(trunk) not in (VisionTransformer, Eva):
        return False
    rows, columns = trunk.patch_embed.grid_size
    return (
        trunk.global_pool in POOLING
        and rows == columns
        and isinstance(trunk.patch_drop, nn.Identity | None)
        and trunk.num_prefix_tokens == (trunk.cls_token is not None)  # no registers
        and not getattr(trunk, "pool_include_prefix", False)
        and not getattr(trunk, "rope_mixed", False)
        and all(
            (type(trunk), type(block), type(block.attn)) in PLAIN
            and isinstance(block.attn.q_norm, nn.Identity)
            and block.attn.gate is None
            and getattr(block.attn, "num_kv_groups", 1) == 1
            for block in trunk.blocks
        )
    )


def scaled(block: nn.Module, part: int, added: Tensor) -> Tensor:
    """What attention (part 1) or the MLP (part 2) adds to tokens, after the block's own norm or scale of it."""
    if isinstance(block, Block):
        added = getattr(block, f"ls{part}")(added)
    elif isinstance(block, EvaBlockPostNorm):
        added = getattr(block, f"norm{part}")(added)
    elif (gamma := getattr(block, f"gamma_{part}")) is not None:
        added = gamma * added
    return getattr(block, f"drop_path{part}")(added)
