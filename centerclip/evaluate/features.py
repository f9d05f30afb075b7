"""Encode stored frames and captions with a model: its vectors and their metrics."""

from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from centerclip.backbones.clip import CenterCLIP
from centerclip.backbones.device import autocast
from centerclip.backbones.texts import Texts
from centerclip.data.video.batches import Videos, leave_sigterm, loading_told, normalise
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.settings.cell import Cell
from centerclip.train import processes


def evaluate(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, cell: Cell) -> dict:
    """`retrieval_metrics` of `model` over the videos and captions of `rows`. Processes that train together encode a
    share each and return the same metrics."""
    return retrieval_metrics(*features(model, rows, store, cell))


@torch.no_grad()
@loading_told()
def features(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics`, on the device of `model`: vectors [C, E] float32 of the captions of `rows`
    that are not empty, `video_vectors` of the videos, in order, and each caption's video [C] int64. `model` stays in
    evaluation mode."""
    model.eval()
    device = model.logit_scale.device
    video_ids = rows["video_id"].drop_duplicates().tolist()
    captioned = rows[rows["caption"] != ""]
    sentences = Texts(cell.model.backbone, cell.data.text_tokens)
    workers = {"num_workers": cell.runtime.evaluation.workers, "worker_init_fn": leave_sigterm}

    def vectors(items: list[str], load: Callable[[list[str]], Dataset], encode: Callable, what: str, **more) -> Tensor:
        share = load(processes.share_of(items))
        loader = DataLoader(share, cell.runtime.evaluation.batch_size, **more)
        with autocast(device, cell.precision):
            batches = [encode(batch) for batch in tqdm(loader, desc=f"evaluate: {what}", unit="batch")]
        return processes.of_all(torch.cat(batches), len(items))

    def load_videos(share: list[str]) -> Dataset:
        return Videos(share, store, cell.data.frames)

    def encode_videos(batch: list[Tensor]) -> Tensor:
        frames, mask = (part.to(device, non_blocking=True) for part in batch)
        return model.video_vectors(normalise(frames, cell.data.images), mask)

    def encode_texts(batch: list[str]) -> Tensor:
        return model.encode_text(sentences.ids(batch).to(device))

    videos = vectors(video_ids, load_videos, encode_videos, "videos", pin_memory=device.type == "cuda", **workers)
    texts = vectors(captioned["caption"].tolist(), list, encode_texts, "captions")
    places = {video_id: index for index, video_id in enumerate(video_ids)}
    truth = torch.tensor([places[video_id] for video_id in captioned["video_id"]], device=device)
    return texts, videos, truth


def count_cut(captions: Iterable[str], cell: Cell) -> int:
    """The number of captions with more tokens than the model of a cell reads."""
    return sum(map(Texts(cell.model.backbone, cell.data.text_tokens).cut, captions))


def count_short(video_ids: Iterable[str], counts: dict[str, int], cell: Cell) -> int:
    """The number of videos with fewer frames, by `counts`, than a segment, if the model drops such segments."""
    drops = any(stage.padded == "drop" for stage in cell.model.stages)
    return sum(counts[video_id] < cell.segment_frames for video_id in video_ids) if drops else 0
