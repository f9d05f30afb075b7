"""A benchmark's table or its cells -> plots, png and svg, that also read in grey and by the colour-blind."""

import argparse
import json
import re
import textwrap
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from centerclip.stage import atomic, run
from centerclip.tables import COMPARED, baselines

DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
RECALLS = {"R@1": ("0.45", "o"), "R@5": ("0.7", "s"), "R@10": ("0.88", "D")}  # shade of the bar, published marker
R1 = "text-to-video R@1 (% of queries)"
COSTS = {
    "saved_mb": "memory kept for the\nbackward pass (MB / video)",
    "train_gb": "GPU memory of training\n(GB)",
    "ms": "time to encode\n(ms / video)",
    "clustering_share": "clustering's share\nof that time (%)",
}
PUBLISHED = {"saved_mb": ("memory", "paper memory_gb"), "ms": ("time", "paper ms")}  # the costs that the paper has too
SETTINGS = {  # what an ablation may vary
    "block": "blocks before the clustering, B",
    "segments": "segments a video, S",
    "clusters": "tokens kept a segment, K",
    "frames": "frames a video",
}
MARKERS = "osD^vPX<>ph*"
COLOURS = [colour for number, colour in enumerate(sns.color_palette("colorblind")) if number not in (6, 8)]  # not pale
RING = Line2D([], [], linestyle="", marker="o", color="black", markerfacecolor="none", label="hollow: published")
WHISKERS = {"fmt": "none", "ecolor": "black", "capsize": 2}
SEEDS = "Of several seeds: the mean, and one standard deviation as whiskers or bands."
SPREADS = [f"{short} {k} std" for short in DIRECTIONS for k in RECALLS]  # columns that a table of one seed lacks


def read_table(path: Path) -> pd.DataFrame:
    """A benchmark's table with all SPREADS, empty where it has none."""
    table = pd.read_csv(path)
    return table.reindex(columns=table.columns.union(SPREADS, sort=False))


def read_epochs(cells: Iterable[Path]) -> pd.DataFrame:
    """A row an epoch of each cell, one without numbers if untrained: benchmark, variant, epoch, loss, R@1."""
    rows, numbers = [], ["epoch", "loss", *DIRECTIONS]
    for cell in [json.loads(path.read_text()) for path in cells]:
        for epoch in cell["training"]["epochs"] if cell["training"] else [{}]:
            recalls = {short: epoch[name.replace(" ", "_")]["R@1"] for short, name in DIRECTIONS.items() if epoch}
            rows.append({"benchmark": cell["benchmark"], "variant": cell["variant"]} | epoch | recalls)
    return pd.DataFrame(rows, columns=["benchmark", "variant", *numbers]).astype(dict.fromkeys(numbers, float))


def describe(figure: Figure, data: pd.DataFrame, title: str, *sentences: str) -> Figure:
    """Write a title above a figure of `data` and how to read it below; returns the figure."""
    figure.suptitle(f"{data['benchmark'].iloc[0]}: {title}")
    words = textwrap.wrap(" ".join(filter(None, sentences)), int(14 * figure.get_figwidth()))
    figure.supxlabel("\n".join(words), fontsize=9, color="0.3")
    return figure


def left_out(variants: Iterable[str], why: str) -> str:
    """A sentence on the variants that a plot does not show; nothing if it shows all."""
    names = ", ".join(sorted(variants))
    return names and f"Not shown, {why}: {names}."


def looks(variants: Iterable[str]) -> dict:
    """How seaborn tells variants apart: a colour and, for those who see none, a marker each."""
    order = list(dict.fromkeys(variants))
    colours, markers = islice(cycle(COLOURS), len(order)), islice(cycle(MARKERS), len(order))
    look = {"hue": "variant", "hue_order": order, "palette": list(colours)}
    return look | {"style": "variant", "style_order": order, "markers": list(markers)}


