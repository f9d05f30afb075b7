"""Curves of R@k over k, a panel a direction; hollow marks: published."""

import re

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report.plots import style
from centerclip.report.rows import labelled

read = style.read_table


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of a table."""
    data = labelled(data)
    variants = data["variant"]
    figure, both = style.panels(2, 9.6, 4.6, sharey=True)
    for axes, (short, direction) in zip(both, style.DIRECTIONS.items(), strict=True):
        ours, published = (at_each_k(data, f"{whose}{short} R@") for whose in ("", "paper "))
        style.rings(published, "k", axes, s=70, zorder=3, **style.looks(variants))
        sns.lineplot(ours, x="k", y="recall", ax=axes, **style.looks(variants), **style.LINES)
        axes.set(title=direction, xlabel="k (number of answers, log scale)", ylabel="recall@k (% of queries)")
        axes.set_xscale("log")
        axes.set_xticks(ks := sorted(ours["k"].unique()), ks)
        axes.minorticks_off()
    compared = data[[f"paper {short} R@1" for short in style.DIRECTIONS]].notna().any(axis=None)
    style.join_legends(figure, variants, *([style.RING] if compared else []))
    return style.describe(
        figure, data, "recall@k",
        "The queries whose right answer is among the first k: higher is better. The axis need not start at 0.",
        style.seeds_note(data, "Of several seeds: the mean."),
    )  # fmt: skip


def at_each_k(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns `prefix` + k of a table as rows variant, k, recall; none for missing values."""
    columns = {int(column.removeprefix(prefix)): column for column in table if re.fullmatch(rf"{prefix}\d+", column)}
    parts = [table[["variant"]].assign(k=k, recall=table[column]) for k, column in columns.items()]
    return pd.concat(parts).dropna()
