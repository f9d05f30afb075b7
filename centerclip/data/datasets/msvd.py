"""MSVD: 1,970 short clips with about 40 captions each; every test caption is a query."""

import pickle
import pickletools
from pathlib import Path

import pandas as pd

from centerclip.command import UserError
from centerclip.data.datasets import SPLITS
from centerclip.data.datasets.manifest import from_captions

# All that a pickle of dicts, lists and strings needs
ALLOWED = {
    *("PROTO", "FRAME", "STOP", "MARK"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("SHORT_BINUNICODE", "BINUNICODE"),
}


class Unpickler(pickle.Unpickler):
    """Builds nothing by name."""

    def find_class(self, module: str, name: str):
        raise UserError(f"the pickle wants {module}.{name}")


def load_pickle(path: Path) -> dict[str, list[list[str]]]:
    """raw-captions.pkl: video -> captions as lists of words. It comes from the internet: only dicts, lists and strings
    are built. Raises UserError for any other file."""
    try:
        with open(path, "rb") as file:
            for operation, _, _ in pickletools.genops(file):
                if operation.name not in ALLOWED:
                    raise UserError(f"{path}: {operation.name}: only dicts, lists and strings are read")
            file.seek(0)
            captions = Unpickler(file).load()
    except (ValueError, EOFError, IndexError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a whole pickle ({error})") from None

    def lists(value: object) -> list:
        return value if isinstance(value, list) else [None]

    videos = captions.values() if isinstance(captions, dict) else [None]
    if not all(isinstance(word, str) for video in videos for words in lists(video) for word in lists(words)):
        raise UserError(f"{path}: not lists of words by video")
    return captions


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """Every caption of every video of the three lists, its words joined by spaces."""
    captions = load_pickle(source / "raw-captions.pkl")
    pairs = {}
    for split in SPLITS:
        names = (source / f"{split}_list.txt").read_text().split()
        if unknown := [name for name in names if name not in captions]:
            raise UserError(f"{split}_list.txt: {unknown[0]!r} has no captions in raw-captions.pkl")
        pairs[split] = [(name, " ".join(words)) for name in names for words in captions[name]]
    return from_captions(pairs, source / "videos")
