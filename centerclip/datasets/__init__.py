"""The readers of datasets, one file each: `datasets/NAME.py`.

`manifest(settings, source) -> DataFrame` gives the rows of `centerclip.datasets.manifest.COLUMNS`. The directory
`source` of raw files is made first: by the reader's own `fetch(settings, out)`, or from the table config/sources.csv,
where the dataset has the reader's name and `video_names(source)` says which videos are files of their own. `settings`
is the `source` block of the config.
"""

SPLITS = ("train", "val", "test")


def module(reader: str) -> str:
    """The full name of the module of a reader."""
    return f"{__name__}.{reader}"
