"""Finds the readers of datasets by name and reads manifests with them."""

import importlib
from pathlib import Path
from types import ModuleType

import pandas as pd

from centerclip.command import UserError, read_json
from centerclip.data.datasets.manifest import COLUMNS, read_manifest
from centerclip.settings import layout
from centerclip.settings.cell import Cell


def reader(name: str) -> ModuleType:
    """The module of reader `name`."""
    return importlib.import_module(f"centerclip.data.datasets.{name}")


def read_benchmark(path: Path) -> dict:
    """The `benchmark`, `dataset` and `source` of a BENCHMARK file. Raises UserError for another file."""
    content = read_json(path)
    if not isinstance(content, dict) or not {"benchmark", "dataset", "source"} <= content.keys():
        raise UserError(f"{path}: not the settings of a benchmark, such as results/shapes/benchmark.json")
    return content


def read(settings: dict, source: Path | None) -> pd.DataFrame:
    """The manifest that the reader of `settings`, a `source` block of the config, makes from the directory `source`.

    In captions every run of white space becomes one space. Raises UserError for files that the reader cannot read.
    """
    rows = reader(settings["reader"]).manifest(settings, source)[list(COLUMNS)]
    return rows.assign(caption=[" ".join(caption.split()) for caption in rows["caption"]])


def manifest_of(cell: Cell) -> pd.DataFrame:
    """The manifest of a cell's benchmark: read anew if the cell has a `source`, otherwise the stored one."""
    return read(cell.source, cell.path(layout.SOURCE)) if cell.source else read_manifest(cell.path(layout.MANIFEST))
