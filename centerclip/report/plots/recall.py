"""Nested bars of R@1, R@5 and R@10 by variant, a panel a direction; hollow marks: published."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report.plots import style
from centerclip.report.rows import labelled

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of a table."""
    data = labelled(data)
    figure, both = style.panels(2, 10, 1.8 + 0.3 * len(data), sharey=True)
    places = range(len(data))
    for axes, (short, direction) in zip(both, style.DIRECTIONS.items(), strict=True):
        for k, (shade, marker) in reversed(style.RECALLS.items()):
            column = f"{short} {k}"
            sns.barplot(data, x=column, y="variant", color=shade, saturation=1, width=0.72, label=k, ax=axes)
            axes.errorbar(data[column], places, xerr=style.whiskers(data, column), **style.WHISKERS)
            if data[f"paper {column}"].notna().any():
                look = {"marker": marker, "facecolor": "white", "edgecolor": "black", "s": 26, "zorder": 3}
                axes.scatter(data[f"paper {column}"], places, label=f"{k}, published", **look)
        beside = {"va": "center", "fontsize": 8, "family": "monospace"}
        heads = "".join(f"{k:>6}" for k in style.RECALLS)
        above = {"xycoords": ("data", "axes fraction"), "xytext": (0, 8), "textcoords": "offset points"}
        axes.annotate(heads, (101, 1), **above, **beside)
        for place, recalls in enumerate(data[[f"{short} {k}" for k in style.RECALLS]].to_numpy()):
            axes.text(101, place, "".join(f"{recall:6.1f}" for recall in recalls), **beside)
        axes.set(title=direction, xlabel="recall@k (% of queries)", ylabel="", xlim=(0, 100))
    style.join_legends(figure, [*style.RECALLS, *(f"{k}, published" for k in style.RECALLS)])
    return style.describe(
        figure, data, "recall by variant",
        "R@k: the queries whose right answer is among the first k. All bars start at 0; longer is better.",
        style.whiskers_note(data),
    )  # fmt: skip
