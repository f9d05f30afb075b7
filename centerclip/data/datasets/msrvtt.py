"""MSR-VTT: clips of 10 s to 32 s with 20 captions each; trained on 9,000 or 7,010 clips, tested on JSFusion's 1K-A."""

import json
from pathlib import Path

import pandas as pd

from centerclip.data.datasets.manifest import from_captions


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: all captions of the training videos of the list `settings["train"]`, `9k` or `7k`, and JSFusion's
    caption of each test video, which differs from the json's in spaces and punctuation."""
    train = pd.read_csv(source / f"MSRVTT_train.{settings['train']}.csv")["video_id"]
    sentences = pd.DataFrame(json.loads((source / "MSRVTT_data.json").read_text())["sentences"])
    sentences = sentences[sentences["video_id"].isin(train)]
    test = pd.read_csv(source / "MSRVTT_JSFUSION_test.csv", keep_default_na=False)
    captions = {
        "train": list(zip(sentences["video_id"], sentences["caption"], strict=True)),
        "test": list(zip(test["video_id"], test["sentence"], strict=True)),
    }
    return from_captions(captions, source / "videos")
