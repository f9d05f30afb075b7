"""Loss and both directions' R@1 by epoch; of several seeds the mean and its standard deviation."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from centerclip.command import read_json
from centerclip.report.plots import style
from centerclip.report.rows import RANDOM, checked, labelled, naming
from centerclip.settings.cell import read_cell


def read(table: Path | None, cells: Sequence[Path]) -> pd.DataFrame:
    """A row an epoch of each cell, one without numbers if untrained: benchmark, variant, epoch, loss, R@1. `table` is
    not read."""
    rows, numbers = [], ["epoch", "loss", *style.DIRECTIONS]
    for path in cells:
        cell, model = read_cell(path), None
        model = {"benchmark": cell.benchmark, "variant": cell.variant, "trained": cell.trained}
        model["weights"] = cell.model.weights or RANDOM
        with naming(path, "the results of a cell"):
            training = read_json(path)["training"]
            of_cell = [model | numbers_of(epoch) for epoch in (training["epochs"] if training else [])] or [model]
        rows.append(checked(pd.DataFrame(of_cell), path, ["benchmark", "variant"]))
    return pd.concat(rows, ignore_index=True).reindex(columns=[*model, *numbers])


def numbers_of(epoch: dict) -> dict:
    """What is drawn of an epoch of a result."""
    recalls = {short: epoch[name.replace(" ", "_")]["R@1"] for short, name in style.DIRECTIONS.items()}
    return {"epoch": epoch["epoch"], "loss": epoch["loss"]} | recalls


def draw(data: pd.DataFrame) -> Figure:
    """The plot of epochs as `read` gives them."""
    data = labelled(data)
    shown = data.dropna(subset="epoch")
    recalls = {short: f"{direction} R@1 (% of queries)" for short, direction in style.DIRECTIONS.items()}
    look = style.looks(shown["variant"]) | style.LINES | {"errorbar": "sd"}
    figure, each = style.panels(3, 10.8, 4.2)
    for axes, (column, label) in zip(each, {"loss": "training loss (nats)", **recalls}.items(), strict=True):
        sns.lineplot(shown, x="epoch", y=column, ax=axes, **look)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.join_legends(figure, shown["variant"])
    return style.describe(
        figure, data, "training",
        "Left: lower is better. Middle and right, on the test split after each epoch: higher is better.",
        style.SEEDS if shown.duplicated(["variant", "epoch"]).any() else "",
        style.left_out(set(data["variant"]) - set(shown["variant"]), "untrained"),
    )  # fmt: skip
