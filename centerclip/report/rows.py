"""The rows of tables: columns and types, reading, and the remarks beside a row's numbers."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, first_line
from centerclip.evaluate.ranks import DIRECTIONS

METRICS = ["R@1", "R@5", "R@10", "MdR", "MnR"]
SCORES = [f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS]
RECALLS = [score for score in SCORES if "R@" in score]
R1 = "t2v R@1"
DIFFERENCE = f"{R1} difference"  # to the baseline's
INTERVALS = [  # over queries; `half` over queries and seeds. Missing for results without ranks
    *(f"{recall} {end}" for recall in RECALLS for end in ("low", "high")),
    *(DIFFERENCE, *(f"{DIFFERENCE} {what}" for what in ("low", "high", "p", "seeds", "std", "half"))),
]
STAGE = ["block", "segments", "clusters", "algorithm"]
ROLES = ["trained", "baseline", "clustering", "as_published"]  # bool, of Cell
MEASURED = [  # of costs
    *("measured_on", "gflops", "gmacs", "saved_mb", "trainable_m", "ms", "ms_low", "ms_high", "ms_p95"),
    *("clustering_share", "tokens", "batch", "batch_ms", "videos_s", "turns", "repeats", "inference_gb"),
    *("training_gb", "training_reserved_gb", "training_chunk", "state_mb", "step_ms", "busy"),
]
DERIVED = ["gmacs", "tokens", "videos_s", "turns", "repeats", "state_mb"]  # those of MEASURED that COSTS may lack
COUNTS = ["n_texts", "n_texts_cut", "n_videos", "n_videos_short", "n_videos_left_out"]
CANDIDATES = "paper videos"  # column: the size of the published test split; missing where nothing is published
LACKING = 0.02  # largest share of missing test videos with which recall is compared with the published one
RANDOM = "random"  # weights
BUSY = " (busy)"  # behind times of a busy machine
BUSY_NOTE = f"Times marked{BUSY} are wrong: one network, timed twice, differed by more than 10 %."
WHOLE = ["frames", "block", "segments", "clusters", *COUNTS]  # whole numbers
NAMES = [
    *("benchmark", "group", "method", "variant", "backbone", "weights", "algorithm", "shift", "select"),
    *("device", "measured_on"),  # of evaluation, of costs
]
KINDS = dict.fromkeys(NAMES, "str") | dict.fromkeys(ROLES, "boolean") | dict.fromkeys([*WHOLE, "threads"], "Int64")
KINDS["busy"] = "boolean"


@contextmanager
def naming(source: str | Path, what: str) -> Iterator[None]:
    """Raise errors about the content of `source`, expected to be `what`, as UserError."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{source}: not {what}: {type(error).__name__}: {first_line(error)}") from None


def read_table(path: Path, filled: Collection[str] = (), present: Collection[str] = ()) -> pd.DataFrame:
    """The rows of a csv, as `checked`. Raises UserError for another file."""
    with naming(path, "a table"):
        table = pd.read_csv(path, dtype=dict.fromkeys(NAMES, "str"))
    if "group" not in table and {"backbone", "frames"} <= {*table}:  # a table of an earlier version
        table = table.copy().assign(group=table["backbone"] + ", " + table["frames"].astype(str))
    return checked(table, path, filled, present)


def checked(
    table: pd.DataFrame, source: str | Path, filled: Collection[str] = (), present: Collection[str] = ()
) -> pd.DataFrame:
    """`table` with the types of KINDS and float64 in other columns; whole numbers with gaps are float64, too.

    Raises UserError for a value of another type, for a missing column of `filled` or `present`, and for a missing
    value in a column of `filled`.
    """
    for column in (*filled, *present):
        if column not in table:
            raise UserError(f"{source}: the column {column} is missing")
    if table.empty:
        raise UserError(f"{source}: the table has no rows")
    columns = {}
    for column, values in table.items():
        kind = KINDS.get(column, float)
        if column in NAMES and not all(isinstance(value, str) for value in values.dropna()):
            raise UserError(f"{source}: {column}: a value is not text")
        with naming(source, f"values of one type in {column}"):
            found = values.astype(kind)
        missing = found.isna().any()
        if missing and column in filled:
            raise UserError(f"{source}: {column}: a value is missing")
        if found.isin([math.inf, -math.inf]).any():
            raise UserError(f"{source}: {column}: a value is infinite")
        numpy = {"Int64": float if missing else int, "boolean": kind if missing else bool}  # for plots
        columns[column] = found.astype(numpy.get(kind, kind))
    return pd.DataFrame(columns)


def nullable(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with types that know missing values, so that a merge matches missing values with each other."""
    names = dict.fromkeys(["backbone", "algorithm"], "string")
    return table.astype(names | {name: "Int64" for name in WHOLE if name in table}).copy()  # or it is fragmented


def label(row: Mapping) -> str:
    """The variant of a row and, in brackets, its `remarks`."""
    marks = ", ".join(remarks(row))
    return f"{row['variant']} ({marks})" if marks else row["variant"]


def remarks(row: Mapping) -> list[str]:
    """Remarks on a row: random start weights, and fewer test videos than the published test split or, without one, than
    its own test split."""
    said = []
    if pd.notna(row.get("weights")) and row["weights"] == RANDOM:
        said.append("from random weights" if row["trained"] else "random weights")
    tested, split = row.get("n_videos"), row.get(CANDIDATES)
    if pd.notna(tested) and pd.isna(split):
        split = tested + (row.get("n_videos_left_out") or 0)
    if pd.notna(tested) and tested < split:
        said.append(f"on {tested:,.0f} of {split:,.0f} videos")
    return said


def disturbed(table: pd.DataFrame) -> pd.Series:
    """The rows with times of a busy machine, as bool."""
    return table["busy"].eq(True).fillna(False).astype(bool)


def too_few(table: pd.DataFrame) -> pd.Series:
    """The rows that lack more than LACKING of the published test videos, as bool."""
    return table["n_videos"].astype(float) < (1 - LACKING) * table[CANDIDATES].astype(float)


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the `label`s of its rows in place of the variants."""
    return table.assign(variant=[label(row) for row in table.to_dict("records")])
