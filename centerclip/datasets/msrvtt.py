"""MSR-VTT: 10 s to 32 s clips with 20 captions each; trained on 9,000 or 7,010 of them, tested on 1K-A (JSFusion's)."""

import json
from pathlib import Path

import pandas as pd

from centerclip.datasets.manifest import from_captions


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """`settings["train"]`: `9k` or `7k`. All captions of the training videos; one a test video, in JSFusion's words,
    which differ from the json's in spaces and punctuation."""
    train = pd.read_csv(source / f"MSRVTT_train.{settings['train']}.csv")["video_id"]
    sentences = pd.DataFrame(json.loads((source / "MSRVTT_data.json").read_text())["sentences"])
    sentences = sentences[sentences["video_id"].isin(train)]
    test = pd.read_csv(source / "MSRVTT_JSFUSION_test.csv", keep_default_na=False)
    captions = {
        "train": list(zip(sentences["video_id"], sentences["caption"], strict=True)),
        "test": list(zip(test["video_id"], test["sentence"], strict=True)),
    }
    return from_captions(captions, source / "videos")
