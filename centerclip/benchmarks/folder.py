"""Anybody's videos: a directory of files and a csv with `video, caption` and maybe `split, start_s, end_s`."""

import os.path
from pathlib import Path

import numpy as np
import pandas as pd

from centerclip.manifest import COLUMNS, SPLITS
from centerclip.stage import UserError

REQUIRED = ("video", "caption")
OPTIONAL = {"split": "test", "start_s": "0", "end_s": ""}


def manifest(settings: dict, source: Path | None = None) -> pd.DataFrame:
    """The manifest of a folder.

    Several rows of a video are several captions, an empty caption makes it a candidate without text, and different
    bounds make different clips. Without a column `split`, all is test. `settings`: `videos` the directory, `captions`
    the csv, `columns` its own names for the columns.

    Raises:
        UserError: a directory or csv that is not there, or whatever is wrong in the csv, with its row.
    """
    directory, csv = Path(settings["videos"]), Path(settings["captions"])
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of videos")
    rows = read_rows(csv, settings.get("columns") or {})
    where = {index: f"{csv}, row {index + 2}" for index in rows.index}  # as a spreadsheet counts, the header first
    start, end = (seconds(rows[name], name, where) for name in ("start_s", "end_s"))
    start = start.fillna(0.0)
    for index, row in rows.iterrows():
        name, path = row["video"], Path(row["video"])
        if not name or path.is_absolute() or ".." in path.parts:
            raise UserError(f"{where[index]}: video {name!r} is not a path inside {directory}")
        if row["split"] not in SPLITS:
            raise UserError(f"{where[index]}: split {row['split']!r} is not one of {', '.join(SPLITS)}")
        if start[index] < 0 or end[index] <= start[index]:
            raise UserError(f"{where[index]}: start_s {start[index]:g} and end_s {end[index]:g} bound no clip")
    # not Path.is_file, which raises where a name is too long to be one
    missing = rows["video"][~rows["video"].map(lambda name: os.path.isfile(directory / name))].unique()
    if len(missing):
        raise UserError(f"{csv}: {len(missing)} videos are not in {directory}, the first {missing[0]!r}")
    if not rows["caption"].any():
        raise UserError(f"{csv}: every caption is empty")
    bounds = [clip_suffix(*clip) for clip in zip(start, end, strict=True)]
    return pd.DataFrame(
        {
            "split": rows["split"],
            "video_id": rows["video"] + pd.Series(bounds, rows.index),
            "path": rows["video"].map(lambda name: str(directory / name)),
            "start_s": start,
            "end_s": end,
            "caption_id": rows.index.astype(str),
            "caption": rows["caption"],
        },
        columns=list(COLUMNS),
    )


def clip_suffix(start: float, end: float) -> str:
    """What a clip's bounds in seconds add to its video_id: "[1.5-4]", "[4-]" to the end, "" for a whole video."""
    if not start and np.isnan(end):
        return ""
    # 15 digits, so that clips milliseconds apart in a long video keep different names
    return f"[{start:.15g}-{'' if np.isnan(end) else f'{end:.15g}'}]"


def read_rows(csv: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The csv's rows as text, its columns under their standard names, optional ones filled in."""
    if not csv.is_file():
        raise UserError(f"{csv}: no such csv of captions")
    try:
        rows = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise UserError(f"{csv}: empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{csv}: not a csv in UTF-8 ({str(error).splitlines()[0]})") from None
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes a field too many for row names
        raise UserError(f"{csv}: rows have more fields than the header (a caption with commas needs quotes)")
    for standard, own in ({name: name for name in REQUIRED} | columns).items():
        if own not in rows:
            has = ", ".join(rows.columns)
            raise UserError(
                f"{csv}: no column {own!r} for {standard}; it has {has} (`columns` in the config maps names)"
            )
    if rows.empty:
        raise UserError(f"{csv}: no rows")
    own_names = {name: columns.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    kept = {name: rows[own].str.strip() for name, own in own_names.items() if own in rows}
    return pd.DataFrame(OPTIONAL | kept, index=rows.index)


def seconds(column: pd.Series, name: str, where: dict[int, str]) -> pd.Series:
    """A column of times as float seconds, NaN where empty."""
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    wrong = (column != "") & ~np.isfinite(numbers)
    if wrong.any():
        index = wrong.idxmax()
        raise UserError(f"{where[index]}: {name} {column[index]!r} is not a number of seconds")
    return numbers
