"""Plot loss and R@1 of both directions over epochs; for several seeds, the mean and its standard deviation."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from centerclip.command import UserError, read_json
from centerclip.report.plots import style
from centerclip.report.rows import RANDOM, checked, naming
from centerclip.settings.cell import read_cell

AT_MOST = 5  # variants with bands: more would hide each other


def read(table: Path | None, cells: Sequence[Path]) -> pd.DataFrame:
    """A row for each epoch of each cell, or a row without numbers for an untrained cell: benchmark, variant, epoch,
    loss, R@1. `table` is not read."""
    rows, numbers = [], ["epoch", "loss", *style.DIRECTIONS]
    for path in cells:
        cell = read_cell(path)
        model = {"benchmark": cell.benchmark, "variant": cell.variant, "trained": cell.trained}
        model["weights"] = cell.model.weights or RANDOM
        with naming(path, "the results of a cell"):
            training = read_json(path)["training"]
            of_cell = [model | numbers_of(epoch) for epoch in (training["epochs"] if training else [])] or [model]
        rows.append(checked(pd.DataFrame(of_cell), path, ["benchmark", "variant"]))
    return pd.concat(rows, ignore_index=True).reindex(columns=[*model, *numbers])


def numbers_of(epoch: dict) -> dict:
    """The numbers of an epoch of a result that the plot shows."""
    recalls = {short: epoch[name.replace(" ", "_")]["R@1"] for short, name in style.DIRECTIONS.items()}
    return {"epoch": epoch["epoch"], "loss": epoch["loss"]} | recalls


def draw(data: pd.DataFrame) -> Figure:
    """Draw epochs, rows of `read`."""
    data, note = style.labelled(data)
    shown = data.dropna(subset="epoch")
    if shown.empty:
        raise UserError("a trained variant")
    look = style.looks(shown["variant"])
    recalls = {short: f"{direction} R@1 (% of queries)" for short, direction in style.DIRECTIONS.items()}
    several, bands = shown.duplicated(["variant", "epoch"]).any(), len(look) <= AT_MOST
    figure, each = style.panels(3, 11.4, 4.8)
    falling = 0
    for axes, (column, label) in zip(each, {"loss": "training loss (nats)", **recalls}.items(), strict=True):
        for variant, rows in shown.groupby("variant", sort=False):
            epochs = rows.groupby("epoch")[column]
            mean, spread = epochs.mean(), epochs.std()
            axes.plot(mean.index, mean, **look[variant])
            if bands:
                color = look[variant]["color"]
                axes.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
            falling += column == "loss" and (mean.iloc[-1] < mean.iloc[:-1]).all()
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.add_legend(figure, style.legend_of(look))
    seeds = style.SEEDS if bands else style.MEANS
    return style.describe(
        figure, data, f"the loss is lowest after the last epoch for {falling} of {len(look)} variants",
        "Left: lower is better. Middle and right, on the test split after each epoch: higher is better.",
        seeds if several else "",
        note,
        style.left_out(set(data["variant"]) - set(shown["variant"]), "untrained"),
    )  # fmt: skip
