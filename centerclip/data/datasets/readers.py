"""The readers of datasets by name, and the manifest that one gives."""

import importlib
from pathlib import Path
from types import ModuleType

import pandas as pd

from centerclip.command import UserError, read_json
from centerclip.data.datasets import module
from centerclip.data.datasets.manifest import COLUMNS, read_manifest
from centerclip.settings import layout
from centerclip.settings.cell import Cell


def reader(name: str) -> ModuleType:
    """The module of reader `name`."""
    return importlib.import_module(module(name))


def read_benchmark(path: Path) -> dict:
    """What a BENCHMARK file says: `benchmark`, `dataset` and `source`. Raises UserError for another file."""
    content = read_json(path)
    if not isinstance(content, dict) or not {"benchmark", "dataset", "source"} <= content.keys():
        raise UserError(f"{path}: not the settings of a benchmark, such as results/shapes/benchmark.json")
    return content


def read(settings: dict, source: Path | None) -> pd.DataFrame:
    """The manifest that the reader of `settings`, a `source` block of the config, makes of the directory `source`.

    In captions each run of white space and line breaks becomes one space. Raises UserError for files that are not as
    the reader expects them.
    """
    rows = reader(settings["reader"]).manifest(settings, source)[list(COLUMNS)]
    return rows.assign(caption=[" ".join(caption.split()) for caption in rows["caption"]])


def manifest_of(cell: Cell) -> pd.DataFrame:
    """The manifest of a cell's benchmark: the stored one, or what the reader of `cell.source` gives now."""
    return read(cell.source, cell.path(layout.SOURCE)) if cell.source else read_manifest(cell.path(layout.MANIFEST))
