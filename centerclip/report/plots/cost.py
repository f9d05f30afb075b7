"""Plot bars of each variant's memory, operations, time with its spread, and share of time that reduces tokens."""

import pandas as pd
from matplotlib.figure import Figure

from centerclip.command import UserError
from centerclip.report.plots import style
from centerclip.report.rows import BUSY, BUSY_NOTE, disturbed

TELLING = 1.0  # GFLOPs a video: in smaller models, calling functions takes most of the time
TIMED = ["ms", "clustering_share"]

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """Draw the rows of a table."""
    data = data.assign(clustering_share=100 * data["clustering_share"])
    if data["gflops"].isna().all():
        raise UserError("costs, which are missing")
    telling, busy = data["gflops"].max() >= TELLING, BUSY if disturbed(data).any() else ""
    known = [name for name in style.COST_LABELS if data[name].notna().any() and (telling or name not in TIMED)]
    figure, each = style.panels(len(known), 3.6 * len(known), 2.2 + 0.3 * len(data), sharey=True)
    for axes, column in zip(each, known, strict=True):
        rows = data.reset_index(drop=True).dropna(subset=column)
        style.name_rows(axes, data["variant"])
        axes.barh(rows.index, rows[column], color="0.6", height=0.72)
        if column == "ms":
            spread = [rows["ms"] - rows["ms_low"], rows["ms_high"] - rows["ms"]]
            axes.errorbar(rows["ms"], rows.index, xerr=spread, **style.WHISKERS)
        texts = (f"{value:,.{0 if value >= 100 or not value else 1 if value >= 1 else 3}f}" for value in rows[column])
        style.numbers(axes, rows.index, texts)
        axes.set(xlabel=style.COST_LABELS[column] + busy * (column in TIMED), xlim=(0, None))
        axes.locator_params(axis="x", nbins=4)
    return style.describe(
        figure, data, least(data),
        "Shorter is better. "
        + ("Whiskers: the fastest and the slowest of the repeated measurements." if telling else
           f"Times are only in the table: below {TELLING:g} GFLOP a video they say little about a model."),
        BUSY_NOTE if telling and busy else "",
    )  # fmt: skip


def least(data: pd.DataFrame) -> str:
    """The variants with the least memory or, without memory, the fewest operations, to half a per cent."""
    known = data["saved_mb"].notna().any()
    column, word, unit = ("saved_mb", "least memory", "MB") if known else ("gflops", "fewest operations", "GFLOPs")
    best, baselines = data[data[column] <= 1.005 * data[column].min()], data[data["baseline"]]
    if len(baselines) != 1 or best["baseline"].any():
        numbers = ",.0f" if data[column].max() >= 100 else ".3g"
        return f"a video takes {style.between(data[column], numbers)} {unit}"
    share = 100 * best[column].min() / baselines[column].iloc[0]
    verb = "needs" if len(best) == 1 else "need"
    return f"{style.listed(best['variant'])} {verb} the {word}, {share:.0f} % of the baseline's"
