"""What the paper's models cost on this machine, as shares of their baseline's, beside what they cost in the paper."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from centerclip.command import UserError
from centerclip.report.documents import Table
from centerclip.report.rows import COST_COLUMNS, ROLES, STAGE, read_table, typed
from centerclip.report.tables import (
    BUSY_NOTE,
    DESCRIBED,
    FEW_NOTE,
    LAYOUT,
    PAPER,
    TIMES,
    against_baseline,
    completed,
    described,
    disturbed,
    text,
    time_mark,
)
from centerclip.settings import layout
from centerclip.settings.cell import Cell

SHARES = {  # what is compared -> its column here, and the paper's
    "time": ("ms", "paper ms"),
    "memory": ("saved_mb", "paper training_gb"),
    "GPU memory": ("training_gb", "paper training_gb"),
    "operations": ("gflops", None),
}
MEASURED = ["device", "threads", "repeats"]  # what costs were measured on and how, in every row


def read(path: Path) -> pd.DataFrame:
    """The rows of the csv of `table`. Raises UserError for another file."""
    return with_baseline(
        read_table(path, [*DESCRIBED, *MEASURED], [*STAGE, "shift", *COST_COLUMNS, *PAPER.values()]), path
    )


def with_baseline(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """`table`. Raises UserError where it has no baseline, which all shares are of, in the file `path`."""
    if table["baseline"].any():
        return table
    raise UserError(f"{path}: none of its models is a trained baseline")


def table(
    cells: Iterable[Cell], costs: dict, paper: pd.DataFrame, source: str | Path = layout.COMPARED
) -> pd.DataFrame:
    """A row a trained model: what it is, what it costs, the paper's numbers and MEASURED.

    Args:
        cells: of a COMPARED file, the `source`. costs: of `tables.read_costs`. paper: of `tables.read_paper`.

    Raises:
        UserError: settings that are no model's, or no baseline.
    """
    rows = completed(typed(described(cells, source)), costs, paper)
    rows = rows[rows["trained"]].assign(**{name: costs[name] for name in MEASURED})
    first = ["benchmark", "variant", "backbone", "frames", *STAGE, "shift", *ROLES]
    columns = dict.fromkeys([*first, *COST_COLUMNS, *MEASURED, *PAPER.values()])
    return with_baseline(rows[[*columns]].reset_index(drop=True), source)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each of SHARES that was measured and each model but the baseline: `cost`, `variant`, the share of the
    baseline's `here` and in the `paper`, missing where there is none, and whether it is a time of a `busy` machine,
    which has no share either."""
    compared = []
    for cost, (ours, published) in SHARES.items():
        rows = table[["variant", "baseline"]].assign(cost=cost, measured=table[ours].notna(), paper=float("nan"))
        rows["busy"] = disturbed(table) & (ours in TIMES)
        rows["here"] = against_baseline(table, ours).mask(rows["busy"])
        if published:
            rows["paper"] = against_baseline(table, published)
        compared.append(rows[rows["measured"] & ~rows["baseline"]])
    return pd.concat(compared, ignore_index=True)[["cost", "variant", "here", "paper", "busy"]]


def conditions(table: pd.DataFrame) -> str:
    """What costs were measured of and on, in words."""
    first = table.iloc[0]
    size = f"{first['backbone']} on {first['frames']} frames with random weights"
    return f"{size}, on this machine ({first['device']}, {first['threads']} threads)"


def savings(table: pd.DataFrame) -> list[str]:
    """What each model but the baseline takes of the baseline's costs here and in the paper, a clause a model."""
    clauses = []
    for variant, rows in shares(table).groupby("variant", sort=False):
        words = []
        for row in rows.itertuples():
            here = "an unknown share, the machine being busy," if row.busy else f"{row.here:.2f}"
            published = "" if pd.isna(row.paper) else f" ({row.paper:.2f} in the paper)"
            words.append(f"{here} of the baseline's {row.cost}{published}")
        clauses.append(f"{variant} takes {', '.join(words)}")
    return clauses


def document(table: pd.DataFrame) -> list[str | Table]:
    """The rows of `table` for people."""
    by_cost = shares(table).set_index("variant").groupby("cost")
    shown = table[["variant"]].copy()
    for cost, (ours, published) in SHARES.items():
        if cost not in by_cost.groups:
            continue
        marks = [time_mark(row) if ours in TIMES else "" for _, row in table.iterrows()]
        compared = by_cost.get_group(cost).reindex(table["variant"])[["here", "paper"]]
        here, paper = compared.map(lambda share: "" if pd.isna(share) else f"{share:.2f}").to_numpy().T
        shown[LAYOUT[ours]] = [text(value, ours) + mark for value, mark in zip(table[ours], marks, strict=True)]
        shown[f"{cost}, here"] = here
        if published:
            shown[f"{cost}, paper"] = paper
    return [Table(shown), notes(table)]


def notes(table: pd.DataFrame) -> str:
    """What was measured and how, in sentences."""
    first = table.iloc[0]
    sentences = [
        f"What the paper's models cost, {conditions(table)}, one generated video at a time. Time, memory and operations"
        " are shares of the baseline's: of the ms to encode a video (medians of at least"
        f" {first['repeats']:.0f} turns), of what is kept of it for the backward pass (saved, MB), and of its GFLOPs,"
        " which leave out the eigenvalue solver that spectral takes on a CPU.",
        f"The paper's are of its inference time and its GPU memory of training on {first['benchmark']}, on its GPUs.",
        *([BUSY_NOTE] if disturbed(table).any() else []),
        *([FEW_NOTE] if (table["turns"] < table["repeats"]).any() else []),
    ]
    return " ".join(sentences)
