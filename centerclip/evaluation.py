"""Evaluation of one cell: stored frames + weights -> results/{benchmark}_{variant}.json."""

import argparse
import json
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from centerclip import costs
from centerclip.config import joined
from centerclip.dataset import Videos, leave_sigterm, normalise
from centerclip.frames import FrameStore
from centerclip.manifest import read_manifest
from centerclip.metrics import retrieval_metrics
from centerclip.model import CenterCLIP, build, device_name, pick_device
from centerclip.stage import UserError, positive, run, write_json


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on a GPU, bfloat16 where it has that in hardware and float16 elsewhere; float32 on a CPU."""
    gpu = device.type == "cuda"
    dtype = torch.float16 if gpu and not torch.cuda.is_bf16_supported(including_emulation=False) else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=gpu)


def precision(device: torch.device) -> str:
    """What models compute in on `device`, in words."""
    if device.type == "cpu":
        return "float32"
    return f"{str(autocast(device).fast_dtype).removeprefix('torch.')} autocast, float32 without TF32 elsewhere"


def usable(manifest: pd.DataFrame, store: FrameStore, split: str) -> pd.DataFrame:
    """The manifest's rows of `split` whose videos have frames. Raises UserError if none has a caption."""
    rows = manifest[(manifest["split"] == split) & manifest["video_id"].isin(store.counts)]
    if (rows["caption"] == "").all():
        raise UserError(f"no captioned video of split {split!r} has frames")
    return rows


def count_cut(captions: Iterable[str], words: int) -> int:
    """How many captions have more than `words` tokens, start and end marks included, of which the rest is not read."""
    tokenizer = SimpleTokenizer()
    return sum(len(tokenizer.encode(caption)) + 2 > words for caption in captions)


def evaluate(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, settings: dict) -> dict:
    """`retrieval_metrics` of `model` over the videos and captions of `rows`, on the model's device."""
    return retrieval_metrics(*features(model, rows, store, settings))


@torch.no_grad()
def features(model: CenterCLIP, rows: pd.DataFrame, store: FrameStore, settings: dict) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics`: vectors of the captions of `rows` that are not empty and of its videos, in
    their order, and each caption's video."""
    model.eval()
    device = model.logit_scale.device
    size = settings["evaluation"]["batch_size"]
    video_ids = rows["video_id"].drop_duplicates().tolist()
    captioned = rows[rows["caption"] != ""]
    tokenizer = SimpleTokenizer(context_length=settings["words"])

    def vectors(loader: DataLoader, encode, what: str) -> Tensor:
        with autocast(device):
            return torch.cat([encode(batch) for batch in tqdm(loader, desc=f"evaluate: {what}", unit="batch")])

    videos = vectors(
        DataLoader(
            Videos(video_ids, store, settings["frames"]),
            batch_size=size,
            num_workers=settings["evaluation"]["workers"],
            worker_init_fn=leave_sigterm,
        ),
        lambda batch: model.encode_video(normalise(batch[0].to(device)), batch[1].to(device)),
        "videos",
    )
    texts = vectors(
        DataLoader(captioned["caption"].tolist(), batch_size=size),
        lambda batch: model.encode_text(tokenizer(batch).to(device)),
        "captions",
    )
    place = {video_id: index for index, video_id in enumerate(video_ids)}
    truth = torch.tensor([place[video_id] for video_id in captioned["video_id"]], device=device)
    return texts, videos, truth


def cost(model: CenterCLIP, store: FrameStore, settings: dict) -> dict:
    """What encoding one video costs: GFLOPs, bytes saved for backward, milliseconds (float32, batch 1)."""
    model.eval()
    frames, _ = Videos(sorted(store.counts)[:1], store, settings["frames"])[0]
    frames = normalise(frames[None].to(model.logit_scale.device))
    return {
        "gflops_per_video": costs.gflops(model, frames),
        "saved_bytes_per_video": costs.saved_bytes(model, frames),
        "ms_per_video": median(whole for whole, _ in costs.milliseconds([model], frames)[0]),
    }


def provenance(device: torch.device) -> dict:
    """Where a result came from: commit (with + if files were changed), versions, device."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {
        "commit": commit,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "open_clip_torch", "centerclip")},
        "device": device_name(device),
        "precision": precision(device),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.evaluation", description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="the cell's resolved settings, json")
    parser.add_argument("--conduct", default={}, type=json.loads, help="those of them that change no result, json")
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--frames", required=True, type=Path, help="the report of the stored frames")
    parser.add_argument("--weights", type=Path, help="trained weights; without, the backbone's own")
    parser.add_argument("--history", type=Path, help="what training wrote beside its weights")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        settings, store = joined(arguments.settings, arguments.conduct), FrameStore(arguments.frames)
        manifest = read_manifest(arguments.manifest)
        rows = usable(manifest, store, "test")
        device = pick_device()
        weights = arguments.weights or settings["weights"]
        model = build(settings["backbone"], settings["stages"], settings["shift"], weights, settings["seed"]).to(device)
        test = manifest[manifest["split"] == "test"]
        lost = test["video_id"].nunique() - rows["video_id"].nunique()
        history = json.loads(arguments.history.read_text()) if arguments.history else None
        result = {
            "benchmark": settings["benchmark"],
            "variant": settings["variant"],
            **evaluate(model, rows, store, settings),
            "n_texts_cut": count_cut(rows["caption"], settings["words"]),
            "n_videos_left_out": lost,
            "n_texts_left_out": int((test["caption"] != "").sum() - (rows["caption"] != "").sum()),
            "cost": cost(model, store, settings),
            "training": history,
            "provenance": provenance(device),
            "settings": settings,
        }
        write_json(arguments.out, result)

    run(parser, job)


if __name__ == "__main__":
    main()
