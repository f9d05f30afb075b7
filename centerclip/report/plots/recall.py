"""Plot nested bars of R@1, R@5 and R@10 for each variant, one panel for each direction; hollow marks are published."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from centerclip.report.plots import style

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """Draw the rows of a table."""
    title = style.finding(data)
    data, note = style.labelled(data)
    figure, both = style.panels(2, 10, 2 + 0.3 * len(data), sharey=True)
    places, handles, published = range(len(data)), {}, {}
    for axes, (short, direction) in zip(both, style.DIRECTIONS.items(), strict=True):
        style.name_rows(axes, data["variant"])
        for k, (shade, marker) in reversed(style.RECALLS.items()):
            column = f"{short} {k}"
            axes.barh(places, data[column], color=shade, height=0.72)
            axes.errorbar(data[column], places, xerr=style.whiskers(data, column), **style.WHISKERS)
            handles[k] = Patch(color=shade, label=k)
            if data[f"paper {column}"].notna().any():
                mark = {"marker": marker, "markerfacecolor": "white", "color": "black", "linestyle": ""}
                axes.plot(data[f"paper {column}"], places, markersize=5, **mark)
                published[k] = Line2D([], [], label=f"{k}, published", **mark)
        recalls = data[[f"{short} {k}" for k in style.RECALLS]].to_numpy()
        texts = ("".join(f"{recall:6.1f}" for recall in row) for row in recalls)
        style.numbers(axes, places, texts, "".join(f"{k:>6}" for k in style.RECALLS))
        axes.set(title=direction, xlabel="recall@k (% of queries)", xlim=(0, 100))
    style.add_legend(figure, [*reversed(handles.values()), *reversed(published.values())])
    return style.describe(
        figure, data, title or f"the right answer is first for {style.between(data['t2v R@1'])} % of the sentences",
        "R@k: the queries whose right answer is among the first k. Longer is better.",
        style.whiskers_note(data),
        note,
    )  # fmt: skip
