"""Text-to-video R@1 against memory and time relative to the baseline's, ours and published; bubbles: tokens."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report import fastest
from centerclip.report.plots import style
from centerclip.report.rows import labelled
from centerclip.report.tables import of_baselines

RELATIVE = {  # ours, published: a published model's operations are those of the same model here
    "memory": ("saved_mb", "paper training_gb"),
    "time": ("batch_ms", "paper ms"),
    "operations": ("gflops", "gflops"),
}

read = style.read_table


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Costs in per cent of each row's baseline: ours of ours, published ones of the published baseline."""
    columns = list(dict.fromkeys(column for pair in RELATIVE.values() for column in pair))
    return 100 * table[columns] / of_baselines(table, columns)


def frontier(points: pd.DataFrame) -> pd.DataFrame:
    """Those of `points` (cost, recall) that no other has more recall than at the same cost or less, by rising cost."""
    ordered = points.sort_values(["cost", "recall"], ascending=[True, False])
    return ordered[ordered["recall"] > ordered["recall"].cummax().shift(fill_value=float("-inf"))]


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of a table."""
    data = labelled(data)
    measured = data["trained"] & data["tokens"].notna()  # without training a model costs the same
    costs = relative(data)[measured].dropna(how="all")
    points = data.loc[costs.index, ["variant", "tokens"]]
    points["variant"] = [f"{row.variant} ({row.tokens:,.0f})" for row in points.itertuples()]
    sizes = {"size": "tokens", "sizes": (0, 300), "size_norm": (0, points["tokens"].max())}
    look = style.looks(points["variant"]) | sizes
    figure, both = style.panels(2, 8.8, 4.6, sharey=True)
    work = fastest.COSTS[fastest.cost(data.loc[costs.index])]
    for axes, name in zip(both, ("memory", work), strict=True):
        ours, paper = RELATIVE[name]
        published = points.assign(cost=costs[paper], recall=data["paper t2v R@1"]).dropna()
        style.rings(published, "cost", axes, **look)
        drawn = points.assign(cost=costs[ours], recall=data["t2v R@1"]).dropna()
        if len(drawn):
            best = frontier(drawn)
            axes.plot(best["cost"], best["recall"], color="0.6", linewidth=1, zorder=0.8)
            sns.scatterplot(drawn, x="cost", y="recall", ax=axes, edgecolor="black", legend="brief", **look)
            reach = style.whiskers(data.loc[drawn.index], "t2v R@1")
            axes.errorbar(drawn["cost"], drawn["recall"], yerr=reach, zorder=0.9, **style.WHISKERS)
        axes.axvline(100, color="0.3", linestyle="--", zorder=0.9)
        axes.set(xlabel=f"{name} (% of the baseline's)", ylabel=style.R1)
        axes.margins(0.12)
    compared, absent = data["paper t2v R@1"].notna().any(), data["variant"].drop(points.index)
    style.join_legends(figure, points["variant"], *([style.RING] if compared else []), title="variant (tokens / video)")
    return style.describe(
        figure, data, "recall against cost",
        "Up and to the left is better: more recall for less; axes do not start at 0. The line joins those that no other"
        " beats in both. Area: tokens of a video, all"
        " blocks together. Each model is compared with its own baseline (dashed), which keeps every token: in the"
        " memory kept for the backward pass, and"
        + (" in the time of a video in the best batch." if work == "time" else
           " in GFLOPs, because the times are not of one quiet device."),
        style.whiskers_note(data),
        f"Published: GPU memory of training, and {'time' if work == 'time' else 'the GFLOPs of the same model'}."
        if compared else "",
        style.left_out(absent, "untrained, or without a baseline"),
    )  # fmt: skip
