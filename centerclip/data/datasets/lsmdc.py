"""LSMDC (2016): short clips of movies with one description each; tested on the 1,000 clips of the public test.

Its files are tab-separated without a header: clip, aligned start and end, extracted start and end, sentence.
"""

import csv
from pathlib import Path

import pandas as pd

from centerclip.command import UserError
from centerclip.data.datasets.manifest import from_captions

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}


def clips(path: Path) -> list[tuple[str, str]]:
    """The pairs (clip, sentence) of the rows of a file. Raises UserError for a row without exactly six fields."""
    pairs = []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if len(row) != 6:
                raise UserError(f"{path}, row {number}: {len(row)} fields separated by tabs, expected 6")
            pairs.append((row[0], row[5]))
    return pairs


def video_names(source: Path) -> list[str]:
    """The file `{movie}/{clip}.avi` of each clip, which is called `{movie}_{from}-{to}`."""
    names = (clip for file in FILES.values() for clip, _ in clips(source / file))
    return [f"{clip.rsplit('_', 1)[0]}/{clip}.avi" for clip in dict.fromkeys(names)]


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: each clip has one caption."""
    return from_captions({split: clips(source / file) for split, file in FILES.items()}, source / "videos")
