"""The manifest of a benchmark: a table with a row for each caption. Later steps read no other file of a benchmark."""

import os
import zlib
from collections.abc import Container, Iterable
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, file_state, first_line, read_json, shown
from centerclip.data.datasets import SPLITS
from centerclip.data.datasets.files import files_by_stem
from centerclip.method.digest import digest

COLUMNS = {
    "split": str,
    "video_id": str,
    "path": str,
    "start_s": float,  # s; 0 is the beginning
    "end_s": float,  # s; empty is the end
    "caption_id": str,
    "caption": str,  # empty if the video is only a candidate
}


def read_manifest(path: str | Path) -> pd.DataFrame:
    """The rows of a manifest csv, with the columns `COLUMNS`. Raises UserError for another file."""
    try:
        rows = pd.read_csv(path, dtype=COLUMNS, usecols=list(COLUMNS), keep_default_na=False, na_values={"end_s": ""})
    except ValueError as error:
        raise UserError(f"{path}: not a manifest: {first_line(error)}") from None
    return rows[list(COLUMNS)]


def videos(manifest: pd.DataFrame) -> pd.DataFrame:
    """A row for each video (`video_id, path, start_s, end_s`), in the order of first appearance."""
    return manifest.drop_duplicates("video_id", ignore_index=True)[["video_id", "path", "start_s", "end_s"]]


def check_manifest(manifest: pd.DataFrame, name: str) -> None:
    """Raise UserError if the rows of benchmark `name` are not a valid manifest."""
    if manifest.empty:
        raise UserError(f"benchmark {name}: no captions at all")
    unknown = sorted(set(manifest["split"]) - set(SPLITS))
    if unknown:
        raise UserError(f"benchmark {name}: split {unknown[0]!r} is not one of {', '.join(SPLITS)}")
    twice = manifest["caption_id"][manifest["caption_id"].duplicated()]
    if len(twice):
        raise UserError(f"benchmark {name}: two rows have the caption_id {twice.iloc[0]!r}")
    splits = manifest[["video_id", "split"]].drop_duplicates()
    if not splits["video_id"].is_unique:
        video_id = splits["video_id"][splits["video_id"].duplicated()].iloc[0]
        several = " and ".join(splits["split"][splits["video_id"] == video_id])
        raise UserError(f"benchmark {name}: video {video_id!r} is in more than one split: {several}")
    check_clips(manifest, f"benchmark {name}")


def check_clips(manifest: pd.DataFrame, name: str) -> None:
    """Raise UserError if a video_id in the rows of `name` stands for several clips."""
    clips = manifest.groupby("video_id")[["path", "start_s", "end_s"]].nunique(dropna=False).max(axis=1)
    if (clips > 1).any():
        raise UserError(f"{name}: video_id {clips[clips > 1].index[0]!r} stands for several clips")


def usable(manifest: pd.DataFrame, counts: Container[str], split: str) -> pd.DataFrame:
    """The rows of `split` whose videos have frames, by `counts`. Raises UserError if none of them has a caption."""
    rows = manifest[(manifest["split"] == split) & manifest["video_id"].map(counts.__contains__)]
    if (rows["caption"] == "").all():
        raise UserError(f"no captioned video of split {split!r} has frames")
    return rows


def counted(manifest: pd.DataFrame) -> dict[str, int]:
    """The number of videos and captions of each split: "train.videos", "train.captions" and so on."""
    rows = {split: manifest[manifest["split"] == split] for split in SPLITS}
    videos = {f"{split}.videos": part["video_id"].nunique() for split, part in rows.items()}
    return videos | {f"{split}.captions": len(part) for split, part in rows.items()}


def check_counts(manifest: pd.DataFrame, expected: dict[str, int], name: str) -> None:
    """Raise UserError unless benchmark `name` has the `expected` counts, named as in `counted`."""
    counts = counted(manifest)
    for key, number in expected.items():
        if counts[key] != number:
            split, what = key.split(".")
            problem = f"{counts[key]:,} {what} in split {split}, where {number:,} are expected"
            raise UserError(f"benchmark {name}: {problem} (counts in the benchmark's block of the config)")


def captions_digest(manifest: pd.DataFrame, splits: Iterable[str]) -> str:
    """16 hex digits that change when a caption of `splits` or its video changes."""
    rows = manifest.loc[manifest["split"].isin(list(splits)), ["split", "video_id", "caption"]]
    return digest(rows.to_csv(index=False).encode(errors="surrogateescape"))


def in_shard(paths: pd.Series, shards: int) -> pd.Series:
    """The number of the shard of each video file's frames; it does not depend on other files."""
    return paths.map(lambda path: zlib.crc32(os.fsencode(path)) % shards)


def shard_digests(clips: pd.DataFrame, shards: int) -> list[str]:
    """16 hex digits for each shard, which change when one of its clips (rows of `videos`) or their files changes."""
    states = [[] for _ in range(shards)]
    columns = clips[["video_id", "path", "start_s", "end_s"]].itertuples(index=False)
    for clip, shard in zip(columns, in_shard(clips["path"], shards), strict=True):
        states[shard].append(f"{tuple(clip)} {file_state(clip.path)}\n".encode(errors="surrogateescape"))
    return [digest(*parts) for parts in states]


def listed(lists: str, split: str, dataset: str) -> set[str]:
    """The names of videos in the file `lists`, or in SPLIT_list.txt of a directory: words of a text, keys or items of a
    json. Raises UserError for another file."""
    path, where = Path(lists), f"(lists in {dataset}'s source)"
    if path.is_dir():
        path /= f"{split}_list.txt"
    try:
        names = read_json(path) if path.suffix == ".json" else path.read_text().split()
        return set(names)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} {where}") from None
    except (TypeError, UnicodeDecodeError):
        raise UserError(f"{path}: not a list of names {where}") from None


def from_captions(captions: dict[str, list[tuple[str, str]]], videos: Path) -> pd.DataFrame:
    """The manifest of whole videos below `videos`, from the pairs (video_id, caption) of each split. A video_id is the
    name of a file without the extension. Videos without a file stay, so that the report of the frames names them."""
    triples = [(split, *pair) for split, pairs in captions.items() for pair in pairs]
    rows = pd.DataFrame(triples, columns=["split", "video_id", "caption"])
    files, names = files_by_stem(videos), rows["video_id"].unique()
    missing = [name for name in names if name not in files]
    print(f"{len(missing)} of {len(names)} videos have no file in {videos}", *map(shown, missing), sep="\n  ")
    paths = {name: files.get(name, str(videos / name)) for name in names}
    if wrong := [path for path in paths.values() if path.encode(errors="ignore").decode() != path]:
        raise UserError(f"{shown(wrong[0])}: its path is not in UTF-8; rename it")
    return rows.assign(
        path=rows["video_id"].map(paths),
        start_s=0.0,
        end_s=float("nan"),
        caption_id=rows.index.astype(str),
    )
