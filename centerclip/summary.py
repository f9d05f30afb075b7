"""The tables of all benchmarks -> which of the paper's claims hold, each with its figures."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from centerclip import documents
from centerclip.clustering import SAMPLING
from centerclip.documents import Table
from centerclip.stage import UserError, run
from centerclip.tables import COMPARED, MODEL, PAPER, baselines, read_paper, typed

CLOSE = 1.0  # points of t2v R@1 within which a published number is met
SMALL = 0.05  # share of the encoder's time that is almost nothing
Figure = tuple[str, bool]  # what was found of a claim, and whether the claim holds for the numbers as shown


def beside_baseline(rows: pd.DataFrame, column: str, largest: bool) -> tuple[float, float, str] | None:
    """Of rows of one benchmark and backbone: `column` of the first baseline, as in the config, that of the best
    clustering variant of as many frames, and its name; None where either is missing."""
    rows = rows.dropna(subset=column)
    plain = baselines(rows).head(1)
    clustered = rows[clusters(rows) & rows["frames"].isin(plain["frames"])]
    if clustered.empty:
        return None
    best = clustered.sort_values(column, ascending=not largest, kind="stable").iloc[0]
    return plain[column].iloc[0], best[column], best["variant"]


def clusters(rows: pd.DataFrame) -> pd.Series:
    return rows["algorithm"].notna() & ~rows["algorithm"].isin(SAMPLING)


def recall(rows: pd.DataFrame) -> list[Figure]:
    found = beside_baseline(rows, "t2v R@1", largest=True)
    return [("{:.1f} -> {:.1f}, {}".format(*found), round(found[1], 1) >= round(found[0], 1))] if found else []


def saving(rows: pd.DataFrame, column: str, unit: str) -> list[Figure]:
    found = beside_baseline(rows, column, largest=False)
    if not found:
        return []
    before, after, name = found
    said = f"{before:.1f} -> {after:.1f} {unit} ({after / before - 1:+.0%}), {name}"
    return [(said, round(after, 1) < round(before, 1))]


def memory(rows: pd.DataFrame) -> list[Figure]:
    return saving(rows, "saved_mb", "MB saved for backward") + saving(rows, "train_gb", "GB on the GPU")


def time(rows: pd.DataFrame) -> list[Figure]:
    return saving(rows, "ms", "ms")


def share(rows: pd.DataFrame) -> list[Figure]:
    """The largest share of each algorithm."""
    timed = rows[clusters(rows)].dropna(subset="clustering_share").sort_values("clustering_share")
    largest = timed.drop_duplicates("algorithm", keep="last").sort_values("algorithm")
    return [(f"{one['clustering_share']:.1%}, {one['variant']}", round(one["clustering_share"], 3) <= SMALL)
            for _, one in largest.iterrows()]  # fmt: skip


CLAIMS: dict[str, Callable[[pd.DataFrame], list[Figure]]] = {
    "Clustering loses no recall: t2v R@1 of the best clustering variant is the baseline's or more.": recall,
    "Clustering saves memory in training (a video's, or a whole step's on the GPU).": memory,
    "Clustering saves time in encoding a video.": time,
    f"Clustering itself takes almost nothing: {SMALL:.0%} of that time or less.": share,
}


def verdict(figures: list[Figure]) -> str:
    if not figures:
        return "not run"
    return "holds" if all(held for _, held in figures) else "fails"


def words(figures: list[Figure]) -> str:
    return "; ".join(text for text, _ in figures)


def judged(claim: Callable, ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """`claim` on every benchmark and backbone of ours and of the paper's rows."""
    keys = ["benchmark", "backbone"]
    here = {place: claim(rows) for place, rows in ours.groupby(keys, sort=False)}
    published = {place: claim(rows) for place, rows in paper.groupby(keys, sort=False)}
    lines = []
    for place in here | published:
        figures = here.get(place, [])
        lines.append([*place, words(published.get(place, [])), words(figures), verdict(figures)])
    return pd.DataFrame(lines, columns=[*keys, "paper", "here", "verdict"])


