"""The user's own videos: a directory of files, and a csv with the columns REQUIRED and maybe OPTIONAL."""

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

import numpy as np
import pandas as pd

from centerclip.command import UserError, located
from centerclip.data.datasets import SPLITS
from centerclip.data.datasets.files import all_files

REQUIRED = ("video", "caption")
OPTIONAL = {"split": "test", "start_s": "0", "end_s": ""}


def manifest(settings: dict, source: Path | None = None) -> pd.DataFrame:
    """The manifest of a folder. `settings` has `videos` (the directory), `captions` (the csv) and maybe `columns` (the
    csv's names for the columns).

    Several rows of a video are several captions; an empty caption makes the video a candidate only. Rows with different
    bounds are different clips. A `caption_id` is the number of the row. Raises UserError with the file or row.
    """
    directory = Path(settings["videos"])
    if not directory.is_dir():
        raise UserError(f"{located(directory)}: no such directory of videos")
    return clips(settings)


def clips(settings: dict) -> pd.DataFrame:
    """`manifest`, whether or not the videos exist. Raises UserError for a mistake in the csv."""
    directory, path = Path(settings["videos"]), Path(settings["captions"])
    rows = read_rows(path, settings.get("columns") or {})
    start, end = (seconds(rows[name], name, path) for name in ("start_s", "end_s"))
    start = start.fillna(0.0)
    for row, name, split, first, last in zip(rows.index, rows["video"], rows["split"], start, end, strict=True):
        inside = PurePath(name)
        if not inside.parts or inside.is_absolute() or ".." in inside.parts:
            raise UserError(f"{path}, row {row}: video {name!r} is not a path inside {directory}")
        if split not in SPLITS:
            raise UserError(f"{path}, row {row}: split {split!r} is not one of {', '.join(SPLITS)}")
        if first < 0 or last <= first:
            raise UserError(f"{path}, row {row}: start_s {first:g} and end_s {last:g} are not the bounds of a clip")
    if not rows["caption"].any():
        raise UserError(f"{path}: every caption is empty")
    names = rows["video"].map(plain_name)
    table = rows[["split", "caption"]].assign(
        video_id=[name + clip_suffix(*clip) for name, *clip in zip(names, start, end, strict=True)],
        path=names.map(find(names.unique(), directory)),
        start_s=start,
        end_s=end,
        caption_id=rows.index.astype(str),
    )
    return table.reset_index(drop=True)


def plain_name(name: str) -> str:
    """The one spelling of a video's name: `./a.mp4` is `a.mp4`, and letters are composed (Unicode's NFC)."""
    return normalize("NFC", str(PurePath(name)))


def find(names: Sequence[str], directory: Path) -> dict[str, str]:
    """The path below `directory` of each plain name, whether or not the file exists."""
    files = {name: str(directory / name) for name in names}
    if not all(map(os.path.isfile, files.values())):  # Path.is_file raises an error for a name that is too long
        listed = {plain_name(os.path.relpath(path, directory)): path for path in all_files(directory)}
        files = {name: path if os.path.isfile(path) else listed.get(name, path) for name, path in files.items()}
    return files


def clip_suffix(start: float, end: float) -> str:
    """The part of a video_id for a clip's bounds in s: "[1.5-4]", "[4-]" to the end, "" for a whole video."""
    last = "" if np.isnan(end) else f"{end:.15g}"  # 15 digits separate the clips of a long video
    return f"[{start:.15g}-{last}]" if start or last else ""


def read_rows(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The rows of a csv as stripped text, with the standard names of the columns and OPTIONAL's defaults. The index is
    the number of the row in a spreadsheet, from 1 for the header. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{located(path)}: no such csv of captions")
    rows = []
    try:
        text = path.read_bytes().decode("utf-8-sig")
        for values in csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True):
            rows.append([value.strip() for value in values])
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a csv in UTF-8 ({error})") from None
    except csv.Error as error:
        raise UserError(f"{path}, row {len(rows) + 1}: not a row of a csv: the quotes do not match ({error})") from None
    if "\0" in text:
        raise UserError(f"{path}: not a csv in UTF-8 (it has NUL characters)")
    if not any(map(any, rows)):
        raise UserError(f"{path}: empty")
    (_, header), *rows = [(number, values) for number, values in enumerate(rows, 1) if any(values)]
    names = {name: columns.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    for standard, column in names.items():
        if column not in header and standard in (*REQUIRED, *columns):
            other = len(header) == 1 and re.search("[;\t|]", header[0])
            advice = "separate columns by commas" if other else "`columns` in the config maps names"
            raise UserError(f"{path}: no column {column!r} for {standard}; it has {', '.join(header)} ({advice})")
        if header.count(column) > 1:
            raise UserError(f"{path}: {header.count(column)} columns {column!r}; rename all but one")
    if not rows:
        raise UserError(f"{path}: no rows")
    for row, values in rows:
        if len(values) > len(header):
            more = f"{len(values)} fields, but the header has {len(header)}"
            raise UserError(f"{path}, row {row}: {more} (a caption with commas needs quotes)")
    padded = [values + [""] * (len(header) - len(values)) for _, values in rows]
    table = pd.DataFrame(padded, [row for row, _ in rows], header)
    present = {name: table[column] for name, column in names.items() if column in table}
    return pd.DataFrame(OPTIONAL | present, table.index)


def seconds(column: pd.Series, name: str, path: Path) -> pd.Series:
    """A column of times in s, NaN where it is empty. Raises UserError for a row without a number."""
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce").astype(float)
    wrong = (column != "") & ~np.isfinite(numbers)
    if wrong.any():
        row = wrong.idxmax()
        raise UserError(f"{path}, row {row}: {name} {column[row]!r} is not a number of seconds")
    return numbers
