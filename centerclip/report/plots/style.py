"""What plots share: how they look, what they say below themselves, and how they read a table."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from centerclip.report import rows as rows_of

DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
RECALLS = {"R@1": ("0.45", "o"), "R@5": ("0.7", "s"), "R@10": ("0.88", "D")}  # shade of the bar, published marker
R1 = "text-to-video R@1 (% of queries)"
COST_LABELS = {
    "saved_mb": "memory kept for the\nbackward pass (MB / video)",
    "training_gb": "GPU memory of training\n(GB)",
    "gflops": "operations\n(GFLOPs / video)",
    "ms": "time to encode\n(ms / video)",
    "clustering_share": "clustering's share\nof that time (%)",
}
LINES = {"dashes": False, "markersize": 7, "mec": "black", "mew": 0.4}  # solid, with outlined markers
MARKERS = "osD^vPX<>ph*"
COLOURS = [colour for number, colour in enumerate(sns.color_palette("colorblind")) if number not in (6, 8)]  # not pale
RING = Line2D([], [], linestyle="", marker="o", color="black", markerfacecolor="none", label="hollow: published")
WHISKERS = {"fmt": "none", "ecolor": "black", "capsize": 2}
QUERIES = "Whiskers: the 95 % interval over queries. Differences have smaller ones, in the table: all answer the same."
SEEDS = "Of several seeds: the mean, and one standard deviation as whiskers or bands."
SCORED = [f"{short} {k}" for short in DIRECTIONS for k in RECALLS]
OPTIONAL = [  # columns that a table of one seed, one without costs and one of no published benchmark lack
    *(name for score in SCORED for name in (f"{score} std", f"paper {score}")),
    *rows_of.INTERVALS,
    *("paper training_gb", "paper ms", *rows_of.STAGE, *rows_of.MEASURED),
]


def apply() -> None:
    """Set what all plots look like."""
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "centerclip"  # equal ids, equal files
    sns.set_theme(context="paper", style="whitegrid", font_scale=1.1)


def read_table(table: Path, cells: Sequence[Path] = ()) -> pd.DataFrame:
    """A benchmark's table with all OPTIONAL columns, empty where it has none. Raises UserError for another file."""
    known = ["benchmark", "variant", "backbone", "frames", "trained", "baseline"]
    rows = rows_of.read_table(table, known, SCORED)
    return rows.reindex(columns=rows.columns.union(OPTIONAL, sort=False))


def panels(count: int, width: float, height: float, **shared: bool) -> tuple[Figure, list[Axes]]:
    """A figure, in inches, and its axes, side by side; `shared` are `sharex` and `sharey`."""
    figure, axes = plt.subplots(1, count, figsize=(width, height), squeeze=False, layout="constrained", **shared)
    return figure, list(axes[0])


def describe(figure: Figure, data: pd.DataFrame, title: str, *sentences: str) -> Figure:
    """Write a title above a figure of `data` and how to read it below; returns the figure."""
    figure.suptitle(f"{data['benchmark'].iloc[0]}: {title}")
    lines = textwrap.wrap(" ".join(filter(None, sentences)), int(14 * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), fontsize=9, color="0.3")
    return figure


def whiskers(table: pd.DataFrame, column: str) -> pd.DataFrame | pd.Series:
    """How far the whiskers of a recall reach: to its interval [2, rows] where the table has any, else its spread."""
    low, high = table[f"{column} low"], table[f"{column} high"]
    if low.isna().all():
        return table[f"{column} std"]
    return pd.DataFrame([table[column] - low, high - table[column]]).clip(lower=0)


def whiskers_note(table: pd.DataFrame) -> str:
    """What the `whiskers` are of; nothing without any."""
    return seeds_note(table) if table["t2v R@1 low"].isna().all() else QUERIES


def seeds_note(table: pd.DataFrame, note: str = SEEDS) -> str:
    """`note` if a variant of `table` has several seeds, else nothing."""
    return note if table["t2v R@1 std"].notna().any() else ""


def left_out(variants: Iterable[str], why: str) -> str:
    """A sentence on the variants that a plot does not show; nothing if it shows all."""
    names = ", ".join(sorted(variants))
    return names and f"Not shown, {why}: {names}."


def looks(variants: Iterable[str]) -> dict:
    """How seaborn tells variants apart: a colour and, for those who see none, a marker each."""
    order = list(dict.fromkeys(variants))
    colours, markers = (list(islice(cycle(signs), len(order))) for signs in (COLOURS, MARKERS))
    look = {"hue": "variant", "hue_order": order, "palette": colours}
    return look | {"style": "variant", "style_order": order, "markers": markers}


def join_legends(figure: Figure, labels: Iterable[str], *more: Line2D, title: str = "") -> None:
    """Put one legend to the right of the figure in place of those of its panels: `labels`, in order, then `more`."""
    named = {}
    for axes in figure.axes:
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if axes.get_legend():
            axes.get_legend().remove()
    handles = [named[label] for label in dict.fromkeys(labels) if label in named]
    figure.legend(handles=[*handles, *more], title=title, loc="outside right upper", frameon=False, alignment="left")


def rings(published: pd.DataFrame, x: str, axes: Axes, **look) -> None:
    """Draw hollow marks of published recalls over `x`, the first marks in `axes`; RING explains them."""
    if len(published):
        sns.scatterplot(published, x=x, y="recall", ax=axes, legend=False, **look)
        (marks,) = axes.collections
        marks.set(edgecolor=marks.get_facecolor(), facecolor="none", linewidth=1.6)