def against_baseline(rows: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each row over that of its baseline."""
    baseline = rows[COMPARED].merge(baselines(rows)[[*COMPARED, column]], on=COMPARED, how="left")[column]
    return rows[column].astype(float) / baseline.astype(float).set_axis(rows.index)


def saved(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """What every published clustering model saves of its baseline's memory and time, and what ours does; ours of the
    bytes saved for backward where no GPU was measured."""
    ours = ours[ours[PAPER["t2v R@1"]].notna()].drop_duplicates(MODEL)
    memory_here = against_baseline(ours, "train_gb").fillna(against_baseline(ours, "saved_mb"))
    here = ours[MODEL].assign(memory=memory_here, time=against_baseline(ours, "ms"))
    published = paper.assign(memory=against_baseline(paper, "train_gb"), time=against_baseline(paper, "ms"))
    lines = []
    for _, one in published[clusters(published)].merge(here, on=MODEL, how="left", suffixes=("", " here")).iterrows():
        for what in ("memory", "time"):
            goal, found = one[what], one[f"{what} here"]
            if pd.notna(goal):
                figures = [] if pd.isna(found) else [(f"{found - 1:+.0%}", round(found, 2) <= round(goal, 2))]
                lines.append(
                    [one["benchmark"], one["variant"], what, f"{goal - 1:+.0%}", words(figures), verdict(figures)]
                )
    return pd.DataFrame(lines, columns=["benchmark", "model", "of", "paper", "here", "verdict"])


def met(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Every published model's t2v R@1 and ours."""
    ours = ours[ours[PAPER["t2v R@1"]].notna()].drop_duplicates(MODEL)[[*MODEL, "t2v R@1"]]
    lines = []
    for _, one in paper.merge(ours, on=MODEL, how="left", suffixes=(" published", "")).iterrows():
        published, here = one["t2v R@1 published"], one["t2v R@1"]
        less = round(here - published, 1)
        figures = [] if pd.isna(here) else [(f"{here:.1f} ({less:+.1f})", abs(less) <= CLOSE)]
        lines.append([one["benchmark"], one["variant"], f"{published:.1f}", words(figures), verdict(figures)])
    return pd.DataFrame(lines, columns=["benchmark", "model", "paper", "here", "verdict"])


def summary(ours: pd.DataFrame, paper: pd.DataFrame) -> list[str | Table]:
    """The claims, each over a table: `ours` are rows of the benchmarks' csv, `paper` those of `read_paper`."""
    ours = typed(ours.assign(trained=ours["epoch"].notna()))
    published = paper[paper["variant"].notna()]
    published = published[["variant", "shift", *MODEL, *PAPER.values()]].rename(
        columns={new: old for old, new in PAPER.items()}
    )
    published = published.assign(frames=0, saved_mb=None, clustering_share=None)  # frames: as many in all its rows
    tables = {text: judged(claim, ours, published) for text, claim in CLAIMS.items()}
    tables[f"A published model's t2v R@1 is met within {CLOSE:g} point."] = met(ours, published)
    tables["A published model saves at least what it saved there of its baseline's memory and time."] = saved(
        ours, published
    )
    count = pd.concat(tables.values())["verdict"].value_counts()
    said = ", ".join(f"{name} {count.get(name, 0)}" for name in ("holds", "fails", "not run"))
    parts = [
        f"The paper's claims, computed from the tables there are and the published numbers: {said}. Arrows go from the"
        " baseline to the best clustering variant of the same backbone and number of frames."
    ]
    for number, (text, table) in enumerate(tables.items(), 1):
        parts += [f"Claim {number}. {text}", Table(table, table.shape[1])]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.summary", description=__doc__)
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="csv of benchmarks; missing: not run")
    parser.add_argument("--shown", required=True, nargs="+", type=Path, help="files to write: .md, .html, .tex")

    def job(arguments: argparse.Namespace) -> None:
        made = [path for path in arguments.tables if path.exists()]
        if not made:
            raise UserError(f"none of the tables is made, not {arguments.tables[0]}, for one")
        ours = pd.concat([typed(pd.read_csv(path)) for path in made], ignore_index=True)
        parts = summary(ours, read_paper(arguments.paper))
        for path in arguments.shown:
            documents.write(path, parts)

    run(parser, job)


if __name__ == "__main__":
    main()
