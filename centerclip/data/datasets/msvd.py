"""MSVD: 1,970 short clips with about 40 captions each; every test caption is a query."""

import pickle
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, first_line
from centerclip.data.datasets import SPLITS
from centerclip.data.datasets.manifest import from_captions


class Unpickler(pickle.Unpickler):
    """Builds only dicts, lists, strings and numbers: nothing that a pickle names is imported or called."""

    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def load_pickle(path: Path) -> dict[str, list[list[str]]]:
    """raw-captions.pkl: video -> captions as lists of words. It comes from the internet and runs no code. Raises
    UserError for any other file."""
    try:
        with open(path, "rb") as file:
            captions = Unpickler(file).load()
    except Exception as error:  # damaged bytes raise anything
        raise UserError(f"{path}: not a pickle of captions ({first_line(error)}); replace it") from None

    def lists(value: object) -> list:
        return value if isinstance(value, list) else [None]

    videos = captions.values() if isinstance(captions, dict) else [None]
    if not all(isinstance(word, str) for video in videos for words in lists(video) for word in lists(words)):
        raise UserError(f"{path}: not lists of words by video; replace it")
    return captions


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: every caption of every video of the three lists, its words joined by spaces."""
    captions = load_pickle(source / "raw-captions.pkl")
    pairs = {}
    for split in SPLITS:
        names = (source / f"{split}_list.txt").read_text().split()
        if unknown := [name for name in names if name not in captions]:
            raise UserError(f"{source / split}_list.txt: {unknown[0]!r} has no captions in raw-captions.pkl")
        pairs[split] = [(name, " ".join(words)) for name in names for words in captions[name]]
    return from_captions(pairs, source / "videos")
