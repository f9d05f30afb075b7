"""Functions that the plots share: their style, the findings in their titles, and reading a table."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from centerclip.report import rows as rows_of
from centerclip.report.rows import DIFFERENCE

DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
RECALLS = {"R@1": ("0.45", "o"), "R@5": ("0.7", "s"), "R@10": ("0.88", "D")}  # shade of the bar, published marker
R1 = "text-to-video R@1 (% of queries)"
COST_LABELS = {
    "saved_mb": "memory kept for the\nbackward pass (MB / video)",
    "training_gb": "GPU memory of training\n(GB)",
    "gflops": "operations\n(GFLOPs / video)",
    "ms": "time to encode\n(ms / video)",
    "clustering_share": "share of that time\nthat reduces tokens (%)",
}
# Each method has its own colour and marker in every plot. A name is a method and, after a hyphen, its settings.
METHODS = (
    *("baseline", "kmedoids", "spectral", "pooling", "sparse_sampling", "tome", "tempme", "dpc_knn", "hpool", "evit"),
    *("rlt", "random", "first", "norm", "frames", "pixels", "temporal_shift", "token_shift", "pitome", "zeroshot"),
)
COLOURS = [colour for number, colour in enumerate(sns.color_palette("colorblind")) if number not in (6, 8)]  # not pale
MARKERS = [*"osD^vPX<>d*p", (4, 1, 0), (6, 1, 0), (3, 1, 0), (8, 1, 0), *"hH8", (5, 1, 36)]
LINESTYLES = ["-", "--", "-.", ":"]
PALEST = 0.9  # share of white in the colour of a method's last setting
NAMED = 5  # variants that a sentence names at most
RING = Line2D([], [], linestyle="", marker="o", color="black", markerfacecolor="none", label="hollow: published")
WHISKERS = {"fmt": "none", "ecolor": "black", "capsize": 2}
QUERIES = (
    "Whiskers: the 95 % interval over queries. The table has the intervals of differences, which are narrower because"
    " all models answer the same queries."
)
SEEDS = "With several seeds: the mean, and one standard deviation as whiskers or bands."
MEANS = "With several seeds: the mean."
SCORED = [f"{short} {k}" for short in DIRECTIONS for k in RECALLS]
OPTIONAL = [  # columns that a table of one seed, one without costs and one of no published benchmark lack
    *(name for score in SCORED for name in (f"{score} std", f"paper {score}")),
    *rows_of.INTERVALS,
    *("paper training_gb", "paper ms", "weights", "n_videos", *rows_of.STAGE, *rows_of.MEASURED),
]


def apply() -> None:
    """Set the style of all plots."""
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "centerclip"  # equal ids, equal files
    sns.set_theme(context="paper", style="whitegrid", font_scale=1.1)


def read_table(table: Path, cells: Sequence[Path] = ()) -> pd.DataFrame:
    """A benchmark's table with all OPTIONAL columns, empty where the file lacks them. Raises UserError for another
    file."""
    filled = ["benchmark", "variant", "group", "backbone", "frames", "trained", "baseline"]
    rows = rows_of.read_table(table, filled, SCORED)
    return rows.reindex(columns=rows.columns.union(OPTIONAL, sort=False))


def labelled(data: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """`data` with labels in place of its variants, and a sentence on remarks that hold for all of them."""
    if (data["weights"] == rows_of.RANDOM).all():
        return rows_of.labelled(data.assign(weights=None)), "All models start from random weights."
    return rows_of.labelled(data), ""


def panels(count: int, width: float, height: float, **shared: bool) -> tuple[Figure, list[Axes]]:
    """A figure, in inches, and its axes, side by side; `shared` are `sharex` and `sharey`."""
    figure, axes = plt.subplots(1, count, figsize=(width, height), squeeze=False, layout="constrained", **shared)
    return figure, list(axes[0])


def describe(figure: Figure, data: pd.DataFrame, title: str, *sentences: str) -> Figure:
    """Write a title above a figure of `data` and how to read it below; returns the figure."""
    width = figure.get_figwidth()
    lines = textwrap.wrap(f"{data['benchmark'].iloc[0]}: {title}", int(10 * width))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=12)
    lines = textwrap.wrap(" ".join(filter(None, sentences)), int(14 * width))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9, color="0.3")
    return figure


def finding(data: pd.DataFrame) -> str:
    """A sentence on R@1 of a table's trained rows compared with their baselines; empty if no interval is known."""
    rows = data[data["trained"] & data[DIFFERENCE].notna()]
    told = rows[DIFFERENCE].abs() > rows[f"{DIFFERENCE} half"]
    if len(rows) and not told.any():
        return "no difference in R@1 to the baseline is larger than its 95 % interval"
    above, below = (rows.loc[told & side, "variant"] for side in (rows[DIFFERENCE] > 0, rows[DIFFERENCE] < 0))
    parts = [
        f"R@1 is higher than the baseline's with {listed(above)}" if len(above) else "",
        f"R@1 is lower than the baseline's with {listed(below)}" if len(below) else "",
        f"{(~told).sum()} more cannot be told apart from it" if (~told).any() else "",
    ]
    return "; ".join(filter(None, parts))


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence, or their number."""
    *first, last = names
    if len(first) >= NAMED:
        return f"{len(first) + 1} variants"
    return f"{', '.join(first)} and {last}" if first else last


def between(values: pd.Series, numbers: str = ".0f") -> str:
    """The smallest and the largest value, or the only value."""
    ends = dict.fromkeys(f"{end:{numbers}}" for end in (values.min(), values.max()))
    return " to ".join(ends)


def whiskers(table: pd.DataFrame, column: str) -> pd.DataFrame | pd.Series:
    """The lengths of the whiskers of a recall: to its interval [2, rows] if the table has any, else its spread."""
    low, high = table[f"{column} low"], table[f"{column} high"]
    if low.isna().all():
        return table[f"{column} std"]
    return pd.DataFrame([table[column] - low, high - table[column]]).clip(lower=0)


def whiskers_note(table: pd.DataFrame) -> str:
    """The meaning of the `whiskers`; empty without whiskers."""
    if table["t2v R@1 low"].isna().all():
        return seeds_note(table)
    return f"{QUERIES} {seeds_note(table, MEANS)}".rstrip()


def seeds_note(table: pd.DataFrame, note: str = SEEDS) -> str:
    """`note` if a variant of `table` has several seeds, else nothing."""
    return note if table["t2v R@1 std"].notna().any() else ""


def left_out(variants: Iterable[str], why: str) -> str:
    """A sentence on the variants that a plot does not show; nothing if it shows all."""
    names = ", ".join(sorted(variants))
    return names and f"Not shown, {why}: {names}."


def looks(variants: Iterable[str]) -> dict[str, dict]:
    """{variant: options of matplotlib's `plot`}: a colour, a marker and a line style for each method; further settings
    of the same method are lighter, each another tint."""
    method_of = {variant: re.match("[^- (]*", variant)[0] for variant in variants}
    methods, found = list(dict.fromkeys([*METHODS, *method_of.values()])), {}
    for variant, method in method_of.items():
        settings = [name for name, other in method_of.items() if other == method]
        number, tint = methods.index(method), PALEST * settings.index(variant) / max(3, len(settings) - 1)
        found[variant] = {
            "color": tuple(tint + (1 - tint) * np.array(to_rgb(COLOURS[number % len(COLOURS)]))),
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINESTYLES[number // len(COLOURS) % len(LINESTYLES)],
            "label": variant,
            "markeredgecolor": "black",
            "markeredgewidth": 0.5,
            "markersize": 7,
        }
    return found


def marks(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: dict, hollow: bool = False) -> None:
    """Draw the mark of each variant of `rows`, by `looks`; hollow ones are published."""
    for row in rows.to_dict("records"):
        options = look[row["variant"]] | {"linestyle": ""}
        if hollow:
            options |= {"markerfacecolor": "none", "markeredgecolor": options["color"], "markeredgewidth": 1.6}
        axes.plot(row[x], row[y], **options, zorder=3 if hollow else 2.5)


def add_legend(figure: Figure, handles: Iterable[Artist], title: str = "") -> None:
    """Put one legend to the right of all panels; the figure grows until it is as high."""
    handles = list(handles)
    figure.set_figheight(max(figure.get_figheight(), 1.6 + 0.23 * len(handles)))
    figure.legend(handles=handles, title=title, loc="outside right center", frameon=False, alignment="left")


def legend_of(look: dict, *more: Line2D, lines: bool = True) -> list[Line2D]:
    """The handles of `looks`, then `more`."""
    return [*(Line2D([], [], **options | ({} if lines else {"linestyle": ""})) for options in look.values()), *more]


def numbers(axes: Axes, places: Iterable[float], texts: Iterable[str], head: str = "") -> None:
    """Write a text to the right of the axes at each place of a vertical axis, and `head` above them."""
    options = {"va": "center", "fontsize": 8, "family": "monospace", "textcoords": "offset points"}
    for place, text in zip(places, texts, strict=True):
        axes.annotate(text, (1, place), (4, 0), xycoords=("axes fraction", "data"), **options)
    if head:
        axes.annotate(head, (1, 1), (4, 8), xycoords="axes fraction", **options)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of horizontal bars, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False)
