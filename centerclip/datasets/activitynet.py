"""ActivityNet Captions: minutes-long videos, each with the paragraph of all its sentences; tested on val_1."""

import json
from pathlib import Path

import pandas as pd

from centerclip.datasets.manifest import from_captions


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: the caption of a video joins its sentences in order. A video ends at its annotated duration."""
    captions, durations = {}, {}
    for split, file in {"train": "train.json", "test": "val_1.json"}.items():
        videos = json.loads((source / file).read_text())
        captions[split] = [(name, " ".join(video["sentences"])) for name, video in videos.items()]
        durations |= {name: video["duration"] for name, video in videos.items()}
    return from_captions(captions, source / "videos", durations)
