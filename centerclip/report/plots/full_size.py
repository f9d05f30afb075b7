"""Plot bars of the costs of the paper's models on this machine, as shares of the baseline's; white bars are
published."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from centerclip.command import UserError
from centerclip.report import full_size
from centerclip.report.plots import style
from centerclip.report.rows import BUSY, BUSY_NOTE

LABELS = {
    "time": "time to encode",
    "memory": "memory kept for the\nbackward pass",
    "GPU memory": "GPU memory of training",
    "operations": "operations, GFLOPs",
}
FACES = {"here": "0.5", "paper": "white"}


def read(table: Path, cells: Sequence[Path]) -> pd.DataFrame:
    """The csv of `full_size.table`; `cells` are not read."""
    return full_size.read(table)


def draw(table: pd.DataFrame) -> Figure:
    """Draw the rows of `full_size.table`."""
    shares = full_size.shares(table)
    if shares.empty or not table["baseline"].any():
        raise UserError("a baseline and another variant")
    costs = shares["cost"].unique()
    figure, each = style.panels(len(costs), 0.6 + 3.2 * len(costs), 4, sharex=True, sharey=True)
    for axes, cost in zip(each, costs, strict=True):
        rows = shares[shares["cost"] == cost].reset_index(drop=True)
        style.name_rows(axes, rows["variant"])
        for shift, (whose, face) in zip((-0.18, 0.18), FACES.items(), strict=True):
            known = rows[whose].dropna()
            bars = axes.barh(known.index + shift, known, height=0.36, facecolor=face, edgecolor="black")
            bars.set_label("here" if whose == "here" else "in the paper")
            style.numbers(axes, known.index + shift, known.map("{:.2f}".format))
        axes.axvline(1, color="0.3", linestyle="--", zorder=0.9)
        label = LABELS[cost] + (BUSY if rows["busy"].any() else "")
        axes.set(xlabel=f"{label}\n(share of the baseline's)", xlim=(0, 1.05 * max(1, shares[[*FACES]].max(axis=None))))
    style.add_legend(figure, each[0].containers)
    first, full = table.iloc[0], table[table["baseline"]].iloc[0]
    mark, note = (BUSY, f"{BUSY_NOTE} Their shares are left out.") if shares["busy"].any() else ("", "")
    return style.describe(
        figure, table.assign(benchmark=f"{first['backbone']}, {first['frames']} frames"), savings(shares),
        f"Shorter is better. Dashed: the baseline, which keeps every token. Here: {first['measured_on']},"
        f" {first['threads']} threads, random weights, generated videos. The baseline encodes a video in"
        f" {full['ms']:.0f} ms{mark} with {full['gflops']:.0f} GFLOPs and keeps {full['saved_mb']:.0f} MB for"
        f" the backward pass. In the paper, on {first['benchmark']}: inference time and GPU memory of training;"
        " it gives no operations.",
        note,
    )  # fmt: skip


def savings(shares: pd.DataFrame) -> str:
    """A sentence on the memory that clustering saves, here and in the paper."""
    rows = shares[shares["cost"].isin(["memory", "GPU memory"])]
    rows = rows[rows["cost"] == rows["cost"].iloc[-1]] if len(rows) else shares[shares["cost"] == "operations"]
    word = "memory" if rows["cost"].iloc[0] != "operations" else "operations"
    paper = f", in the paper {style.between(rows['paper'], '.2f')}" if rows["paper"].notna().any() else ""
    return f"with clustering, {word} is {style.between(rows['here'], '.2f')} of the baseline's{paper}"
