"""ActivityNet Captions: videos of minutes, each with a paragraph of all its sentences; tested on val_1."""

from pathlib import Path

import pandas as pd

from centerclip.command import read_json
from centerclip.data.datasets.manifest import from_captions, listed


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: a caption joins the sentences of a video; a video ends at its annotated duration. With `lists`
    (see `manifest.listed`), only the videos in them count, by name or by id (without v_)."""
    captions, durations, lists = {}, {}, settings.get("lists")
    for split, file in {"train": "train.json", "test": "val_1.json"}.items():
        videos = read_json(source / file)
        if lists:
            names = listed(lists, split, "ActivityNet")
            videos = {name: video for name, video in videos.items() if {name, name.removeprefix("v_")} & names}
        captions[split] = [(name, " ".join(video["sentences"])) for name, video in videos.items()]
        durations |= {name: video["duration"] for name, video in videos.items()}
    rows = from_captions(captions, source / "videos")
    return rows.assign(end_s=rows["video_id"].map(durations))
