"""The manifest: one table a benchmark, a row a caption. Later stages know nothing of a benchmark's own files."""

import argparse
import hashlib
import importlib
import json
import os
import zlib
from collections import deque
from pathlib import Path

import pandas as pd

from centerclip import sources
from centerclip.stage import UserError, atomic, file_state, run

COLUMNS = {
    "split": str,
    "video_id": str,
    "path": str,
    "start_s": float,  # seconds; 0 = from the beginning
    "end_s": float,  # seconds; empty = to the end
    "caption_id": str,
    "caption": str,  # empty = the video is only a candidate in the gallery
}
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m2v", ".m4v", ".mkv"),
    *(".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm"),
    *(".webp", ".wmv"),
)
SPLITS = ("train", "val", "test")


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest csv into a frame with exactly the columns `COLUMNS`; an empty caption is ''."""
    return pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values={"end_s": ""})


def videos(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row a video (`video_id, path, start_s, end_s, split`), in order of first appearance."""
    return manifest.drop_duplicates("video_id")[["video_id", "path", "start_s", "end_s", "split"]].reset_index(
        drop=True
    )


def in_shard(paths: pd.Series, shards: int) -> pd.Series:
    """Which of so many shards the frames of each video file are in: the same one, whatever other files there are."""
    return paths.map(lambda path: zlib.crc32(os.fsencode(path)) % shards)


def shard_states(manifest: Path, shards: int) -> list[str]:
    """A word for each shard that changes with the state of any of its video files."""
    paths = pd.read_csv(manifest, usecols=["path"], dtype=str)["path"].drop_duplicates()
    states = [hashlib.sha256() for _ in range(shards)]
    for path, shard in zip(paths, in_shard(paths, shards), strict=True):
        states[shard].update(f"{path} {file_state(path)}\n".encode(errors="surrogateescape"))
    return [state.hexdigest()[:16] for state in states]


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
    splits = manifest[["video_id", "split"]].drop_duplicates()
    if not splits["video_id"].is_unique:
        video_id = splits["video_id"][splits["video_id"].duplicated()].iloc[0]
        several = " and ".join(splits["split"][splits["video_id"] == video_id])
        raise UserError(f"benchmark {name}: video {video_id!r} is in more than one split: {several}")
    clips = manifest.groupby("video_id")[["path", "start_s", "end_s"]].nunique(dropna=False).max(axis=1)
    if (clips > 1).any():
        raise UserError(f"benchmark {name}: video_id {clips[clips > 1].index[0]!r} stands for several clips")


def check_counts(manifest: pd.DataFrame, counts: dict[str, dict[str, int]], name: str) -> None:
    """Raise UserError where benchmark `name` has not the `videos` and `captions` that `counts` expects of a split."""
    for split, expected in counts.items():
        rows = manifest[manifest["split"] == split]
        found = {"videos": rows["video_id"].nunique(), "captions": len(rows)}
        for what, number in expected.items():
            if found[what] != number:
                raise UserError(
                    f"benchmark {name}: {found[what]:,} {what} in split {split}, where {number:,} are expected"
                    " (counts in the benchmark's block of the config)"
                )


