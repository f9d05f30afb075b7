"""Nested bars of R@1, R@5 and R@10 by variant, a panel a direction; hollow marks: published."""

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from centerclip.report.plots import style

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of a table."""
    figure, both = plt.subplots(1, 2, figsize=(10, 1.8 + 0.3 * len(data)), sharey=True, layout="constrained")
    places = range(len(data))
    for axes, (short, direction) in zip(both, style.DIRECTIONS.items(), strict=True):
        for k, (shade, marker) in reversed(style.RECALLS.items()):
            column = f"{short} {k}"
            sns.barplot(data, x=column, y="variant", color=shade, saturation=1, width=0.72, label=k, ax=axes)
            axes.errorbar(data[column], places, xerr=data[f"{column} std"], **style.WHISKERS)
            if data[f"paper {column}"].notna().any():
                look = {"marker": marker, "facecolor": "white", "edgecolor": "black", "s": 26, "zorder": 3}
                axes.scatter(data[f"paper {column}"], places, label=f"{k}, published", **look)
        lines = [style.RECALLS, *data[[f"{short} {k}" for k in style.RECALLS]].map("{:.1f}".format).to_numpy()]
        for place, line in zip([-0.75, *places], lines, strict=True):
            axes.text(101, place, "".join(f"{word:>6}" for word in line), va="center", fontsize=8, family="monospace")
        axes.set(title=direction, xlabel="recall@k (% of queries)", ylabel="", xlim=(0, 100))
    style.join_legends(figure, [*style.RECALLS, *(f"{k}, published" for k in style.RECALLS)])
    return style.describe(
        figure, data, "recall by variant",
        "R@k: the queries whose right answer is among the first k. All bars start at 0; longer is better.",
        style.seeds_note(data),
    )  # fmt: skip
