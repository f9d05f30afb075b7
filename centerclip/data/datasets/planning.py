"""Digests of captions and videos, which the workflow needs before its jobs run.

Imports nothing heavy unless there are captions to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from centerclip.command import UserError, file_state
from centerclip.data.datasets import SPLITS

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "folder"  # the reader of captions that the user edits


def captions(source: dict, splits: Iterable[str] = SPLITS) -> str:
    """The digest of the user's own captions of `splits`; '' if they have a mistake, and for published benchmarks, whose
    files Snakemake watches itself."""
    if source["reader"] != FOLDER or (rows := planned(*stated(source))) is None:
        return ""
    from centerclip.data.datasets.manifest import captions_digest

    return captions_digest(rows, splits)


def shards(benchmarks: Iterable[tuple[dict, Path]], splits: Iterable[str], count: int) -> list[str]:
    """The digests of the `count` shards of frames of `splits` that `benchmarks`, each a `source` block and a manifest,
    share. Each is '' as long as the videos are unknown."""
    return all_shards(tuple(stated(*benchmark) for benchmark in benchmarks), tuple(splits), count) or [""] * count


@lru_cache(8)
def all_shards(benchmarks: tuple[tuple[str, Path | None, str], ...], splits: tuple[str, ...], count: int) -> list[str]:
    """The digests of all shards, or [] if the videos are unknown; `benchmarks` are as from `stated`."""
    tables = [planned(*benchmark) for benchmark in benchmarks]
    if any(table is None for table in tables):
        return []
    import pandas as pd

    from centerclip.data.datasets.manifest import shard_digests, videos

    rows = pd.concat(tables)
    return shard_digests(videos(rows[rows["split"].isin(splits)]), count)


def stated(source: dict, manifest: Path | None = None) -> tuple[str, Path | None, str]:
    """The arguments of `planned`: the `source` block as json, the manifest, the state of the file to read."""
    table = source["captions"] if source["reader"] == FOLDER else manifest
    return json.dumps(source), manifest, file_state(table)


@lru_cache(8)  # every cell of a benchmark asks
def planned(block: str, manifest: Path | None, state: str) -> pd.DataFrame | None:
    """The manifest of a benchmark as it will be: from the user's own csv, or else the file `manifest`. None before that
    file exists, and for a csv with a mistake, which the job that reads it reports."""
    source = json.loads(block)
    if source["reader"] != FOLDER and not manifest.exists():
        return None
    from centerclip.data.datasets import folder
    from centerclip.data.datasets.manifest import read_manifest

    try:
        return folder.clips(source) if source["reader"] == FOLDER else read_manifest(manifest)
    except UserError:
        return None
