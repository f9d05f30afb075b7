"""MSR-VTT: clips of 10 s to 32 s with 20 captions each; trained on 9,000 or 7,010 clips, tested on JSFusion's 1K-A."""

from pathlib import Path

import pandas as pd

from centerclip.command import UserError, first_line, read_json
from centerclip.data.datasets.manifest import from_captions


def read_csv(path: Path, *columns: str) -> pd.DataFrame:
    """The `columns` of a csv. Raises UserError for a file without them."""
    try:
        return pd.read_csv(path, usecols=list(columns), keep_default_na=False)
    except ValueError as error:  # of pandas, or of bytes that are not text
        problem = f"not a csv with the columns {', '.join(columns)} ({first_line(error)})"
        raise UserError(f"{path}: {problem}; replace it") from None


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: all captions of the training videos of the list `settings["train"]`, `9k` or `7k`, and JSFusion's
    caption of each test video, which differs from the json's in spaces and punctuation."""
    train = read_csv(source / f"MSRVTT_train.{settings['train']}.csv", "video_id")["video_id"]
    sentences = pd.DataFrame(read_json(source / "MSRVTT_data.json")["sentences"])
    sentences = sentences[sentences["video_id"].isin(train)]
    test = read_csv(source / "MSRVTT_JSFUSION_test.csv", "video_id", "sentence")
    captions = {
        "train": list(zip(sentences["video_id"], sentences["caption"], strict=True)),
        "test": list(zip(test["video_id"], test["sentence"], strict=True)),
    }
    return from_captions(captions, source / "videos")
