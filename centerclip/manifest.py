"""The manifest: one table a benchmark, a row a caption. Later stages know nothing of a benchmark's own files."""

import argparse
import importlib
import json
from pathlib import Path

import pandas as pd

from centerclip.stage import UserError, atomic, run

COLUMNS = {
    "split": str,
    "video_id": str,
    "path": str,
    "start_s": float,  # seconds; 0 = from the beginning
    "end_s": float,  # seconds; empty = to the end
    "caption_id": str,
    "caption": str,  # empty = the video is only a candidate in the gallery
}
SPLITS = ("train", "val", "test")


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest csv into a frame with exactly the columns `COLUMNS`; an empty caption is ''."""
    return pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values={"end_s": ""})


def videos(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row a video (`video_id, path, start_s, end_s, split`), in order of first appearance."""
    return manifest.drop_duplicates("video_id")[["video_id", "path", "start_s", "end_s", "split"]].reset_index(
        drop=True
    )


def check_manifest(manifest: pd.DataFrame, name: str) -> None:
    """Raise UserError where the rows of benchmark `name` break the contract of a manifest."""
    if manifest.empty:
        raise UserError(f"benchmark {name}: no captions at all")
    unknown = sorted(set(manifest["split"]) - set(SPLITS))
    if unknown:
        raise UserError(f"benchmark {name}: split {unknown[0]!r} is not one of {', '.join(SPLITS)}")
    twice = manifest["caption_id"][manifest["caption_id"].duplicated()]
    if len(twice):
        raise UserError(f"benchmark {name}: caption_id {twice.iloc[0]!r} is there twice")
    clips = manifest.groupby("video_id")[["path", "start_s", "end_s", "split"]].nunique(dropna=False).max(axis=1)
    if (clips > 1).any():
        raise UserError(f"benchmark {name}: video_id {clips[clips > 1].index[0]!r} stands for several clips")


def reader(name: str):
    """The module `centerclip/benchmarks/{name}.py`: `manifest(settings, source) -> DataFrame`, maybe `fetch(...)`."""
    return importlib.import_module(f"centerclip.benchmarks.{name}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.manifest", description=__doc__)
    parser.add_argument("step", choices=["fetch", "manifest"], help="fetch the raw files, or read them into a manifest")
    parser.add_argument("--benchmark", required=True, help="the benchmark's name, for messages")
    parser.add_argument("--settings", required=True, type=json.loads, help="the benchmark's block of the config, json")
    parser.add_argument("--source", type=Path, help="directory of the raw files that fetch makes")
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        module = reader(arguments.settings["reader"])
        if arguments.step == "fetch":
            module.fetch(arguments.settings, arguments.out)
            return
        manifest = module.manifest(arguments.settings, arguments.source)[list(COLUMNS)]
        check_manifest(manifest, arguments.benchmark)
        with atomic(arguments.out) as temporary:
            manifest.to_csv(temporary, index=False)

    run(parser, job)


if __name__ == "__main__":
    main()
