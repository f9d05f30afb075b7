"""The rows of benchmarks' tables -> which of the paper's claims hold, each with its figures."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from centerclip.report.tables import MODEL, PAPER, PUBLISHED, ROLES, TIMES, against_baseline, disturbed

CLOSE = 1.0  # points of t2v R@1 within which a published number is met
SMALL = 0.05  # share of the encoder's time that is almost nothing
VERDICTS = ("holds", "fails", "not run")
Figure = tuple[str, bool]  # a claim's numbers in words, and whether it holds for them as shown


def beside_baseline(rows: pd.DataFrame, column: str, largest: bool) -> tuple[float, float, str] | None:
    """Of rows of one benchmark and backbone: `column` of the first baseline, as in the config, that of the best
    clustering variant of as many frames, and its name; None where either is missing."""
    rows = rows.dropna(subset=column)
    baseline = rows[rows["baseline"]].head(1)
    clustered = rows[rows["clustering"] & rows["frames"].isin(baseline["frames"])]
    if clustered.empty:
        return None
    best = clustered.sort_values(column, ascending=not largest, kind="stable").iloc[0]
    return baseline[column].iloc[0], best[column], best["variant"]


def recall(rows: pd.DataFrame) -> list[Figure]:
    """R@1 of the baseline and of the clustering variant with the highest."""
    compared = beside_baseline(rows, "t2v R@1", largest=True)
    if not compared:
        return []
    before, after, name = compared
    return [(f"{before:.1f} -> {after:.1f}, {name}", round(after, 1) >= round(before, 1))]


def saving(rows: pd.DataFrame, column: str, unit: str) -> list[Figure]:
    """The cost `column` of the baseline and of the clustering variant with the lowest."""
    compared = beside_baseline(rows, column, largest=False)
    if not compared:
        return []
    before, after, name = compared
    words = f"{before:.1f} -> {after:.1f} {unit} ({after / before - 1:+.0%}), {name}"
    return [(words, round(after, 1) < round(before, 1))]


def memory(rows: pd.DataFrame) -> list[Figure]:
    """The memory kept for the backward pass, and that of a training step on the GPU."""
    return saving(rows, "saved_mb", "MB saved for backward") + saving(rows, "training_gb", "GB on the GPU")


def share(rows: pd.DataFrame) -> list[Figure]:
    """The largest share of each algorithm."""
    timed = rows[rows["clustering"]].dropna(subset="clustering_share").sort_values("clustering_share")
    largest = timed.drop_duplicates("algorithm", keep="last").sort_values("algorithm")
    return [(f"{part:.1%}, {name}", round(part, 3) <= SMALL)
            for part, name in zip(largest["clustering_share"], largest["variant"], strict=True)]  # fmt: skip


CLAIMS: dict[str, Callable[[pd.DataFrame], list[Figure]]] = {
    "Clustering loses no recall: t2v R@1 of the best clustering variant is the baseline's or more.": recall,
    "Clustering saves memory in training (a video's, or a whole step's on the GPU).": memory,
    "Clustering saves time in encoding a video.": partial(saving, column="ms", unit="ms"),
    f"Clustering itself takes almost nothing: {SMALL:.0%} of that time or less.": share,
}


def outcome(figures: list[Figure]) -> tuple[str, str]:
    """The figures of a claim in words, and the verdict on it."""
    verdict = "not run" if not figures else "holds" if all(held for _, held in figures) else "fails"
    return "; ".join(words for words, _ in figures), verdict


def judged(claim: Callable, ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """`claim` on every benchmark and backbone of ours and of the paper's rows."""
    keys = ["benchmark", "backbone"]
    here = {place: claim(rows) for place, rows in ours.groupby(keys, sort=False)}
    published = {place: claim(rows) for place, rows in paper.groupby(keys, sort=False)}
    lines = []
    for place in here | published:
        words, _ = outcome(published.get(place, []))
        lines.append([*place, words, *outcome(here.get(place, []))])
    return pd.DataFrame(lines, columns=[*keys, "paper", "here", "verdict"])


def saved(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """What every published clustering model saves of its baseline's memory and time, and what ours does; ours of the
    bytes saved for backward where no GPU was measured."""
    ours = ours[ours[PAPER["t2v R@1"]].notna()].drop_duplicates(MODEL)
    memory_here = against_baseline(ours, "training_gb").fillna(against_baseline(ours, "saved_mb"))
    here = ours[MODEL].assign(memory=memory_here, time=against_baseline(ours, "ms"))
    published = paper.assign(memory=against_baseline(paper, "training_gb"), time=against_baseline(paper, "ms"))
    published = published[published["clustering"]]
    lines = []
    for _, row in published.merge(here, on=MODEL, how="left", suffixes=("", " here")).iterrows():
        for cost in ("memory", "time"):
            goal, ratio = row[cost], row[f"{cost} here"]
            if pd.notna(goal):
                figures = [] if pd.isna(ratio) else [(f"{ratio - 1:+.0%}", round(ratio, 2) <= round(goal, 2))]
                model = [row["benchmark"], row["variant"], cost, f"{goal - 1:+.0%}"]
                lines.append([*model, *outcome(figures)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "of", "paper", "here", "verdict"])


def met(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Every published model's t2v R@1 and ours, ties counted as there."""
    ours = ours[ours[PAPER["t2v R@1"]].notna()].drop_duplicates(MODEL)[[*MODEL, PUBLISHED["t2v R@1"]]]
    lines = []
    for _, row in paper.merge(ours, on=MODEL, how="left").iterrows():
        published, here = row["t2v R@1"], row[PUBLISHED["t2v R@1"]]
        less = round(here - published, 1)
        figures = [] if pd.isna(here) else [(f"{here:.1f} ({less:+.1f})", abs(less) <= CLOSE)]
        lines.append([row["benchmark"], row["variant"], f"{published:.1f}", *outcome(figures)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "paper", "here", "verdict"])


def judgements(ours: pd.DataFrame, paper: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each claim with its table: what it is about, the paper's figures, those here, and the verdict.

    Args:
        ours: rows of tables of benchmarks, `tables.typed`; times of a busy machine count as not measured.
        paper: of `tables.read_paper`.
    """
    ours = ours.copy()
    ours.loc[disturbed(ours), [*TIMES, "clustering_share"]] = None
    published = paper[paper["variant"].notna()]
    published = published[[*dict.fromkeys(["variant", "frames", *MODEL, *ROLES]), *PAPER.values()]]
    published = published.rename(columns={new: old for old, new in PAPER.items()})
    published = published.assign(saved_mb=None, clustering_share=None)
    at_least = "A published model saves at least what it saved there of its baseline's memory and time."
    return {
        **{claim: judged(figures, ours, published) for claim, figures in CLAIMS.items()},
        f"A published model's t2v R@1 is met within {CLOSE:g} point.": met(ours, published),
        at_least: saved(ours, published),
    }
