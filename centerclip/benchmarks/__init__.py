"""The benchmarks, one file each.

`manifest(settings, source) -> DataFrame` gives the rows of `centerclip.manifest.COLUMNS`. The directory `source` of raw
files is made first: by the reader's own `fetch(settings, out)`, or from the table config/sources.csv, where the dataset
has the reader's name and `video_names(source)` says which videos are files of their own. `settings` is the `source`
block of the config.
"""
