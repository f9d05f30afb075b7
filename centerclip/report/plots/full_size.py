"""Bars of what the paper's models cost here, as shares of the baseline's; white ones: published."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report import full_size
from centerclip.report.plots import style
from centerclip.report.tables import BUSY, BUSY_NOTE

LABELS = {
    "time": "time to encode",
    "memory": "memory kept for the\nbackward pass",
    "GPU memory": "GPU memory of training",
    "operations": "operations, GFLOPs",
}
LOOK = {"hue_order": ["here", "in the paper"], "palette": [style.COLOURS[0], "white"], "edgecolor": "black"}


def read(table: Path, cells: Sequence[Path]) -> pd.DataFrame:
    """The csv of `full_size.table`; `cells` are not read."""
    return full_size.read(table)


def draw(table: pd.DataFrame) -> Figure:
    """The plot of rows of `full_size.table`."""
    shares = full_size.shares(table).rename(columns={"paper": "in the paper"})
    costs = shares["cost"].unique()
    figure, each = style.panels(len(costs), 0.6 + 3 * len(costs), 3.6, sharex=True, sharey=True)
    for axes, cost in zip(each, costs, strict=True):
        rows = shares[shares["cost"] == cost]
        bars = rows.melt("variant", LOOK["hue_order"], "whose", "share")
        sns.barplot(bars, x="share", y="variant", hue="whose", saturation=1, width=0.7, ax=axes, **LOOK)
        for drawn in axes.containers:
            axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize=9, bbox={"facecolor": "white", "lw": 0, "pad": 0.5})
        axes.axvline(1, color="0.3", linestyle="--", zorder=0.9)
        label = LABELS[cost] + (BUSY if rows["busy"].any() else "")
        axes.set(xlabel=f"{label}\n(share of the baseline's)", ylabel="")
    axes.set_xlim(0, 1.2 * max(1, *shares[LOOK["hue_order"]].max()))
    style.join_legends(figure, LOOK["hue_order"])
    first, full = table.iloc[0], table[table["baseline"]].iloc[0]
    mark, note = (BUSY, f"{BUSY_NOTE} Their shares are left out.") if shares["busy"].any() else ("", "")
    return style.describe(
        figure, table.assign(benchmark=f"{first['backbone']}, {first['frames']} frames"),
        "what clustering saves on this machine, and in the paper",
        f"Shorter is better; dashed: the baseline, which keeps every token. Here: {first['measured_on']},"
        f" {first['threads']} threads, random weights, generated videos, of which the baseline encodes one in"
        f" {full['ms']:.0f} ms{mark} with {full['gflops']:.0f} GFLOPs and keeps {full['saved_mb']:.0f} MB of it for"
        f" the backward pass. In the paper, on {first['benchmark']}: inference time and GPU memory of training;"
        " it gives no operations.",
        note,
    )  # fmt: skip
