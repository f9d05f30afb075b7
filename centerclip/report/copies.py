"""Check local copies of a benchmark's videos: missing files, unreadable files, files under other names."""

import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from av import FFmpegError

from centerclip.command import UserError, first_line
from centerclip.data.datasets import planning, readers
from centerclip.data.datasets.files import files_by_stem
from centerclip.data.datasets.manifest import read_manifest
from centerclip.data.download import sources
from centerclip.data.video.decoding import Video
from centerclip.data.video.reading import Lost, NoFrames
from centerclip.data.video.watch import watched
from centerclip.report.doctor import NOTE, PROBLEM, Finding, judged
from centerclip.report.forecast import cells
from centerclip.settings import layout, resolve

PROBED = 2000  # files that are opened at most, spread over all
STALL_SECONDS = 20


def findings(config: dict, benchmark: str) -> Iterator[Finding]:
    """The number of readable videos in each split, with remedies for missing and unreadable files."""
    about, block = f"videos of {benchmark}", config["benchmarks"][benchmark]
    dataset = resolve.dataset(config, benchmark)
    try:
        rows = manifest(config, benchmark, dataset)
    except UserError as error:
        yield Finding(about, PROBLEM, str(error), "correct that file, or the benchmark's block of the config")
        return
    if rows is None:
        return
    there = set(filter(os.path.isfile, rows["path"].unique()))
    opened = sorted(there)[:: -(-len(there) // PROBED) or 1]
    closed = unreadable(opened)
    for path, reason in list(closed.items())[:3]:
        yield Finding(about, NOTE, f"{path}: {reason}", "copy it again")
    if closed:
        line = f"{len(closed)} of {len(opened):,} opened files are not videos"
        yield Finding(about, NOTE, line, "copy them again: `centerclip audit FOLDER --out FILE` names all")
    rows = rows.assign(copied=rows["path"].isin(there), good=rows["path"].isin(there - closed.keys()))
    name, allowed = f"benchmarks.{benchmark}", block["max_unreadable_share"]
    for split in sorted({split for cell in cells(config, benchmark) for split in cell.splits}):
        whole = rows[rows["split"] == split]
        parts = whole[whole["good"]], whole, whole[whole["copied"]]
        found, wanted, copied = (part["video_id"].nunique() for part in parts)
        line = f"{split}: {found:,} of {wanted:,} videos, with {len(parts[0]):,} of {len(whole):,} captions"
        lost = 1 - found / max(1, copied if block.get("partial") else wanted)
        remedy = "copy the others" if wanted else f"no caption belongs to {split}: give some"
        if found:
            remedy += f", or set {name}.partial to true for missing ones, or {name}.max_unreadable_share, {allowed:g},"
            remedy += f" to {math.ceil(1e4 * lost) / 1e4:g}"
        yield judged(about, not lost, line, remedy, NOTE if lost <= allowed else PROBLEM)
    missing = rows.loc[~rows["copied"], "video_id"].unique()
    source = config["benchmarks"][dataset]["source"]
    local = source.get("local") or {}
    folder = source["videos"] if source["reader"] == planning.FOLDER else local.get("videos")
    names = other_names(missing, Path(folder or Path(layout.SOURCE.format(dataset=dataset), "videos")))
    for name, file in list(names.items())[:1]:
        line = f"{len(names):,} of {len(missing):,} missing videos have other names, such as {file} for {name}"
        suffix = "" if source["reader"] == planning.FOLDER else Path(file).suffix  # a csv has the whole names
        link = name.removesuffix(suffix) + suffix
        yield Finding(about, NOTE, line, f"rename or link them: ln -s {Path(file).name} {link}")


def manifest(config: dict, benchmark: str, dataset: str) -> pd.DataFrame | None:
    """The manifest of a benchmark: the stored one, or one from the local files. None without captions. Raises UserError
    like the reader."""
    source = config["benchmarks"][benchmark]["source"]
    local = config["benchmarks"][dataset]["source"].get("local") or {}
    made, fetched = Path(layout.MANIFEST.format(benchmark=benchmark)), Path(layout.SOURCE.format(dataset=dataset))
    if made.exists():
        return read_manifest(made)
    if source["reader"] == planning.FOLDER or fetched.exists():
        return readers.read(source, fetched)
    wanted = sources.wanted(sources.read_table().get(source["reader"], {}))
    if not wanted or not all(name in local and Path(local[name]).exists() for name in wanted):
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            Path(folder, name).symlink_to(Path(local[name]).resolve())
        rows = readers.read(source, Path(folder))
        return rows.assign(path=rows["path"].str.replace(f"{folder}/videos", local["videos"], regex=False))


def unreadable(paths: list[str]) -> dict[str, str]:
    """The files that cannot be opened as videos, path -> reason. Only containers are read."""
    answers = watched(fault, paths, min(8, os.cpu_count() or 1, len(paths)), STALL_SECONDS) if paths else []
    return {path: str(answer) for path, answer in answers if answer}


def fault(path: str, beat: Callable[[], None]) -> str | Lost | None:
    """The reason why a file cannot be opened as a video; None if it can. Raises MachineFault."""
    beat()
    try:
        Video(Path(path), beat)
    except (NoFrames, FFmpegError) as error:
        return first_line(error)
    return None


def other_names(missing: list[str], folder: Path) -> dict[str, str]:
    """For missing videos, the files whose names differ only in case, punctuation or a leading `v`."""
    files = {plain(stem): path for stem, path in files_by_stem(folder).items()}
    return {name: files[plain(name)] for name in missing if plain(name) in files}


def plain(name: str) -> str:
    """A name without the characters that copies of datasets spell differently."""
    letters = re.sub(r"\.(mp4|avi|mkv|webm)$|[\W_]", "", name.casefold())
    return letters.removeprefix("v") if not letters.startswith("video") else letters
