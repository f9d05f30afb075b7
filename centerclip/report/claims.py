"""The rows of benchmarks' tables -> which of the paper's claims hold, each with its figures."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd

from centerclip.report.rows import CANDIDATES, MEASURED, RANDOM, ROLES, label, remarks
from centerclip.report.tables import AS_AUTHORS, MODEL, PAPER, TIMES, against_baseline, disturbed, grouped, joined

CLOSE = 1.0  # points of t2v R@1 within which a published number is met
LACKING = 0.02  # share of the published test videos without which recall is compared with the published one
SMALL = 0.05  # share of the encoder's time that is almost nothing
ONCE = " in one run"  # behind a verdict on the recall of a model that was trained once
VERDICTS = ("holds", f"holds{ONCE}", "fails", f"fails{ONCE}", "not run")


class Figure(NamedTuple):
    """A claim's numbers in words, whether it holds for them as shown, and whether they are of one training alone."""

    words: str
    holds: bool
    once: bool = False


def beside_baseline(rows: pd.DataFrame, column: str, largest: bool) -> tuple[pd.Series, pd.Series] | None:
    """The first baseline of one benchmark and backbone, and the clustering variant of its group with the best of
    `column`, of costs one measured on the same device; None where either is missing."""
    rows = rows.dropna(subset=column)
    rows = rows.assign(group=grouped(rows))
    baseline = rows[rows["baseline"]].head(1)
    same = ["group", "measured_on"] if column in MEASURED else ["group"]
    clustered = rows[rows["clustering"] & rows[same].isin(baseline[same].to_dict("list")).all(axis=1)]
    if clustered.empty:
        return None
    return baseline.iloc[0], clustered.sort_values(column, ascending=not largest, kind="stable").iloc[0]


def recall(rows: pd.DataFrame) -> list[Figure]:
    """R@1 of the baseline and of the clustering variant with the highest."""
    compared = beside_baseline(rows, "t2v R@1", largest=True)
    if not compared:
        return []
    before, after = (row["t2v R@1"] for row in compared)
    words = f"{before:.1f} -> {after:.1f}, {label(compared[1])}"
    return [Figure(words, round(after, 1) >= round(before, 1), any(map(trained_once, compared)))]


def trained_once(row: pd.Series) -> bool:
    """Whether the recall of a row is that of a single training; of a published one that is not known."""
    return row["trained"] and row.get("seeds", math.inf) < 2


def saving(rows: pd.DataFrame, column: str, unit: str) -> list[Figure]:
    """The cost `column` of the baseline and of the clustering variant with the lowest."""
    compared = beside_baseline(rows, column, largest=False)
    if not compared:
        return []
    before, after = (row[column] for row in compared)
    change = f" ({after / before - 1:+.0%})" if before else ""
    words = f"{before:.1f} -> {after:.1f} {unit}{change}, {compared[1]['variant']}"
    return [Figure(words, round(after, 1) < round(before, 1))]


def memory(rows: pd.DataFrame) -> list[Figure]:
    """The memory kept for the backward pass, and that of a training step on the GPU."""
    return saving(rows, "saved_mb", "MB saved for backward") + saving(rows, "training_gb", "GB on the GPU")


def share(rows: pd.DataFrame) -> list[Figure]:
    """The largest share of each algorithm."""
    timed = rows[rows["clustering"]].dropna(subset="clustering_share").sort_values("clustering_share")
    largest = timed.drop_duplicates("algorithm", keep="last").sort_values("algorithm")
    shares = zip(largest["clustering_share"], largest["variant"], strict=True)
    return [Figure(f"{part:.1%}, {name}", round(part, 3) <= SMALL) for part, name in shares]


CLAIMS: dict[str, Callable[[pd.DataFrame], list[Figure]]] = {
    "Clustering loses no recall: t2v R@1 of the best clustering variant is the baseline's or more.": recall,
    "Clustering saves memory in training (a video's, or a whole step's on the GPU).": memory,
    "Clustering saves time in encoding a video.": partial(saving, column="ms", unit="ms"),
    f"Clustering itself takes almost nothing: {SMALL:.0%} of that time or less.": share,
}


