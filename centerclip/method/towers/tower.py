"""What the method knows of a CLIP's video tower: its sizes, and the parts of its blocks."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tower:
    """A view of the module that encodes frames, which keeps all weights; one file of this package for each kind.

    width: numbers of a token. image_size, patch_size: sides in pixels. patches: of a frame. classes: [CLASS] tokens in
    front of a frame's patches, 0 or 1. pooling: as in `Geometry`. positions: vectors [patches, D] that `embed` adds
    to patches; None if it adds none. checkpointed: whether the backward pass computes activations again.

    A token's place is 0 for [CLASS] and 1 to `patches` for a frame's patches. Towers with rotary positions need it.
    """

    width: int
    image_size: int
    patch_size: int
    patches: int
    classes: int
    pooling: str
    positions: Tensor | None
    blocks: Sequence[nn.Module]
    checkpointed: bool

    def embed(self, frames: Tensor) -> Tensor:
        """Tokens [B, C + N, D] of frames [B, 3, H, W], as the first block takes them."""
        raise NotImplementedError

    def projected(self, block: nn.Module, x: Tensor) -> Tensor:
        """Queries, keys and values [..., 3 A] of a block's attention for x [..., D], not rotated."""
        raise NotImplementedError

    def mixed(self, block: nn.Module, values: Tensor) -> Tensor:
        """What attention adds to x [..., D], of the values [..., A] that it mixed."""
        raise NotImplementedError

    def mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        """What the MLP of a block adds to x [..., D]."""
        raise NotImplementedError

    def pool(self, x: Tensor, classes: int, sizes: Tensor | None = None) -> Tensor:
        """Projected vectors [B, E] of the last block's tokens [B, C + N, D], or [B, C, E] of several [CLASS] tokens. A
        pool of patches counts each as often as `sizes` [B, C + N] says."""
        raise NotImplementedError

    def places(self, frames: int) -> Tensor | None:
        """The places [frames, C + N] of the tokens of frames; None: the tower does not need them."""
        return None

    def rotated(self, block: nn.Module, x: Tensor, places: Tensor | None) -> Tensor:
        """Queries or keys [B, heads, N, A / heads], rotated by the places [B, N] of their tokens."""
        return x

    def run(self, block: nn.Module, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Tokens [B, N, D] after a block."""
        x = x + self.attended(block, x, places)
        return x + self.mlp(block, x)

    def attended(self, block: nn.Module, x: Tensor, places: Tensor | None = None) -> Tensor:
        """What the attention of a block adds to x [B, N, D]."""
        return self.attention(block, x, places)[0]

    def attention(
        self, block: nn.Module, x: Tensor, places: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the attention of a block adds to x [B, N, D], then [B, heads, N, A / heads] its queries and keys, both
        rotated, and its keys without rotation, by which tokens are compared. `bias` [B, N] is added to the logits of
        each key."""
        queries, unrotated, values = heads(self.projected(block, x), block.attn.num_heads)
        queries, keys = self.rotated(block, queries, places), self.rotated(block, unrotated, places)
        bias = None if bias is None else bias[:, None, None].to(queries.dtype)
        attended = F.scaled_dot_product_attention(queries, keys, values, bias).transpose(1, 2).flatten(2)
        return self.mixed(block, attended), queries, keys, unrotated


def heads(projections: Tensor, number: int) -> Tensor:
    """Queries, keys and values [3, B, heads, N, A / heads] of projections [B, N, 3 A]."""
    return projections.unflatten(2, (3, number, -1)).permute(2, 0, 3, 1, 4)


@torch.no_grad()
def class_attention(queries: Tensor, keys: Tensor, classes: int, bias: Tensor | None = None) -> Tensor:
    """[B, N - C] float32: what each token but the C [CLASS] tokens in front gets of their attention, the mean over
    these and over heads. Arguments are as in `Tower.attention`, whose fused kernel does not tell it."""
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries[:, :, :classes].float() @ keys.float().mT / math.sqrt(keys.shape[-1])
    logits = logits if bias is None else logits + bias[:, None, None]
    return logits.softmax(-1)[..., classes:].mean((1, 2))


def mean_of_patches(x: Tensor, sizes: Tensor | None) -> Tensor:
    """The mean [B, D] of patches x [B, N, D], each counted as often as sizes [B, N] says."""
    if sizes is None:
        return x.mean(1)
    return ((sizes / sizes.sum(1, keepdim=True)).to(x.dtype)[:, None] @ x)[:, 0]
