"""CLIP towers from open_clip with clustering stages between the blocks of the video side."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from centerclip import backbones, clustering
from centerclip.stage import tell
from centerclip.weights import load_weights


@dataclass(frozen=True)
class Stage:
    """One clustering stage: after `block` blocks, each of `segments` segments keeps `clusters` tokens.

    What is kept is each cluster's `medoid` or, with `keep` "mean", the mean of its tokens. `embedding` adds a learned
    vector, zero at first, to each. `options` go to the algorithm.
    """

    algorithm: str
    block: int
    segments: int
    clusters: int
    keep: str = "medoid"
    embedding: bool = False
    options: dict = field(default_factory=dict)


class CenterCLIP(open_clip.CLIP):
    """An open_clip CLIP (its parameter names kept) that encodes videos; with no stage, every frame is one segment.

    `shift` names a shift of centerclip.clustering that every block's attention and MLP see their tokens through.
    """

    def __init__(self, backbone: str, stages: Sequence[Stage] = (), shift: str | None = None):
        super().__init__(**backbones.model_config(backbone))
        self.shift = clustering.algorithm(shift) if shift else None
        self.stages = sorted(stages, key=lambda stage: stage.block)
        width = self.visual.conv1.out_channels
        self.cluster_embeddings = nn.ParameterDict(
            {str(stage.block): torch.zeros(stage.clusters, width) for stage in self.stages if stage.embedding}
        )

    def encode_video(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode videos (paper, section 3.2).

        Args:
            frames: [B, T, 3, H, W] float, normalised as CLIP's images.
            mask: [B, T] bool, false for padding; at least one true a row. None: all true.

        Returns:
            [B, E] float32 unit vectors: the normalised mean of the valid segments' unit vectors.
        """
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if mask is None else mask
        x = self.visual._embeds(frames.flatten(0, 1))
        stages = {stage.block: stage for stage in self.stages}
        for index, block in enumerate(self.visual.transformer.resblocks):
            if index in stages:
                x, mask = self.keep_centres(x, mask, stages[index])
            run = partial(self.shifted, block, frames=mask.shape[1]) if self.shift else block
            again = self.visual.transformer.grad_checkpointing and torch.is_grad_enabled()
            x = checkpoint(run, x, use_reentrant=False) if again else run(x)
        pooled, _ = self.visual._pool(x)
        segments = F.normalize((pooled @ self.visual.proj).float(), dim=-1).view(*mask.shape, -1)
        return F.normalize((segments * mask[:, :, None]).sum(1), dim=-1)

    def shifted(self, block: nn.Module, x: Tensor, frames: int) -> Tensor:
        """`block` of x [B * T, 1 + N, D] whose two branches see the tokens shifted, the residual path as they are."""

        def shift(x: Tensor) -> Tensor:
            return self.shift(x.unflatten(0, (-1, frames))).flatten(0, 1)

        x = x + block.ls_1(block.attention(block.ln_1(shift(x))))
        return x + block.ls_2(block.mlp(block.ln_2(shift(x))))

    def keep_centres(self, x: Tensor, mask: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
        """Join frames into segments and keep each segment's centre tokens, in their order (paper, section 3.3).

        Args:
            x: [B * T, 1 + N, D], a [CLASS] token and N patch tokens a frame.
            mask: [B, T] bool, false for padding.

        Returns:
            [B * S, 1 + K, D], its [CLASS] the mean over a segment's valid frames, and the segments' mask [B, S].
        """
        frames = mask.shape[1] // stage.segments
        x = x.unflatten(0, (-1, frames))  # [B * S, frames, 1 + N, D]
        valid = mask.reshape(-1, frames)
        weights = torch.where(valid.any(1, keepdim=True), valid, True).to(x.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        centre = (x[:, :, 0] * weights[:, :, None]).sum(1, keepdim=True)
        tokens = x[:, :, 1:].flatten(1, 2)
        medoids, assignment = clustering.cluster(
            stage.algorithm, tokens.detach(), stage.clusters, stage.options, frames=frames, training=self.training
        )
        if stage.keep == "mean":
            kept = cluster_means(tokens, assignment, stage.clusters)
        else:
            kept = tokens.gather(1, medoids[:, :, None].expand(-1, -1, tokens.shape[2]))
        if stage.embedding:
            kept = kept + self.cluster_embeddings[str(stage.block)].to(kept.dtype)
        return torch.cat([centre, kept], 1), valid.any(1).view(-1, stage.segments)

    def encode_text(self, text: Tensor, normalize: bool = True) -> Tensor:
        """Encode token ids [B, L], L up to the backbone's context, to [B, E] float32 vectors, of unit length if
        `normalize`. Shorter texts take the first L positions: open_clip itself only knows full-length ones."""
        length = text.shape[1]
        x = self.token_embedding(text) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask[:length, :length]))
        x = (text_global_pool(x, text, self.text_pool_type) @ self.text_projection).float()
        return F.normalize(x, dim=-1) if normalize else x


def cluster_means(tokens: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """[B, K, D] means of tokens [B, N, D] over their clusters, assignment [B, N] int64 into 0..K-1, none empty."""
    members = F.one_hot(assignment, clusters).to(tokens.dtype)  # [B, N, K]
    return (members / members.sum(1, keepdim=True)).mT @ tokens


def build(
    backbone: str,
    stages: Sequence[dict] = (),
    shift: str | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
) -> CenterCLIP:
    """A model from plain settings: `stages` are the arguments of Stage, `weights` as in `load_weights` or None for
    weights drawn from `seed`.

    Raises:
        UserError: weights that cannot be read or do not fit.
    """
    torch.manual_seed(seed)
    model = CenterCLIP(backbone, [Stage(**stage) for stage in stages], shift)
    if weights is not None:
        load_weights(model, backbone, weights)
    return model


def pick_device() -> torch.device:
    """The GPU if there is one. TF32 is off: what is not 16 bits wide under autocast is float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
        cuda = f"PyTorch {torch.__version__} for CUDA {torch.version.cuda}"
        tell(f"warning: {cuda} cannot use the GPU of this job, whose driver may be too old: going on without")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """What to call `device` in a result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
