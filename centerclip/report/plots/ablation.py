"""R@1, left axes, and memory or operations, right axes, over the setting in which the variants of a grid differ."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.report.plots import style
from centerclip.report.rows import labelled
from centerclip.settings.cell import Cell, read_cell

SETTINGS = {  # columns of a table that a grid may vary
    "block": "blocks before the clustering, B",
    "segments": "segments a video, S",
    "clusters": "tokens kept a segment, K",
    "frames": "frames a video",
}
ADDED = "stage "  # before the names of the columns that `read` adds


def read(table: Path, cells: Sequence[Path]) -> pd.DataFrame:
    """A benchmark's table with a column of text for each setting of its cells' first stages that it has none for."""
    settings = {cell.variant: further_settings(cell) for cell in map(read_cell, cells)}
    columns = pd.DataFrame.from_dict(settings, orient="index", dtype=object).add_prefix(ADDED)
    return style.read_table(table).join(columns, on="variant")


def further_settings(cell: Cell) -> dict[str, str]:
    """The settings of a cell's first stage, if it has any, that a table has no column for, as text."""
    settings = [{"keep": stage.keep, "embedding": stage.embedding} | stage.options for stage in cell.model.stages[:1]]
    return {name: json.dumps(value).strip('"') for of_stage in settings for name, value in of_stage.items()}


def draw(data: pd.DataFrame) -> Figure:
    """The plot of rows of `read`, the points of one grid."""
    data = labelled(data)
    settings = [*SETTINGS, *(column for column in data if column.startswith(ADDED))]
    setting = next((name for name in settings if data[name].nunique() > 1), "variant")
    label, data = SETTINGS.get(setting, setting.removeprefix(ADDED)), data.assign(value=data[setting])
    costs = [column for column in ("saved_mb", "gflops") if data[column].notna().any()]
    panels = costs or [None]  # recall alone
    figure, each = style.panels(len(panels), 4.8 * len(panels), 3.8)
    for axes, column in zip(each, panels, strict=True):
        sns.lineplot(data, x="value", y="t2v R@1", marker="o", markersize=8, color="black", ax=axes)
        axes.errorbar(data["value"], data["t2v R@1"], yerr=data["t2v R@1 std"], **style.WHISKERS)
        if column:
            right, look = axes.twinx(), {"marker": "s", "markersize": 8, "linestyle": "--", "color": style.COLOURS[3]}
            sns.lineplot(data, x="value", y=column, ax=right, **look)
            right.grid(False)
            right.set_ylabel(style.COST_LABELS[column], color=style.COLOURS[3])
        axes.set(xlabel=label, ylabel=style.R1, xticks=data["value"])
        axes.margins(0.08)
    return style.describe(
        figure, data, f"recall and cost over {label}" if costs else f"recall over {label}",
        f"From {data['variant'].iloc[0]} to {data['variant'].iloc[-1]} only this changes.",
        "Circles, solid line, left axis: recall, higher is better. Squares, dashed line, right axis: cost, lower is"
        " better." if costs else "Higher is better.",
        style.seeds_note(data),
    )  # fmt: skip
