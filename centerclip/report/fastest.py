"""Find each method's fastest setting that keeps enough of the baseline's recall."""

import pandas as pd

from centerclip.report.beside_paper import marked
from centerclip.report.documents import Document, Table
from centerclip.report.rows import DIFFERENCE, R1, disturbed, label
from centerclip.report.tables import GROUP

KEPT = (0.99, 0.999)  # shares of the baseline's R@1
COSTS = {"batch_ms": "time", "gflops": "operations"}  # column -> what it is
COMPARED = [*GROUP, "measured_on"]  # what models share with their baseline


def cost(rows: pd.DataFrame) -> str:
    """The column of COSTS by which `rows` are ranked: the time of a video in the best batch if all times are of one
    quiet device, else the operations."""
    timed = rows["batch_ms"].notna().all() and rows["measured_on"].nunique() == 1 and not disturbed(rows).any()
    return "batch_ms" if timed else "gflops"


def shares_of_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """The trained rows of a table that have a baseline and costs, with `kept`, the share of the first baseline's R@1,
    `cost`, the share of its cost, and `of`, which of COSTS that is."""
    measured = table[table["trained"]].dropna(subset=[R1, "gflops"])
    compared = [measured[:0]]
    for _, rows in measured.groupby(COMPARED, sort=False):
        for index, first in rows[rows["baseline"]].head(1).iterrows():
            column = cost(rows)
            shares = {"kept": rows[R1] / first[R1], "cost": rows[column] / first[column], "of": COSTS[column]}
            compared.append(rows.assign(**shares).drop(index=index))
    return pd.concat(compared)


def fastest(compared: pd.DataFrame, share: float) -> pd.DataFrame:
    """For each method, the cheapest row of `shares_of_baseline` that keeps at least `share`, sorted by cost. Methods
    without such a row follow, with a row without a variant."""
    keys = [*COMPARED, "backbone", "method"]
    enough = compared[compared["kept"] >= share].sort_values("cost", kind="stable").drop_duplicates(keys)
    return compared[keys].drop_duplicates().merge(enough, on=keys, how="left").sort_values("cost", kind="stable")


def document(table: pd.DataFrame) -> Document:
    """A line for each method of a benchmark's table and each of KEPT, and an explanation. Nothing without costs."""
    compared, lines = shares_of_baseline(table), []
    if compared.empty:
        return []
    for share in KEPT:
        for _, row in fastest(compared, share).iterrows():
            line = {"keeps": f"{100 * share:g} %", "method": row["method"], "backbone": row["backbone"]}
            line |= {"fastest setting": "none", "measured on": row["measured_on"]}
            if pd.notna(row["variant"]):
                line |= {
                    "fastest setting": label(row),
                    R1: marked(row, R1),
                    "less the baseline's": marked(row, DIFFERENCE),
                    "of the baseline's": f"{row['kept']:.1%}",
                    "cost": f"{row['cost']:.2f} of the {row['of']}",
                }
            lines.append(line)
    by = " and ".join(compared["of"].unique())
    return [
        "The fastest setting of each method that keeps at least this share of the baseline's text-to-video R@1."
        f" Settings are ranked by {by}. Time is that of a video in the best batch; where times are not all of one quiet"
        " device, operations are ranked.",
        Table(pd.DataFrame(lines).fillna(""), 5),
    ]
