"""Encode your own videos and sentences with a model: files and text in, vectors out."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from centerclip import backbones
from centerclip.backbones.device import autocast, computed_in, pick_device
from centerclip.backbones.texts import Texts
from centerclip.data.video.batches import normalise, sample
from centerclip.data.video.extraction import spread_frames
from centerclip.settings import revisions
from centerclip.settings.cell import Cell, check_cell
from centerclip.train.finished import build_finished


class Retriever:
    """The model of a cell (`cell.read_cell`, `models.cell_of_weights`), on the GPU if there is one; its vectors are on
    the CPU. Raises UserError for settings or weights that do not fit."""

    def __init__(self, cell: Cell):
        check_cell(cell)
        self.cell, self.device = cell, pick_device()
        self.model = build_finished(cell).eval().to(self.device)
        self.texts = Texts(cell.model.backbone, cell.data.text_tokens)
        self.width = backbones.model_config(cell.model.backbone)["embed_dim"]  # numbers of a vector

    def read(self, path: str | Path) -> tuple[Tensor, Tensor]:
        """A video file's frames as this model sees them, uint8 [T, 3, H, W], and mask bool [T]. Raises Lost."""
        return self.padded(spread_frames(path, self.cell.data.frames, self.cell.data.stored))

    def padded(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """As `read`, from frames uint8 [n, H, W, 3] of a video, n at most the model's."""
        indices, mask = sample(len(frames), self.cell.data.frames)
        return torch.from_numpy(frames[indices]).permute(0, 3, 1, 2), torch.from_numpy(mask)

    @torch.no_grad()
    def encode_frames(self, videos: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """[V, E] or [V, k, E] float32 vectors of videos in one batch, each given as by `read`: the model's
        `video_vectors`."""
        frames, masks = (torch.stack(parts).to(self.device) for parts in zip(*videos, strict=True))
        with autocast(self.device, self.cell.precision):
            return self.model.video_vectors(normalise(frames, self.cell.data.images), masks).cpu()

    def encode_videos(self, paths: Sequence[str | Path]) -> Tensor:
        """As `encode_frames`, of video files. Raises Lost."""
        return torch.cat([self.encode_frames([self.read(path)]) for path in paths])

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """[S, E] float32 unit vectors. Of a sentence that is `too_long`, only the beginning is read."""
        ids = self.texts.short_ids(sentences)
        with autocast(self.device, self.cell.precision):
            return self.model.encode_text(ids.to(self.device)).cpu()

    def too_long(self, sentence: str) -> bool:
        """Whether the model does not read all of a sentence."""
        return self.texts.cut(sentence)

    def fingerprint(self) -> str:
        """64 hex digits, equal for two models that give the same vectors to the same videos: a hash of parameters,
        settings, the precision, and the revisions of what decodes and encodes."""
        settings = self.cell.settings()
        parts = [
            settings["model"] | {"weights": None},
            settings["data"]["frames"],
            computed_in(self.device, self.cell.precision),
            [revisions.FRAMES, revisions.EVALUATION, revisions.of_algorithms([self.cell])],
            *([settings["data"]["images"]] if "images" in settings["data"] else []),
        ]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for tensor in self.model.state_dict().values():
            digest.update(tensor.cpu().numpy().data)
        return digest.hexdigest()
