"""Makes batches of tensors from stored frames and captions."""

import re
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from centerclip.backbones.pretrained import OPENAIS, Images
from centerclip.backbones.texts import Texts
from centerclip.command import UserError
from centerclip.data.datasets.manifest import usable
from centerclip.data.datasets.readers import manifest_of
from centerclip.data.video.frames import FrameStore, check_complete
from centerclip.settings import layout
from centerclip.settings.cell import Cell


def stored(
    cell: Cell, splits: Sequence[str], thorough: bool = False
) -> tuple[pd.DataFrame, FrameStore, dict[str, pd.DataFrame]]:
    """A cell's manifest, its stored frames, and for each of `splits` the rows whose videos have frames. Raises
    UserError as `usable`, `check_complete` and `FrameStore` do."""
    manifest, store = manifest_of(cell), FrameStore(cell.path(layout.FRAMES), thorough)
    rows = {split: usable(manifest, store.counts, split) for split in splits}
    check_complete(manifest, store.report, splits, store.path)
    return manifest, store, rows


def normalise(frames: Tensor, images: Images = OPENAIS) -> Tensor:
    """Frames uint8 [..., 3, H, W] as images float32 [..., 3, H, W], normalised for the model."""
    # From the CPU without synchronisation. Kept tensors would be fake ones after a first call inside torch.export.
    constants = (torch.tensor(values, device="cpu")[:, None, None] for values in (images.mean, images.std))
    mean, std = (constant.to(frames.device, non_blocking=True) for constant in constants)
    return (frames.float() / 255 - mean) / std


def sample(
    available: int, count: int, rng: np.random.Generator | None = None, spans: str = "whole"
) -> tuple[np.ndarray, np.ndarray]:
    """The indices [count] int64 of one frame of each of `count` equal spans of a video, and their mask [count] bool
    (paper, section 4.1).

    The frame is the span's middle one, rounded as in the authors' code, or a random one of `rng`. The spans divide the
    "whole" video. With "floor", as in the authors' training, each has floor(available / count) frames, and the end of
    the video is left out. With fewer frames `available` than `count`, the last is repeated and masked.
    """
    if available < count:
        indices = np.arange(count)
        return np.minimum(indices, available - 1), indices < available
    place = rng.random(count) if rng else 0.5
    length = available // count if spans == "floor" else available / count
    indices = (place * length + np.arange(count) * length).astype(int)  # the order of operations decides the rounding
    return np.minimum(indices, available - 1), np.ones(count, bool)  # the last sum may be rounded up


def leave_sigterm(_: int) -> None:
    """Make a DataLoader's worker ignore SIGTERM, which SLURM sends to all processes of a job: training needs it until
    the checkpoint is written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def loading_told() -> Iterator[None]:
    """Turn errors of a DataLoader's workers into a UserError of one line."""
    try:
        yield
    except Exception as error:
        # They keep the loader alive, whose workers ignore SIGTERM: exiting would wait for them without end.
        traceback.clear_frames(error.__traceback__)
        message = f"{error.__cause__ or ''} {error}".strip()  # only the cause may name a worker's signal
        if re.search("(DataLoader worker .*|allocate )shared memory", message, re.DOTALL):
            line = "/dev/shm: the processes that load frames ran out of shared memory"
            line += "; allow more (docker run --shm-size=8g) or set `workers: 0`"
        elif killed := re.search(r"DataLoader worker .*killed by signal: ([^.]*)", message):
            line = f"a process that loads frames was killed ({killed[1]}); use fewer `workers`"
        elif " in DataLoader worker " in message and isinstance(error, (OSError, UserError)):
            line = message.splitlines()[-1].partition(": ")[2]
        else:
            raise
        raise UserError(line) from None


class Videos(Dataset):
    """`count` frames of each video, as `sample` takes them: `(frames uint8 [T, 3, H, W], mask bool [T])`."""

    def __init__(self, video_ids: list[str], store: FrameStore, count: int):
        self.video_ids, self.store, self.count = video_ids, store, count

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.frames(self.video_ids[index])

    def frames(self, video_id: str, *drawn: object) -> tuple[Tensor, Tensor]:
        """The frames of a video and their mask; `drawn` are further arguments of `sample`."""
        indices, mask = sample(self.store.counts[video_id], self.count, *drawn)
        return torch.from_numpy(self.store.read(video_id, indices)), torch.from_numpy(mask)


class Pairs(Videos):
    """The pairs of an epoch of `cell`, one a caption: `(frames uint8 [T, 3, H, W], mask bool [T], ids int64 [L])`.
    The frames depend only on (seed, epoch, pair), so that an epoch is the same however it is loaded."""

    def __init__(self, rows: pd.DataFrame, store: FrameStore, cell: Cell, epoch: int):
        super().__init__(rows["video_id"].tolist(), store, cell.data.frames)
        self.captions = rows["caption"].tolist()
        self.texts = Texts(cell.model.backbone, cell.data.text_tokens)
        self.seed, self.spans, self.epoch = cell.seed, cell.training.spans, epoch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        ids = self.texts.ids([self.captions[index]])[0]
        return *self.frames(self.video_ids[index], rng, self.spans), ids

    def batches(self, size: int) -> list[list[int]]:
        """The indices of the epoch's pairs in random order, in whole batches of `size`."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self))
        return order[: len(self) // size * size].reshape(-1, size).tolist()