def video_files(folder: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """The videos in and below `folder` by their suffix, hidden ones apart: path from there -> (size, time of change);
    and the folders that cannot be read: path from there -> why.

    Links are followed, to each folder once, whose own name goes before those of links.

    Raises:
        UserError: no such folder, or no videos in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files, closed, visited, pending = {}, {}, set(), deque([folder])
    while pending:
        directory = pending.popleft()
        try:
            found = directory.stat()
            if (found.st_dev, found.st_ino) in visited:
                continue
            visited.add((found.st_dev, found.st_ino))
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            closed[os.path.relpath(directory, folder)] = error.strerror
            continue
        for entry in entries:
            path = directory / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (pending.append if entry.is_symlink() else pending.appendleft)(path)
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                files[os.path.relpath(path, folder)] = changes(path)
    if not files and not closed:
        raise UserError(f"{folder}: no videos in it ({' '.join(VIDEO_SUFFIXES)})")
    return dict(sorted(files.items())), closed


def changes(path: Path) -> tuple[int, int]:
    """A file's size and time of change; (-1, -1) for a link to nothing."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def files_by_stem(directory: Path) -> dict[str, str]:
    """The files below `directory`, links followed, by their names without the extension.

    If stems collide, a video goes before what may be its thumbnail, that before others, then the first path."""
    paths = [os.path.join(parent, file) for parent, _, files in os.walk(directory, followlinks=True) for file in files]
    paths.sort(key=lambda path: (preference(os.path.splitext(path)[1].lower()), path))
    return {os.path.splitext(os.path.basename(path))[0]: path for path in reversed(paths)}


def preference(suffix: str) -> int:
    """How likely a file with this suffix is a video, from 0 down."""
    return 2 if suffix not in VIDEO_SUFFIXES else int(suffix in (".gif", ".webp"))


def from_captions(
    captions: dict[str, list[tuple[str, str]]], videos: Path, ends: dict[str, float] | None = None
) -> pd.DataFrame:
    """The manifest of a benchmark whose videos lie in one directory.

    A video without a file stays in the manifest, so that the frames' report counts and names it.

    Args:
        captions: split -> (video_id, caption), video_id being the name of its file without the extension.
        videos: the directory.
        ends: video_id -> seconds of it to use; None: to the end.

    Raises:
        UserError: none of the videos is there.
    """
    files = files_by_stem(videos)
    rows = pd.DataFrame(
        [(split, *pair) for split, pairs in captions.items() for pair in pairs],
        columns=["split", "video_id", "caption"],
    )
    names = rows["video_id"].unique()
    missing = [name for name in names if name not in files]
    if len(missing) == len(names):
        raise UserError(f"{videos}: none of the {len(names)} videos is there, not {missing[0]!r}, for one")
    print(f"{len(missing)} of {len(names)} videos have no file in {videos}", *missing, sep="\n  ")
    return rows.assign(
        path=rows["video_id"].map(lambda name: files.get(name, str(videos / name))),
        start_s=0.0,
        end_s=rows["video_id"].map(ends) if ends else float("nan"),
        caption_id=rows.index.astype(str),
    )


def reader(name: str):
    """The module `centerclip/benchmarks/{name}.py`."""
    return importlib.import_module(f"centerclip.benchmarks.{name}")


def make(settings: dict, source: Path | None) -> pd.DataFrame:
    """The manifest of a benchmark, by its reader. White space in captions, line breaks too, is single spaces."""
    rows = reader(settings["reader"]).manifest(settings, source)[list(COLUMNS)]
    return rows.assign(caption=[" ".join(caption.split()) for caption in rows["caption"]])


def fetch(settings: dict, out: Path) -> None:
    """Make the directory of raw files of a benchmark: by its reader's own `fetch`, or from the table of sources."""
    module = reader(settings["reader"])
    if hasattr(module, "fetch"):
        module.fetch(settings, out)
    else:
        sources.fetch(settings, out, getattr(module, "video_names", None))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.manifest", description=__doc__)
    parser.add_argument("step", choices=["fetch", "manifest"], help="fetch the raw files, or read them into a manifest")
    parser.add_argument("--benchmark", required=True, help="the benchmark's name, for messages")
    parser.add_argument("--settings", required=True, type=json.loads, help="its `source` block of the config, json")
    parser.add_argument("--source", type=Path, help="directory of the raw files that fetch makes")
    parser.add_argument("--counts", type=json.loads, default={}, help="expected counts a split, json")
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        if arguments.step == "fetch":
            fetch(arguments.settings, arguments.out)
            return
        manifest = make(arguments.settings, arguments.source)
        check_manifest(manifest, arguments.benchmark)
        check_counts(manifest, arguments.counts, arguments.benchmark)
        with atomic(arguments.out) as temporary:
            manifest.to_csv(temporary, index=False)

    run(parser, job)


if __name__ == "__main__":
    main()
