"""Bars of memory, of operations, of time with its spread, and of clustering's share of the time, by variant."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report.plots import style

TELLING = 1.0  # GFLOPs a video: of smaller models a time is mostly that of calling functions
TIMED = ["ms", "clustering_share"]

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of a table."""
    data = data.assign(clustering_share=100 * data["clustering_share"])
    telling = data["gflops"].max() >= TELLING
    known = [name for name in style.COST_LABELS if data[name].notna().any() and (telling or name not in TIMED)]
    figure, each = style.panels(len(known), 3.4 * len(known), 1.8 + 0.3 * len(data), sharey=True)
    for axes, column in zip(each, known, strict=True):
        sns.barplot(data, x=column, y="variant", color="0.6", saturation=1, width=0.72, ax=axes)
        ends = data[column]
        if column == "ms":
            spread = [data["ms"] - data["ms_low"], data["ms_high"] - data["ms"]]
            axes.errorbar(data["ms"], range(len(data)), xerr=spread, **style.WHISKERS)
            ends = data["ms_high"].fillna(data["ms"])
        for place, (end, value) in enumerate(zip(ends, data[column], strict=True)):
            if pd.notna(value):
                digits = 0 if value >= 100 else 1 if value >= 1 else 3
                axes.text(end, place, f"  {value:,.{digits}f}", va="center", fontsize=8)
        axes.set(xlabel=style.COST_LABELS[column], ylabel="", xlim=(0, 1.25 * ends.max() or 1))
    return style.describe(
        figure, data, "what a variant costs",
        "Shorter is better."
        + (" Whiskers: the fastest and the slowest of the repeated measurements." if telling else
           f" Times are in the table: below {TELLING:g} GFLOP a video they tell little of a model."),
    )  # fmt: skip
