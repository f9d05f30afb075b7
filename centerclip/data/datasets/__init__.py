"""The readers of datasets, one file each: `datasets/NAME.py`.

A reader's `manifest(settings, source)` returns a DataFrame with the columns of `manifest.COLUMNS`; `settings` is the
`source` block of the config. The directory `source` of raw files is made before that, either by the reader's
`fetch(settings, out)` or from the rows of config/sources.csv whose dataset has the reader's name. Where each video is a
file of its own there, the reader's `video_names(source)` lists them.
"""

import argparse
import json

SPLITS = ("train", "val", "test")


def module(reader: str) -> str:
    """The full name of the module of a reader."""
    return f"{__name__}.{reader}"


def source_block(text: str) -> dict:
    """A command line's `source` block of the config, for argparse: json."""
    try:
        block = json.loads(text)
        return block | {"reader": block["reader"]}
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not the json of a source block of the config") from None
