"""The paper's claims and their figures, each judged by the rows of the benchmarks' tables."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from centerclip.evaluate.statistics import enough, seeds_half
from centerclip.report.rows import CANDIDATES, DIFFERENCE, MEASURED, R1, RANDOM, disturbed, label, remarks, too_few
from centerclip.report.tables import AS_AUTHORS, MODEL, PAPER, TIMES, against_baseline, joined

POINTS = (0.5, 1, 2, 3)  # tolerances of t2v R@1 at which the summary counts the published numbers that are met
SMALL = 0.05  # share of the encoder's time that is almost nothing
ONCE = "one run"  # behind a verdict on the recall of a model that was trained once
NO_INTERVAL = "no interval"  # behind a verdict on a recall without ranks
VERDICTS = ("holds", "cannot be told", "fails", "not run")  # how a verdict begins; of several, the last one counts
JUDGED = {True: "holds", False: "fails"}


class Figure(NamedTuple):
    """A claim's numbers in words, one of VERDICTS on them, and a remark `behind` it."""

    words: str
    verdict: str
    behind: str = ""


def figure(words: str, margin: float, half: float = 0.0, marks: Sequence[str] = (), **counts: float) -> Figure:
    """The Figure of a number that is on the right side of its bound by `margin`, with `half` its 95 % interval.

    Where the bound lies in the interval, the words say how many in place of `counts`, queries=480, would tell.
    """
    behind = f" ({', '.join(marks)})" if marks else ""
    if abs(margin) >= half:
        return Figure(words, JUDGED[margin >= 0], behind)
    needed = enough(margin, half, *counts.values())
    words += f"; {counted(counts, needed)} would tell" if needed else ""
    return Figure(words, "cannot be told", f" at {counted(counts, counts.values())}{behind}")


def counted(nouns: Iterable[str], numbers: Iterable[float]) -> str:
    """5,200 queries, 33 seeds"""
    return ", ".join(f"{number:,.0f} {noun}" for noun, number in zip(nouns, numbers, strict=True))


def best_clustering(rows: pd.DataFrame, column: str, largest: bool) -> tuple[pd.Series, pd.Series] | None:
    """The first baseline of a benchmark and backbone, and the clustering variant of its group with the best value of
    `column`, whose `rivals` is the number of clustering variants. For costs, both were measured on the same device.
    None if one is missing."""
    rows = rows.dropna(subset=column)
    baseline = rows[rows["baseline"]].head(1)
    same = ["group", "measured_on"] if column in MEASURED else ["group"]
    clustered = rows[rows["clustering"] & rows[same].isin(baseline[same].to_dict("list")).all(axis=1)]
    if clustered.empty:
        return None
    clustered = clustered.assign(rivals=len(clustered))
    return baseline.iloc[0], clustered.sort_values(column, ascending=not largest, kind="stable").iloc[0]


def recall(rows: pd.DataFrame, tolerance: float) -> list[Figure]:
    """R@1 of the baseline and of the best clustering variant, which may be lower by `tolerance`."""
    compared = best_clustering(rows, R1, largest=True)
    if not compared:
        return []
    before, after = (round(row[R1], 1) for row in compared)
    words, model, marks = f"{before} -> {after}", compared[1], once(*compared)
    if pd.isna(model[DIFFERENCE]):
        return [figure(f"{words}, {label(model)}", round(after - before, 1) + tolerance, marks=[*marks, NO_INTERVAL])]
    words += f" ({difference(model)}), {label(model)}"
    return [figure(words, model[DIFFERENCE] + tolerance, model[f"{DIFFERENCE} half"], marks, **sample(model))]


def difference(row: pd.Series) -> str:
    """The difference between a row and its baseline, and half its interval over queries and seeds, such as +0.8 ±
    2.1."""
    return f"{row[DIFFERENCE]:+.1f} ± {row[f'{DIFFERENCE} half']:.1f}"


