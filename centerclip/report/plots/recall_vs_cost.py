"""Plot text-to-video R@1 over memory, and over time or operations, as shares of the baseline's, ours and published."""

import pandas as pd
from matplotlib.figure import Figure

from centerclip.command import UserError
from centerclip.report import fastest
from centerclip.report.plots import style
from centerclip.report.rows import DIFFERENCE
from centerclip.report.tables import of_baselines

RELATIVE = {  # ours, published: a published model's operations are those of the same model here
    "memory": ("saved_mb", "paper training_gb"),
    "time": ("batch_ms", "paper ms"),
    "operations": ("gflops", "gflops"),
}

read = style.read_table


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Costs in per cent of each row's baseline. Published costs are divided by those of the published baseline."""
    columns = list(dict.fromkeys(column for pair in RELATIVE.values() for column in pair))
    return 100 * table[columns] / of_baselines(table, columns)


def draw(data: pd.DataFrame) -> Figure:
    """Draw the rows of a table."""
    measured = data["trained"] & data["tokens"].notna()  # without training a model costs the same
    costs = relative(data)[measured].dropna(how="all")
    if costs.empty:
        raise UserError("costs of trained variants and their baseline, which are missing")
    title = finding(data.loc[costs.index], costs["saved_mb"])
    data, note = style.labelled(data)
    points = data.loc[costs.index, ["variant", "tokens"]]
    look = style.looks(points["variant"])
    figure, both = style.panels(2, 10, 5.4, sharey=True)
    work = fastest.COSTS[fastest.cost(data.loc[costs.index])]
    for axes, name in zip(both, ("memory", work), strict=True):
        ours, paper = RELATIVE[name]
        published = points.assign(cost=costs[paper], recall=data["paper t2v R@1"]).dropna()
        drawn = points.assign(cost=costs[ours], recall=data["t2v R@1"]).dropna()
        if len(drawn):
            reach = style.whiskers(data.loc[drawn.index], "t2v R@1")
            soft = {"ecolor": "0.75", "elinewidth": 0.8, "zorder": 0.9}
            axes.errorbar(drawn["cost"], drawn["recall"], yerr=reach, **style.WHISKERS | soft)
        style.marks(axes, drawn, "cost", "recall", look)
        style.marks(axes, published, "cost", "recall", look, hollow=True)
        axes.axvline(100, color="0.3", linestyle="--", zorder=0.9)
        axes.set(xlabel=f"{name} (% of the baseline's)", ylabel=style.R1)
        axes.margins(0.12)
    handles = style.legend_of(look, lines=False)
    for handle, tokens in zip(handles, points["tokens"], strict=True):
        handle.set_label(f"{handle.get_label()} ({tokens:,.0f})")
    compared, absent = data["paper t2v R@1"].notna().any(), data["variant"].drop(points.index)
    style.add_legend(figure, [*handles, *([style.RING] if compared else [])], title="variant (tokens / video)")
    return style.describe(
        figure, data, title or "recall against cost",
        "Up and to the left is better: more recall at less cost. Axes do not start at 0. Each model is compared with"
        " its own baseline (dashed), which keeps every token. Memory is what is kept for the backward pass."
        + (" Time is that of a video in the best batch." if work == "time" else
           " Operations are GFLOPs; times are left out because they are not all of one quiet device."),
        style.whiskers_note(data),
        f"Published: GPU memory of training, and {'time' if work == 'time' else 'the GFLOPs of the same model'}."
        if compared else "",
        note,
        style.left_out(absent, "untrained, or without costs or a baseline"),
    )  # fmt: skip


def finding(data: pd.DataFrame, memory: pd.Series) -> str:
    """A sentence on the rows that raise R@1 by more than their interval and keep less memory, in % of the baseline's;
    empty without intervals."""
    cheaper = (memory < 100) & data[f"{DIFFERENCE} half"].notna()
    gains = data[cheaper & (data[DIFFERENCE] > data[f"{DIFFERENCE} half"])]
    if len(gains):
        names, verb = style.listed(gains["variant"]), "keeps" if len(gains) == 1 else "keep"
        return f"with a higher R@1, {names} {verb} {style.between(memory[gains.index])} % of the baseline's memory"
    none = f"none of the {cheaper.sum()} models that save memory gains R@1 by more than its 95 % interval"
    return none if cheaper.any() else ""
