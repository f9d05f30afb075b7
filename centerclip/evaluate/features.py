"""A model on stored frames and captions: its vectors, and the metrics that come of them."""

from collections.abc import Callable, Iterable

import pandas as pd
import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from centerclip.backbones.clip import CenterCLIP
from centerclip.backbones.device import autocast
from centerclip.data.video.batches import Videos, leave_sigterm, loading_told, normalise
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.settings.cell import Cell
from centerclip.train import processes


def evaluate(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, cell: Cell) -> dict:
    """`retrieval_metrics` of `model` over the videos and captions of `rows`, on the model's device. Of processes that
    train together each encodes its share, and all return the same."""
    return retrieval_metrics(*features(model, rows, store, cell))


@torch.no_grad()
@loading_told()
def features(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics` for rows of a manifest, on the device of `model`, left in evaluation mode.

    Returns:
        vectors [C, E] float32 of the captions that are not empty, vectors [V, E] float32 of all videos, both in the
        order of `rows`, and each caption's video [C] int64.
    """
    model.eval()
    device = model.logit_scale.device
    video_ids = rows["video_id"].drop_duplicates().tolist()
    captioned = rows[rows["caption"] != ""]
    tokenizer = SimpleTokenizer(context_length=cell.data.text_tokens)

    def vectors(items: list[str], encode: Callable[..., Tensor], load: Callable[..., DataLoader], what: str) -> Tensor:
        loader = load(processes.share_of(items), batch_size=cell.runtime.evaluation.batch_size)
        with autocast(device, cell.precision):
            batches = [encode(batch) for batch in tqdm(loader, desc=f"evaluate: {what}", unit="batch")]
        return processes.of_all(torch.cat(batches), len(items))

    def load_videos(share: list[str], batch_size: int) -> DataLoader:
        return DataLoader(
            Videos(share, store, cell.data.frames),
            batch_size=batch_size,
            num_workers=cell.runtime.evaluation.workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_sigterm,
        )

    def encode_videos(batch: list[Tensor]) -> Tensor:
        frames, mask = (part.to(device, non_blocking=True) for part in batch)
        return model.encode_video(normalise(frames), mask)

    def encode_texts(batch: list[str]) -> Tensor:
        return model.encode_text(tokenizer(batch).to(device))

    videos = vectors(video_ids, encode_videos, load_videos, "videos")
    texts = vectors(captioned["caption"].tolist(), encode_texts, DataLoader, "captions")
    places = {video_id: index for index, video_id in enumerate(video_ids)}
    truth = torch.tensor([places[video_id] for video_id in captioned["video_id"]], device=device)
    return texts, videos, truth


def count_cut(captions: Iterable[str], text_tokens: int) -> int:
    """How many captions have more than `text_tokens` tokens, start and end marks included, and are not read whole."""
    tokenizer = SimpleTokenizer()
    return sum(cut(caption, text_tokens, tokenizer) for caption in captions)


def cut(caption: str, text_tokens: int, tokenizer: SimpleTokenizer) -> bool:
    """Whether a caption is one of those that `count_cut` counts."""
    return len(tokenizer.encode(caption)) + 2 > text_tokens


def count_short(video_ids: Iterable[str], counts: dict[str, int], cell: Cell) -> int:
    """How many videos have fewer frames, of `counts`, than a segment of the model, where such do not count."""
    drops = any(stage.padded == "drop" for stage in cell.model.stages)
    return sum(counts[video_id] < cell.segment_frames for video_id in video_ids) if drops else 0