def sample(row: pd.Series) -> dict[str, float]:
    """The numbers of queries and, if there are several, of seeds behind the difference between a row and its
    baseline."""
    seeds = row[f"{DIFFERENCE} seeds"]
    return {"queries": row["n_texts"]} | ({"seeds": seeds} if seeds > 1 else {})


def once(*rows: pd.Series) -> list[str]:
    """The mark ONCE if a recall of `rows`, or its difference, comes from one training. Published rows do not tell."""
    counts = [row.get(seeds, math.nan) for row in rows if row["trained"] for seeds in ("seeds", f"{DIFFERENCE} seeds")]
    return [ONCE] if any(count < 2 for count in counts) else []


def saving(rows: pd.DataFrame, column: str, unit: str) -> list[Figure]:
    """The cost `column` of the baseline and of the clustering variant with the lowest."""
    compared = best_clustering(rows, column, largest=False)
    if not compared:
        return []
    before, after = (row[column] for row in compared)
    change = f" ({after / before - 1:+.0%})" if before else ""
    words = f"{before:.1f} -> {after:.1f} {unit}{change}, {compared[1]['variant']}"
    return [Figure(words, JUDGED[round(after, 1) < round(before, 1)])]


def memory(rows: pd.DataFrame) -> list[Figure]:
    """The memory kept for the backward pass, and that of a training step on the GPU."""
    return saving(rows, "saved_mb", "MB saved for backward") + saving(rows, "training_gb", "GB on the GPU")


def share(rows: pd.DataFrame) -> list[Figure]:
    """The largest share of the encoding time that each algorithm takes."""
    timed = rows[rows["clustering"]].dropna(subset="clustering_share").sort_values("clustering_share")
    largest = timed.drop_duplicates("algorithm", keep="last").sort_values("algorithm")
    shares = zip(largest["clustering_share"], largest["variant"], strict=True)
    return [Figure(f"{part:.1%}, {name}", JUDGED[round(part, 3) <= SMALL]) for part, name in shares]


def points(number: float) -> str:
    """1 point, 0.5 points"""
    return f"{number:g} point{'s' * (number != 1)}"


def outcome(figures: list[Figure]) -> list[str]:
    """The figures of a claim in words, and the verdict on it."""
    if not figures:
        return ["", "not run"]
    last = max(figures, key=lambda figure: VERDICTS.index(figure.verdict))
    return ["; ".join(figure.words for figure in figures), last.verdict + last.behind]