def join_legends(figure: Figure, labels: Iterable[str], *more: Line2D, title: str = "") -> None:
    """One legend to the right of the figure in place of its panels' own: of `labels`, in their order, then `more`."""
    named = {}
    for axes in figure.axes:
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if axes.get_legend():
            axes.get_legend().remove()
    handles = [named[label] for label in dict.fromkeys(labels) if label in named]
    figure.legend(handles=[*handles, *more], title=title, loc="outside right upper", frameon=False, alignment="left")


def rings(published: pd.DataFrame, x: str, axes: Axes, **look) -> None:
    """Hollow marks of published recalls over `x`, the first marks in `axes`; RING explains them."""
    if len(published):
        sns.scatterplot(published, x=x, y="recall", ax=axes, legend=False, **look)
        (marks,) = axes.collections
        marks.set(edgecolor=marks.get_facecolor(), facecolor="none", linewidth=1.6)


def recall(table: pd.DataFrame) -> Figure:
    """Nested bars of R@1, R@5 and R@10 by variant, a panel a direction; hollow marks: published."""
    figure, both = plt.subplots(1, 2, figsize=(10, 1.8 + 0.3 * len(table)), sharey=True, layout="constrained")
    places = range(len(table))
    for axes, (short, direction) in zip(both, DIRECTIONS.items(), strict=True):
        for k, (shade, marker) in reversed(RECALLS.items()):
            column = f"{short} {k}"
            sns.barplot(table, x=column, y="variant", color=shade, saturation=1, width=0.72, label=k, ax=axes)
            axes.errorbar(table[column], places, xerr=table[f"{column} std"], **WHISKERS)
            if table[f"paper {column}"].notna().any():
                look = {"marker": marker, "facecolor": "white", "edgecolor": "black", "s": 26, "zorder": 3}
                axes.scatter(table[f"paper {column}"], places, label=f"{k}, published", **look)
        lines = [RECALLS, *table[[f"{short} {k}" for k in RECALLS]].map("{:.1f}".format).to_numpy()]
        for place, line in zip([-0.75, *places], lines, strict=True):
            axes.text(101, place, "".join(f"{word:>6}" for word in line), va="center", fontsize=8, family="monospace")
        axes.set(title=direction, xlabel="recall@k (% of queries)", ylabel="", xlim=(0, 100))
    join_legends(figure, [*RECALLS, *(f"{k}, published" for k in RECALLS)])
    return describe(
        figure, table, "recall by variant",
        "R@k: the queries whose right answer is among the first k. All bars start at 0; longer is better.",
        SEEDS if table["t2v R@1 std"].notna().any() else "",
    )  # fmt: skip


def recall_at_k(table: pd.DataFrame) -> Figure:
    """Curves of R@k over k, a panel a direction; hollow marks: published."""
    look = looks(table["variant"])
    lines = look | {"dashes": False, "markersize": 7, "mec": "black", "mew": 0.4}
    figure, both = plt.subplots(1, 2, figsize=(9.6, 4.6), sharey=True, layout="constrained")
    for axes, (short, direction) in zip(both, DIRECTIONS.items(), strict=True):
        ours, published = (at_each_k(table, f"{whose}{short} R@") for whose in ("", "paper "))
        rings(published, "k", axes, s=70, zorder=3, **look)
        sns.lineplot(ours, x="k", y="recall", ax=axes, **lines)
        axes.set(
            title=direction, xscale="log", xlabel="k (number of answers, log scale)", ylabel="recall@k (% of queries)"
        )
        axes.set_xticks(ks := sorted(ours["k"].unique()), ks)
        axes.minorticks_off()
    compared = table[[f"paper {short} R@1" for short in DIRECTIONS]].notna().any(axis=None)
    join_legends(figure, table["variant"], *([RING] if compared else []))
    return describe(
        figure, table, "recall@k",
        "The queries whose right answer is among the first k: higher is better. The axis need not start at 0.",
        "Of several seeds: the mean." if table["t2v R@1 std"].notna().any() else "",
    )  # fmt: skip


