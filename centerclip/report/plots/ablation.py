"""Plot R@1 on the left axes, and memory or operations on the right axes, over the setting that a grid changes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from centerclip.report.plots import style
from centerclip.settings.cell import Cell, read_cell

SETTINGS = {  # columns of a table that a grid may vary
    "block": "blocks before the clustering, B",
    "segments": "segments a video, S",
    "clusters": "tokens kept a segment, K",
    "frames": "frames a video",
}
ADDED = "stage "  # before the names of the columns that `read` adds


def read(table: Path, cells: Sequence[Path]) -> pd.DataFrame:
    """A benchmark's table with a column of text for each further setting of its cells' first stages."""
    settings = {cell.variant: further_settings(cell) for cell in map(read_cell, cells)}
    columns = pd.DataFrame.from_dict(settings, orient="index", dtype=object).add_prefix(ADDED)
    return style.read_table(table).join(columns, on="variant")


def further_settings(cell: Cell) -> dict[str, str]:
    """The settings of a cell's first stage, if it has any, that a table has no column for, as text."""
    settings = [{"keep": stage.keep, "embedding": stage.embedding} | stage.options for stage in cell.model.stages[:1]]
    return {name: json.dumps(value).strip('"') for of_stage in settings for name, value in of_stage.items()}


def draw(data: pd.DataFrame) -> Figure:
    """Draw the points of one grid, rows of `read`."""
    data, note = style.labelled(data)
    settings = [*SETTINGS, *(column for column in data if column.startswith(ADDED))]
    setting = next((name for name in settings if data[name].nunique() > 1), "variant")
    label = SETTINGS.get(setting, setting.removeprefix(ADDED))
    data = data.sort_values(setting, kind="stable") if setting in SETTINGS else data
    values = data[setting]
    costs = [column for column in ("saved_mb", "gflops") if data[column].notna().any()]
    panels = costs or [None]  # recall alone
    figure, each = style.panels(len(panels), 4.8 * len(panels), 4.2)
    for axes, column in zip(each, panels, strict=True):
        axes.plot(values, data["t2v R@1"], "o-", color="black", markersize=8, zorder=3)
        axes.errorbar(values, data["t2v R@1"], yerr=style.whiskers(data, "t2v R@1"), **style.WHISKERS)
        if column:
            right, colour = axes.twinx(), style.COLOURS[3]
            right.plot(values, data[column], "s--", color=colour, markersize=8)
            right.grid(False)
            right.set_ylabel(style.COST_LABELS[column], color=colour)
            right.margins(0.08)
            axes.set_zorder(right.get_zorder() + 1)  # recall in front of cost
            axes.patch.set_visible(False)
            axes.grid(False)
        axes.set(xlabel=label, ylabel=style.R1, xticks=values.dropna())
        axes.margins(0.08)
    return style.describe(
        figure, data, finding(data, values, label),
        f"From {data['variant'].iloc[0]} to {data['variant'].iloc[-1]} only this changes.",
        "Circles, solid line, left axis: recall, higher is better. Squares, dashed line, right axis: cost, lower is"
        " better." if costs else "Higher is better.",
        style.whiskers_note(data),
        note,
    )  # fmt: skip


def finding(data: pd.DataFrame, values: pd.Series, label: str) -> str:
    """A sentence on whether the intervals of the highest and the lowest R@1 are apart."""
    score, lower, upper = (data[f"t2v R@1{end}"] for end in ("", " low", " high"))
    best, worst = score.idxmax(), score.idxmin()
    spread = f"{score[best] - score[worst]:.1f} points of R@1"
    if pd.isna(lower[best]) or pd.isna(upper[worst]):
        return f"recall over {label}: {spread} from the lowest to the highest"
    if lower[best] > upper[worst]:
        high, low = (value if isinstance(value, str) else f"{value:g}" for value in values[[best, worst]])
        return f"R@1 is higher at {high} than at {low} {label}, by {spread.split()[0]} points"
    return f"{spread} from the lowest to the highest {label}; their 95 % intervals overlap"
