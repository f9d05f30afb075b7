"""The benchmarks, one file each.

`manifest(settings, source) -> DataFrame` gives the rows of `centerclip.manifest.COLUMNS`; `fetch(settings, out)`, where
there is one, makes the directory `source` of raw files first. `settings` is the `source` block of the config.
"""
