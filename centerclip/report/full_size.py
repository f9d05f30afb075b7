"""The costs of the paper's models on this machine, as shares of their baseline's, beside the published costs."""

from pathlib import Path

import pandas as pd

from centerclip.command import UserError
from centerclip.report import tables
from centerclip.report.beside_paper import LAYOUT, shown, time_mark, time_notes
from centerclip.report.documents import Document, Table
from centerclip.report.rows import MEASURED, ROLES, STAGE, checked, disturbed, naming, nullable, read_table
from centerclip.report.tables import DESCRIBED, PAPER, TIMES, against_baseline
from centerclip.settings import layout
from centerclip.settings.cell import Cell

SHARES = {  # what is compared -> its column here, and the paper's
    "time": ("ms", "paper ms"),
    "memory": ("saved_mb", "paper training_gb"),
    "GPU memory": ("training_gb", "paper training_gb"),
    "operations": ("gflops", None),
}


def read(path: Path) -> pd.DataFrame:
    """The rows of the csv of `table`. Raises UserError for another file."""
    return with_baseline(read_table(path, [*DESCRIBED, "threads"], [*STAGE, "shift", *MEASURED, *PAPER.values()]), path)


def with_baseline(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """`table`, read from the file `path`, as one group. Raises UserError without a baseline: all shares need it."""
    if table["baseline"].any():
        return table.assign(group=layout.FULL_SIZE)
    raise UserError(f"{path}: none of its models is a trained baseline")


def table(cells: list[Cell], costs: dict, paper: pd.DataFrame, source: str | Path = layout.COMPARED) -> pd.DataFrame:
    """A row a trained model: what it is, what it costs, the paper's numbers and the threads of the CPU.

    Args:
        cells: of a COMPARED file, the `source`. costs: of `tables.read_costs`. paper: of `tables.read_paper`.

    Raises:
        UserError: the settings are not those of models, or none is a baseline.
    """
    with naming(source, "settings of models"):
        described = pd.DataFrame(map(tables.description, cells))
    rows = tables.with_costs_and_paper(nullable(checked(described, source, DESCRIBED)), costs, paper)
    rows = rows[rows["trained"]].assign(threads=costs["threads"])
    columns = ["benchmark", "variant", "backbone", "frames", *STAGE, "shift", *ROLES, *MEASURED, "threads"]
    return with_baseline(rows[[*columns, *PAPER.values()]].reset_index(drop=True), source)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each measured cost of SHARES and each model but the baseline: `cost`, `variant`, the share of the
    baseline's `here` and in the `paper`, and whether it is a time of a `busy` machine, which has no share here."""
    compared = []
    for cost, (ours, published) in SHARES.items():
        busy = disturbed(table) & (ours in TIMES)
        here = against_baseline(table, ours).mask(busy)
        paper = against_baseline(table, published) if published else float("nan")
        rows = table[["variant"]].assign(cost=cost, here=here, paper=paper, busy=busy)
        compared.append(rows[table[ours].notna() & ~table["baseline"]])
    return pd.concat(compared, ignore_index=True)


def conditions(table: pd.DataFrame) -> str:
    """The models and the device of the measured costs, in words."""
    first = table.iloc[0]
    size = f"{first['backbone']} on {first['frames']} frames with random weights"
    return f"{size}, on this machine ({first['measured_on']}, {first['threads']} threads)"


def savings(table: pd.DataFrame) -> list[str]:
    """The shares of the baseline's costs that each model takes here and in the paper, one clause for each model."""
    words = {}
    for row in shares(table).to_dict("records"):
        here = "an unknown share, the machine being busy," if row["busy"] else f"{row['here']:.2f}"
        paper = f" ({row['paper']:.2f} in the paper)" if pd.notna(row["paper"]) else ""
        words.setdefault(row["variant"], []).append(f"{here} of the baseline's {row['cost']}{paper}")
    return [f"{variant} takes {', '.join(costs)}" for variant, costs in words.items()]


def document(table: pd.DataFrame) -> Document:
    """The rows of `table` for people, and what was measured and how."""
    text, first = table[["variant"]].copy(), table.iloc[0]
    for cost, rows in shares(table).set_index("variant").groupby("cost", sort=False):
        ours, published = SHARES[cost]
        marks = table.apply(time_mark, axis="columns") if ours in TIMES else ""
        text[LAYOUT[ours]] = table[ours].apply(shown, column=ours) + marks
        for column in ["here", "paper"] if published else ["here"]:
            text[f"{cost}, {column}"] = table["variant"].map(rows[column].map("{:.2f}".format, "ignore")).fillna("")
    sentences = [
        f"What the paper's models cost, {conditions(table)}, one generated video at a time. Time, memory and operations"
        " are shares of the baseline's: of the ms to encode a video (medians of at least"
        f" {first['repeats']:.0f} turns), of what is kept of it for the backward pass (saved, MB), and of its GFLOPs,"
        " which leave out the eigenvalue solver that spectral takes on a CPU.",
        f"The paper's are of its inference time and its GPU memory of training on {first['benchmark']}, on its GPUs.",
        *time_notes(table),
    ]
    return [Table(text), " ".join(sentences)]