def at_each_k(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns `prefix` + k of a table as rows variant, k, recall; none for missing values."""
    found = {int(column.removeprefix(prefix)): column for column in table if re.fullmatch(rf"{prefix}\d+", column)}
    parts = [table[["variant"]].assign(k=k, recall=table[column]) for k, column in found.items()]
    return pd.concat(parts).dropna()


def cost(table: pd.DataFrame) -> Figure:
    """Bars of memory, of time with its spread, and of clustering's share of the time, by variant."""
    table = table.assign(clustering_share=100 * table["clustering_share"])
    known = [column for column in COSTS if table[column].notna().any()]
    size = (3.4 * len(known), 1.8 + 0.3 * len(table))
    figure, (each,) = plt.subplots(1, len(known), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, column in zip(each, known, strict=True):
        sns.barplot(table, x=column, y="variant", color="0.6", saturation=1, width=0.72, ax=axes)
        ends = table[column]
        if column == "ms":
            spread = [table["ms"] - table["ms_low"], table["ms_high"] - table["ms"]]
            axes.errorbar(table["ms"], range(len(table)), xerr=spread, **WHISKERS)
            ends = table["ms_high"].fillna(table["ms"])
        for place, (end, value) in enumerate(zip(ends, table[column], strict=True)):
            if pd.notna(value):
                axes.text(end, place, f"  {value:,.{0 if value >= 100 else 1}f}", va="center", fontsize=8)
        axes.set(xlabel=COSTS[column], ylabel="", xlim=(0, 1.25 * ends.max() or 1))
    return describe(
        figure, table, "what a variant costs",
        "Shorter is better. Whiskers: the fastest and the slowest of the repeated measurements.",
    )  # fmt: skip


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Costs in per cent of the baseline's of the same backbone and frames; published ones of the published one's."""
    columns = [column for ours, (_, paper) in PUBLISHED.items() for column in (ours, paper)]
    own = baselines(table.assign(trained=table["epoch"].notna()))
    compared = table[COMPARED].merge(own, on=COMPARED, how="left").set_axis(table.index)
    return 100 * table[columns] / compared[columns]


def recall_vs_cost(table: pd.DataFrame) -> Figure:
    """Text-to-video R@1 against memory and time relative to the baseline's, ours and published; bubbles: tokens."""
    measured = table["epoch"].notna() & table["tokens"].notna()  # without training a model costs the same
    costs = relative(table)[measured].dropna(how="all")
    points = table.loc[costs.index, ["variant", "tokens"]]
    points["variant"] += [f" ({tokens:,.0f})" for tokens in points["tokens"]]
    look = looks(points["variant"]) | {"size": "tokens", "sizes": (0, 300), "size_norm": (0, points["tokens"].max())}
    figure, both = plt.subplots(1, 2, figsize=(8.8, 4.6), sharey=True, layout="constrained")
    for axes, (ours, (name, paper)) in zip(both, PUBLISHED.items(), strict=True):
        published = points.assign(cost=costs[paper], recall=table["paper t2v R@1"]).dropna()
        rings(published, "cost", axes, **look)
        drawn = points.assign(cost=costs[ours], recall=table["t2v R@1"]).dropna()
        if len(drawn):
            sns.scatterplot(drawn, x="cost", y="recall", ax=axes, edgecolor="black", legend="brief", **look)
        axes.axvline(100, color="0.3", linestyle="--", zorder=0.9)
        axes.set(xlabel=f"{name} (% of the baseline's)", ylabel=R1)
        axes.margins(0.12)
    compared = table["paper t2v R@1"].notna().any()
    join_legends(figure, points["variant"], *([RING] if compared else []), title="variant (tokens / video)")
    return describe(
        figure, table, "recall against cost",
        "Up and to the left is better: more recall for less; axes do not start at 0. Area: tokens of a video, all"
        " blocks together. Each model is compared with its own baseline (dashed), which keeps every token: in the"
        " memory kept for the backward pass and in the time to encode.",
        "Published: GPU memory of training, inference time." if compared else "",
        left_out(table["variant"].drop(points.index), "untrained, or without a baseline of its backbone and frames"),
    )  # fmt: skip


def training(epochs: pd.DataFrame) -> Figure:
    """Loss and both directions' R@1 by epoch; of several seeds the mean and its standard deviation."""
    shown = epochs.dropna(subset="epoch")
    recalls = {short: f"{direction} R@1 (% of queries)" for short, direction in DIRECTIONS.items()}
    look = looks(shown["variant"]) | {"dashes": False, "errorbar": "sd", "markersize": 7, "mec": "black", "mew": 0.4}
    figure, each = plt.subplots(1, 3, figsize=(10.8, 4.2), layout="constrained")
    for axes, (column, label) in zip(each, {"loss": "training loss (nats)", **recalls}.items(), strict=True):
        sns.lineplot(shown, x="epoch", y=column, ax=axes, **look)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    join_legends(figure, shown["variant"])
    return describe(
        figure, epochs, "training",
        "Left: lower is better. Middle and right, on the test split after each epoch: higher is better.",
        SEEDS if shown.duplicated(["variant", "epoch"]).any() else "",
        left_out(set(epochs["variant"]) - set(shown["variant"]), "untrained"),
    )  # fmt: skip


def ablation(table: pd.DataFrame) -> Figure:
    """R@1, left axes, and memory or time, right axes, over the setting in which the variants differ."""
    setting = next((name for name in SETTINGS if table[name].nunique() > 1), None)
    names = table["variant"].str.rpartition("-")  # GRID-VALUE
    table, words = table.assign(value=table[setting] if setting else names[2]), SETTINGS.get(setting, names[0].iloc[0])
    figure, both = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    for axes, column in zip(both, PUBLISHED, strict=True):
        sns.lineplot(table, x="value", y="t2v R@1", marker="o", markersize=8, color="black", ax=axes)
        axes.errorbar(table["value"], table["t2v R@1"], yerr=table["t2v R@1 std"], **WHISKERS)
        right = axes.twinx()
        sns.lineplot(table, x="value", y=column, marker="s", markersize=8, linestyle="--", color=COLOURS[3], ax=right)
        right.grid(False)
        right.set_ylabel(COSTS[column], color=COLOURS[3])
        axes.set(xlabel=words, ylabel=R1, xticks=table["value"])
        axes.margins(0.08)
    return describe(
        figure, table, f"recall and cost over {words}",
        f"{table['variant'].iloc[0].rsplit('-', 2)[0]} with only this changed. Circles, solid line, left axis: recall,"
        " higher is better. Squares, dashed line, right axis: cost, lower is better.",
        SEEDS if table["t2v R@1 std"].notna().any() else "",
    )  # fmt: skip


PLOTS = {plot.__name__: plot for plot in (recall, recall_at_k, recall_vs_cost, cost, training, ablation)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.plots", description=__doc__)
    parser.add_argument("plot", choices=PLOTS)
    parser.add_argument("--table", required=True, type=Path, help="a benchmark's table, csv")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="its results json, for the training plot")
    parser.add_argument("--variants", required=True, nargs="+", help="what to draw of them")
    parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write; the suffix is the format")

    def job(arguments: argparse.Namespace) -> None:
        matplotlib.use("Agg")
        matplotlib.rcParams["svg.hashsalt"] = "centerclip"  # equal ids, equal files
        sns.set_theme(context="paper", style="whitegrid", font_scale=1.1)
        data = read_epochs(arguments.cells) if arguments.plot == "training" else read_table(arguments.table)
        figure = PLOTS[arguments.plot](data[data["variant"].isin(arguments.variants)])
        for path in arguments.out:
            with atomic(path) as temporary:
                dated = {"Date": None} if path.suffix == ".svg" else {}
                figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=dated)

    run(parser, job)


if __name__ == "__main__":
    main()
