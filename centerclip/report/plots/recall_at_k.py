"""Plot R@k over k, one panel for each direction; hollow marks are published."""

import re

import pandas as pd
from matplotlib.figure import Figure

from centerclip.report.plots import style

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """Draw the rows of a table."""
    data, note = style.labelled(data)
    look = style.looks(data["variant"])
    figure, both = style.panels(2, 10, 4.8, sharey=True)
    for axes, (short, direction) in zip(both, style.DIRECTIONS.items(), strict=True):
        ours, published = (at_each_k(data, f"{whose}{short} R@") for whose in ("", "paper "))
        for variant, curve in ours.groupby("variant", sort=False):
            axes.plot(curve["k"], curve["recall"], **look[variant])
        style.marks(axes, published, "k", "recall", look, hollow=True)
        axes.set(title=direction, xlabel="k (number of answers, log scale)", ylabel="recall@k (% of queries)")
        axes.set_xscale("log")
        axes.set_xticks(ks := sorted(ours["k"].unique()), ks)
        axes.minorticks_off()
    compared = data[[f"paper {short} R@1" for short in style.DIRECTIONS]].notna().any(axis=None)
    style.add_legend(figure, style.legend_of(look, *([style.RING] if compared else [])))
    videos = f" of {data['n_videos'].max():,.0f}" if data["n_videos"].notna().any() else ""
    trained = data["trained"] | ~data["trained"].any()
    found = f"{style.between(data.loc[trained, 't2v R@10'])} % of the sentences"
    found += "" if trained.all() else ", by the trained models"
    return style.describe(
        figure, data, f"the right video is among the first 10{videos} for {found}",
        "Recall@k: queries whose right answer is among the first k. Higher is better. The axis need not start at 0.",
        style.seeds_note(data, style.MEANS),
        note,
    )  # fmt: skip


def at_each_k(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns `prefix` + k of a table as rows variant, k, recall, without missing values."""
    columns = {int(column.removeprefix(prefix)): column for column in table if re.fullmatch(rf"{prefix}\d+", column)}
    parts = [table[["variant"]].assign(k=k, recall=table[column]) for k, column in sorted(columns.items())]
    return pd.concat(parts).dropna()
