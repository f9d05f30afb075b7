"""DiDeMo: videos of Flickr's users, each with a paragraph of all descriptions of its moments."""

import os.path
from pathlib import Path

import pandas as pd

from centerclip.command import read_json
from centerclip.data.datasets import SPLITS
from centerclip.data.datasets.manifest import from_captions, listed


def descriptions(source: Path, split: str) -> list[dict]:
    """The rows of a split, each with its `video` and its `description`."""
    return read_json(source / f"{split}_data.json")


def video_names(source: Path) -> list[str]:
    """The first name of each video; some videos have two names, which differ in the extension."""
    names = {}
    for split in SPLITS:
        for row in descriptions(source, split):
            names.setdefault(os.path.splitext(row["video"])[0], row["video"])
    return list(names.values())


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: a caption joins the descriptions of a video in the order of the file.

    `settings` may have `seconds`, where videos end, and `lists` (see `manifest.listed`): then only descriptions with
    these names count, as in the authors' code, because some videos have two names.
    """
    captions, lists = {}, settings.get("lists")
    for split in SPLITS:
        names, paragraphs = listed(lists, split, "DiDeMo") if lists else None, {}
        for row in descriptions(source, split):
            if names is None or row["video"] in names:
                paragraphs.setdefault(os.path.splitext(row["video"])[0], []).append(row["description"])
        captions[split] = [(name, " ".join(parts)) for name, parts in paragraphs.items()]
    return from_captions(captions, source / "videos").assign(end_s=settings.get("seconds") or float("nan"))
