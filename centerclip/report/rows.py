"""The rows of tables: their columns and types, how they are read, and what is said beside their numbers."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, first_line

DIRECTIONS = {"text_to_video": "t2v", "video_to_text": "v2t"}
METRICS = ["R@1", "R@5", "R@10", "MdR", "MnR"]
SCORES = [f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS]
STAGE = ["block", "segments", "clusters", "algorithm"]
ROLES = ["trained", "baseline", "clustering", "as_published"]  # bool, of Cell
COST_COLUMNS = [
    *("gflops", "saved_mb", "ms", "ms_low", "ms_high", "clustering_share", "tokens", "batch", "batch_ms"),
    *("turns", "repeats", "training_gb", "training_reserved_gb", "training_chunk", "busy"),
]
COUNTS = ["n_texts", "n_texts_cut", "n_videos", "n_videos_short", "n_videos_left_out"]
CANDIDATES = "paper videos"  # column: how many the published test split has; missing where nothing is published

NAMES = ["benchmark", "method", "variant", "backbone", "weights", "algorithm", "shift", "select", "device"]
FLAGS = [*ROLES, "busy"]
WHOLE = ["frames", "block", "segments", "clusters", *COUNTS]  # numbers that are whole, or missing
RANDOM = "random"  # weights


def read_table(path: Path, known: Collection[str] = (), further: Collection[str] = ()) -> pd.DataFrame:
    """The rows of a csv, `checked`; it needs the columns `known`, without a gap, and `further` ones. Raises UserError
    for another file."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(NAMES, "str"))
    except ValueError as error:
        raise UserError(f"{path}: not a table: {first_line(error)}") from None
    return checked(table, path, known, further)


def checked(
    table: pd.DataFrame, source: str | Path, known: Collection[str] = (), further: Collection[str] = ()
) -> pd.DataFrame:
    """`table` with text in NAMES, bools in FLAGS, whole numbers in WHOLE and finite numbers in all other columns, or
    missing values, but none in the columns `known`; it needs those and `further` ones. Raises UserError, one line with
    the `source`, for anything else."""
    for column in (*known, *further):
        if column not in table:
            raise UserError(f"{source}: not about models: there is no {column}")
    if table.empty:
        raise UserError(f"{source}: there is no row in it")
    columns = {}
    for column in table:
        kind = text if column in NAMES else flag if column in FLAGS else whole if column in WHOLE else number
        values = [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in table[column]]
        if column in known and None in values:
            raise UserError(f"{source}: {column}: a value is missing")
        for value in values:
            if value is not None and kind(value) is None:
                raise UserError(f"{source}: {column}: {value!r} is not {kind.__doc__}")
        parsed = [None if value is None else kind(value) for value in values]
        gaps = float if None in values and kind in (whole, number) else None
        columns[column] = pd.Series(parsed, table.index, dtype=gaps)
    return pd.DataFrame(columns, table.index)


def text(value: object) -> str | None:
    """text"""
    return value if isinstance(value, str) else None


def flag(value: object) -> bool | None:
    """true or false"""
    return {"True": True, "False": False}.get(str(value))


def number(value: object) -> float | None:
    """a number"""
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (int(parsed) if isinstance(value, int) else parsed) if math.isfinite(parsed) else None


def whole(value: object) -> int | None:
    """a whole number"""
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed == int(parsed) else None


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with types that know missing values, so that a merge matches what is missing in both."""
    names = dict.fromkeys(["backbone", "algorithm"], "string")
    return table.astype(names | {name: "Int64" for name in WHOLE if name in table})


def label(row: Mapping) -> str:
    """The variant of a row and, in brackets, what its numbers must not be read without."""
    marks = ", ".join(remarks(row))
    return f"{row['variant']} ({marks})" if marks else row["variant"]


def remarks(row: Mapping) -> list[str]:
    """That a row's model starts from random weights, and that it is tested on fewer videos than the published ones."""
    said = []
    if pd.notna(row.get("weights")) and row["weights"] == RANDOM:
        said.append("from random weights" if row["trained"] else "random weights")
    tested, published = row.get("n_videos"), row.get(CANDIDATES)
    if pd.notna(tested) and pd.notna(published) and tested < published:
        said.append(f"{tested:,.0f} of {published:,.0f} videos")
    return said


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the `label`s of its rows in place of the variants."""
    return table.assign(variant=[label(row) for row in table.to_dict("records")])
