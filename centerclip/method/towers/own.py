"""open_clip's own ViT."""

import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from centerclip.method.towers.tower import Tower, mean_of_patches


class OwnViT(Tower):
    """A tower that is open_clip's `VisionTransformer`."""

    classes = 1

    def __init__(self, visual: VisionTransformer):
        self.visual, self.blocks = visual, visual.transformer.resblocks
        self.width, self.pooling = visual.conv1.out_channels, visual.pool_type
        self.image_size, self.patch_size = visual.image_size[0], visual.patch_size[0]
        self.patches = visual.grid_size[0] * visual.grid_size[1]
        self.positions = visual.positional_embedding[1:]
        self.checkpointed = visual.transformer.grad_checkpointing

    def embed(self, frames: Tensor) -> Tensor:
        return self.visual._embeds(frames)

    def run(self, block: nn.Module, x: Tensor, places: Tensor | None = None) -> Tensor:
        return block(x)

    def attended(self, block: nn.Module, x: Tensor, places: Tensor | None = None) -> Tensor:
        return block.ls_1(block.attention(block.ln_1(x)))

    def projected(self, block: nn.Module, x: Tensor) -> Tensor:
        return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)

    def mixed(self, block: nn.Module, values: Tensor) -> Tensor:
        return block.ls_1(block.attn.out_proj(values))

    def mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        return block.ls_2(block.mlp(block.ln_2(x)))

    def pool(self, x: Tensor, classes: int, sizes: Tensor | None = None) -> Tensor:
        visual = self.visual
        if self.pooling == "tok" and classes > 1:
            pooled = visual.ln_post(x[:, :classes])
        elif self.pooling != "avg" or sizes is None:
            pooled = visual._pool(x)[0]
        elif visual.final_ln_after_pool:
            pooled = visual.ln_post(mean_of_patches(x[:, 1:], sizes[:, 1:]))
        else:
            pooled = mean_of_patches(visual.ln_post(x)[:, 1:], sizes[:, 1:])
        return pooled @ visual.proj
