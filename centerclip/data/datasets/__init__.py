"""The readers of datasets, one file each: `datasets/NAME.py`.

A reader's `manifest(settings, source)` returns a DataFrame with the columns of `manifest.COLUMNS`; `settings` is the
`source` block of the config. The directory `source` of raw files exists by then, made by the reader's
`fetch(settings, out)` or by `download.sources.fetch`. If each video is a file of its own in config/sources.csv, the
reader's `video_names(source)` lists them.
"""

import argparse
import json

SPLITS = ("train", "val", "test")


def source_block(text: str) -> dict:
    """A command line's `source` block of the config, for argparse: json."""
    try:
        block = json.loads(text)
        return block | {"reader": block["reader"]}
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a source block of the config in json") from None