def outcome(figures: list[Figure]) -> list[str]:
    """The figures of a claim in words, and the verdict on it."""
    if not figures:
        return ["", "not run"]
    verdict = "holds" if all(figure.holds for figure in figures) else "fails"
    once = ONCE if any(figure.once for figure in figures) else ""
    return ["; ".join(figure.words for figure in figures), verdict + once]


def judged(claim: Callable, ours: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """`claim` on every benchmark and backbone of ours and of the paper's `models`."""
    keys = ["benchmark", "backbone"]
    here, paper = ({place: claim(rows) for place, rows in table.groupby(keys, sort=False)} for table in (ours, models))
    lines = [[*place, outcome(paper.get(place, []))[0], *outcome(here.get(place, []))] for place in here | paper]
    return pd.DataFrame(lines, columns=[*keys, "paper", "here", "verdict"])


def saved(ours: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """What each of the paper's clustering `models` saves of its baseline's memory and time, and what ours does; ours of
    the bytes saved for backward where no GPU was measured."""
    ours = ours[ours[PAPER["t2v R@1"]].notna()].drop_duplicates(MODEL)
    memory_here = against_baseline(ours, "training_gb").fillna(against_baseline(ours, "saved_mb"))
    here = ours[MODEL].assign(memory=memory_here, time=against_baseline(ours, "ms"))
    models = models.assign(memory=against_baseline(models, "training_gb"), time=against_baseline(models, "ms"))
    lines = []
    for _, row in models[models["clustering"]].merge(here, on=MODEL, how="left", suffixes=("", " here")).iterrows():
        for cost in ("memory", "time"):
            goal, ratio = row[cost], row[f"{cost} here"]
            if pd.notna(goal):
                figures = [] if pd.isna(ratio) else [Figure(f"{ratio - 1:+.0%}", round(ratio, 2) <= round(goal, 2))]
                lines.append([row["benchmark"], row["variant"], cost, f"{goal - 1:+.0%}", *outcome(figures)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "of", "paper", "here", "verdict"])


def comparable(ours: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ours`, a model each, whose recall compares with a published one: from pretrained weights, with at
    most LACKING of the published test videos missing."""
    few = ours["n_videos"].astype(float) < (1 - LACKING) * ours[CANDIDATES].astype(float)
    random = ours["weights"].astype(object) == RANDOM
    tested = ours[["t2v R@1", PAPER["t2v R@1"]]].notna().all(axis=1)
    return ours[tested & ~few & ~random].drop_duplicates(MODEL)


def met(ours: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """The t2v R@1 of each of the paper's `models` and ours, with ties counted as there, where ours is `comparable`."""
    further = comparable(ours)[[*MODEL, AS_AUTHORS["t2v R@1"], "seeds", "weights", "n_videos", CANDIDATES]]
    lines = []
    for _, row in models.merge(further, on=MODEL, how="left").iterrows():
        paper, here = row["t2v R@1"], row[AS_AUTHORS["t2v R@1"]]
        less = round(here - paper, 1)
        words = ", ".join([f"{here:.1f} ({less:+.1f})", *remarks(row)])
        figures = [] if pd.isna(here) else [Figure(words, abs(less) <= CLOSE, trained_once(row))]
        lines.append([row["benchmark"], row["variant"], f"{paper:.1f}", *outcome(figures)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "paper", "here", "verdict"])


def judgements(ours: pd.DataFrame, paper: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each claim with its table: what it is about, the paper's figures, those here, and the verdict.

    Args:
        ours: rows of tables of benchmarks, of which times of a busy machine do not count.
        paper: of `tables.read_paper`.
    """
    ours = joined([ours])
    ours.loc[disturbed(ours), TIMES] = None
    models = paper[paper["variant"].notna()]
    models = models[[*dict.fromkeys(["variant", "frames", *MODEL, *ROLES]), *PAPER.values()]]
    models = models.rename(columns={new: old for old, new in PAPER.items()})
    models = models.assign(saved_mb=None, clustering_share=None, measured_on=None)
    at_least = "A published model saves at least what it saved there of its baseline's memory and time."
    return {
        **{claim: judged(figures, ours, models) for claim, figures in CLAIMS.items()},
        f"A published model's t2v R@1 is met within {CLOSE:g} point.": met(ours, models),
        at_least: saved(ours, models),
    }
