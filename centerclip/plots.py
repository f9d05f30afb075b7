"""The table of a benchmark -> plots, png and svg."""

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from centerclip.stage import atomic, run

RECALLS = ["R@1", "R@5", "R@10"]
PANELS = {"t2v": "text to video", "v2t": "video to text"}


def recall(table: pd.DataFrame) -> Figure:
    """Bars of R@1, R@5, R@10 by variant, a panel a direction."""
    long = table.melt("variant", [f"{short} {k}" for short in PANELS for k in RECALLS], value_name="recall")
    long[["direction", "k"]] = long["variable"].str.split(" ", expand=True)
    long["direction"] = long["direction"].map(PANELS)
    grid = sns.catplot(
        long,
        kind="bar",
        x="k",
        y="recall",
        hue="variant",
        col="direction",
        palette="colorblind",
        height=3.6,
        aspect=1.15,
    )
    grid.set_axis_labels("", "recall (% of queries)").set_titles("{col_name}").set(ylim=(0, 106))
    sns.move_legend(grid, "upper left", bbox_to_anchor=(0.87, 0.85), title="")
    for axes in grid.axes.flat:
        for bars in axes.containers:
            axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=1)
    grid.figure.suptitle(f"{table['benchmark'].iloc[0]}: recall by variant", y=1.03)
    return grid.figure


def recall_vs_cost(table: pd.DataFrame) -> Figure:
    """Text-to-video R@1 against three costs of one video: operations, activation memory of training, time."""
    costs = {
        "gflops": "GFLOPs a video",
        "saved_mb": "saved for backward (MB a video)",
        "ms": "encoding time (ms a video)",
    }
    long = table.melt(["variant", "t2v R@1"], list(costs), var_name="cost", value_name="amount")
    long["cost"] = long["cost"].map(costs)
    grid = sns.relplot(
        long, x="amount", y="t2v R@1", hue="variant", style="variant", col="cost", s=110, palette="colorblind",
        height=3.3, aspect=0.95, facet_kws={"sharex": False},
    )  # fmt: skip
    top = 1.15 * max(table["t2v R@1"].max(), 1)
    for cost, axes in grid.axes_dict.items():
        axes.set(xlim=(0, 1.15 * long.loc[long["cost"] == cost, "amount"].max()), ylim=(-0.04 * top, top), xlabel=cost)
    grid.set_ylabels("text-to-video R@1 (% of queries)").set_titles("")
    sns.move_legend(grid, "upper left", bbox_to_anchor=(0.87, 0.85), title="")
    grid.figure.suptitle(f"{table['benchmark'].iloc[0]}: recall against cost (upper left is better)", y=1.03)
    return grid.figure


PLOTS = {plot.__name__: plot for plot in (recall, recall_vs_cost)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.plots", description=__doc__)
    parser.add_argument("plot", choices=PLOTS)
    parser.add_argument("--table", required=True, type=Path, help="a benchmark's table, csv")
    parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write; the suffix is the format")

    def job(arguments: argparse.Namespace) -> None:
        matplotlib.use("Agg")
        matplotlib.rcParams["svg.hashsalt"] = "centerclip"  # equal ids, equal files
        sns.set_theme(style="whitegrid")
        figure = PLOTS[arguments.plot](pd.read_csv(arguments.table))
        for path in arguments.out:
            with atomic(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], dpi=150, bbox_inches="tight")

    run(parser, job)


if __name__ == "__main__":
    main()
