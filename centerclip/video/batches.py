"""Stored frames and captions -> batches of tensors."""

import signal

import numpy as np
import open_clip
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from centerclip.video.frames import FrameStore

MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
STD = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]


def normalise(frames: Tensor) -> Tensor:
    """uint8 frames [..., 3, H, W] as CLIP's normalised float32 images."""
    return (frames.float() / 255 - MEAN.to(frames.device)) / STD.to(frames.device)


def sample(available: int, count: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices [count] int64 of a video's `available` frames and their mask [count] bool: one of each of `count` equal
    spans (paper, section 4.1).

    The frame is the span's middle one, or a random one with `rng`. A video with fewer frames gives them all, the last
    one repeated with the mask false.
    """
    if available < count:
        indices = np.arange(count)
        return np.minimum(indices, available - 1), indices < available
    place = rng.random(count) if rng else 0.5
    return ((np.arange(count) + place) * available / count).astype(int), np.ones(count, bool)


def leave_sigterm(_: int) -> None:
    """What a loader's worker begins with: it ignores SIGTERM and ends with the process that it loads for. SLURM sends
    SIGTERM to all of a job's processes, and that one has a checkpoint to write first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Videos(Dataset):
    """A video's `count` sampled frames, the middle ones of spans: `(frames uint8 [T, 3, H, W], mask bool [T])`."""

    def __init__(self, video_ids: list[str], store: FrameStore, count: int):
        self.video_ids, self.store, self.count = video_ids, store, count

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.frames(self.video_ids[index])

    def frames(self, video_id: str, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """A video's frames and their mask, drawn at random with `rng`."""
        indices, mask = sample(self.store.counts[video_id], self.count, rng)
        return torch.from_numpy(self.store.read(video_id, indices)), torch.from_numpy(mask)


class Pairs(Videos):
    """Training pairs of an epoch: `(frames uint8 [T, 3, H, W], mask bool [T], token ids int64 [L])`, one a caption.

    Frames are drawn at random from (seed, epoch, pair), so that an epoch is the same however it is loaded or resumed.
    """

    def __init__(self, rows: pd.DataFrame, store: FrameStore, count: int, text_tokens: int, seed: int, epoch: int):
        super().__init__(rows["video_id"].tolist(), store, count)
        self.captions = rows["caption"].tolist()
        self.tokenizer = open_clip.SimpleTokenizer(context_length=text_tokens)
        self.seed, self.epoch = seed, epoch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        ids = self.tokenizer(self.captions[index])[0]
        return *self.frames(self.video_ids[index], rng), ids

    def batches(self, size: int) -> list[list[int]]:
        """The epoch's pairs in their random order, `size` a batch; the last ones that fill no batch are left out."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self))
        return order[: len(self) // size * size].reshape(-1, size).tolist()