def judged(claim: Callable, ours: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """The verdict of `claim` on each of our benchmarks and backbones, with the paper's `models`."""
    keys = ["benchmark", "backbone"]
    here, paper = ({place: claim(rows) for place, rows in table.groupby(keys, sort=False)} for table in (ours, models))
    lines = [[*place, outcome(paper.get(place, []))[0], *outcome(here.get(place, []))] for place in here | paper]
    return pd.DataFrame(lines, columns=[*keys, "paper", "here", "verdict"])


def saved(ours: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """The memory and time that each of the paper's clustering `models` saves of its baseline's, and that ours saves.
    Without a GPU measurement, memory is the bytes saved for backward."""
    ours = ours[ours[PAPER[R1]].notna()].drop_duplicates(MODEL)
    memory_here = against_baseline(ours, "training_gb").fillna(against_baseline(ours, "saved_mb"))
    here = ours[MODEL].assign(memory=memory_here, time=against_baseline(ours, "ms"))
    models = models.assign(memory=against_baseline(models, "training_gb"), time=against_baseline(models, "ms"))
    lines = []
    for _, row in models[models["clustering"]].merge(here, on=MODEL, how="left", suffixes=("", " here")).iterrows():
        for cost in ("memory", "time"):
            goal, ratio = row[cost], row[f"{cost} here"]
            if pd.notna(goal):
                found = Figure(f"{ratio - 1:+.0%}", JUDGED[round(ratio, 2) <= round(goal, 2)])
                told = outcome([found] if pd.notna(ratio) else [])
                lines.append([row["benchmark"], row["variant"], cost, f"{goal - 1:+.0%}", *told])
    return pd.DataFrame(lines, columns=["benchmark", "model", "of", "paper", "here", "verdict"])


def comparable(ours: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ours`, one for each model, whose recall can be compared with a published one: from pretrained
    weights, and not on `too_few` videos. `less`: our t2v R@1, with ties counted as published, minus the published
    one."""
    random = ours["weights"].astype(object) == RANDOM
    tested = ours[[R1, PAPER[R1]]].notna().all(axis=1)
    ours = ours[tested & ~too_few(ours) & ~random].drop_duplicates(MODEL).copy()
    return ours.assign(less=(ours[AS_AUTHORS[R1]] - ours[PAPER[R1]]).round(1))


def met(ours: pd.DataFrame, models: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """The t2v R@1 of each of the paper's `models` and ours, where ours is `comparable`. Both answer the same queries,
    so that only training is chance."""
    further = [*MODEL, "less", AS_AUTHORS[R1], f"{R1} std", "seeds", "weights", "n_videos", CANDIDATES]
    lines = []
    for _, row in models[["variant", R1, *MODEL]].merge(comparable(ours)[further], on=MODEL, how="left").iterrows():
        words = ", ".join([f"{row[AS_AUTHORS[R1]]:.1f} ({row['less']:+.1f})", *remarks(row)])
        margin, half = tolerance - abs(row["less"]), seeds_half(row[f"{R1} std"], row["seeds"])
        found = [figure(words, margin, half, once(row), seeds=row["seeds"])] if pd.notna(row["less"]) else []
        lines.append([row["benchmark"], row["variant"], f"{row[R1]:.1f}", *outcome(found)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "paper", "here", "verdict"])


def met_within(ours: pd.DataFrame) -> str:
    """A sentence on how many published recalls are met within each of POINTS; empty where none was tested."""
    away = comparable(ours)["less"].abs()
    counts = ", ".join(f"{(away <= number).sum()} within {points(number)}" for number in POINTS)
    return f" Published recalls met, of {len(away)} tested here: {counts}." if len(away) else ""


def judgements(ours: pd.DataFrame, paper: pd.DataFrame, tolerance: float) -> dict[str, pd.DataFrame]:
    """Each claim with its table: its subject, the paper's figures, our figures, and the verdict.

    Args:
        ours: `tables.joined` rows, whose times of a busy machine do not count.
        paper: of `tables.read_paper`. tolerance: points of t2v R@1 by which a recall may differ.
    """
    ours = joined([ours])
    ours.loc[disturbed(ours), TIMES] = None
    models = paper[paper["variant"].notna()].rename(columns={new: old for old, new in PAPER.items()})
    absent = ["saved_mb", "clustering_share", "measured_on", DIFFERENCE, f"{DIFFERENCE} seeds"]
    models = models.assign(**dict.fromkeys(absent, math.nan))
    bound = f"t2v R@1 of the best clustering variant is at most {points(tolerance)} below the baseline's"
    claims = {
        f"Clustering loses no recall: {bound}.": lambda rows: recall(rows, tolerance),
        "Clustering saves memory in training (a video's, or a whole step's on the GPU).": memory,
        "Clustering saves time in encoding a video.": lambda rows: saving(rows, "ms", "ms"),
        f"Clustering itself takes almost nothing: {SMALL:.0%} of that time or less.": share,
    }
    at_least = "A published model saves at least what it saved there of its baseline's memory and time."
    return {
        **{claim: judged(figures, ours, models) for claim, figures in claims.items()},
        f"A published model's t2v R@1 is met within {points(tolerance)}.": met(ours, models, tolerance),
        at_least: saved(ours, models),
    }
