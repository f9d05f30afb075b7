"""Summarise a run: three sentences on its findings, and verdicts on the paper's claims."""

import pandas as pd

from centerclip.report import full_size
from centerclip.report.claims import (
    NO_INTERVAL,
    VERDICTS,
    best_clustering,
    comparable,
    counted,
    difference,
    judgements,
    met_within,
    once,
    sample,
)
from centerclip.report.documents import Document, Table
from centerclip.report.rows import DIFFERENCE, R1, remarks
from centerclip.report.tables import joined


def summary(tables: list[pd.DataFrame], costs: pd.DataFrame | None, paper: pd.DataFrame, tolerance: float) -> Document:
    """The findings, then each claim with a table of what was run here, then the claims that were not tested.

    Args:
        tables: of `tables.for_programs`. costs: of `full_size.table`; they count where their benchmark is not in
            `tables`. paper: of `tables.read_paper`. tolerance: as in `judgements`.
    """
    ours = joined(tables)
    further = [] if costs is None else [costs[~costs["benchmark"].isin(ours["benchmark"])]]
    judged = judgements(joined([ours, *further]), paper, tolerance)
    count = pd.concat(judged.values())["verdict"].value_counts()
    order = sorted(count.index, key=lambda verdict: (list(map(verdict.startswith, VERDICTS)).index(True), verdict))
    parts = [
        *findings(ours, costs, paper),
        "The paper's claims, judged by the tables of this run beside the published numbers: "
        + ", ".join(f"{verdict} {count[verdict]}" for verdict in order)
        + f".{met_within(ours)} Times of a busy machine are left out."
        " Arrows go from the baseline to the best clustering variant of the same backbone and number of frames."
        " ± is half the 95 % interval of a difference over queries and, where there are several, seeds."
        + "".join(f" Of {rows['benchmark'].iloc[0]} only costs were measured." for rows in further if len(rows)),
    ]
    behind = ["Not run here, in the paper:"]
    for number, (claim, table) in enumerate(judged.items(), 1):
        missing = table["verdict"] == "not run"
        for rows, place in ((table[~missing], parts), (table[missing].drop(columns=["here", "verdict"]), behind)):
            if len(rows):
                place += [f"Claim {number}. {claim}", Table(rows, rows.shape[1])]
    return parts + behind if len(behind) > 1 else parts


def findings(ours: pd.DataFrame, costs: pd.DataFrame | None, paper: pd.DataFrame) -> list[str]:
    """Three sentences: what was run, what was found, what cannot be told. `ours`: rows of `joined`; other arguments as
    in `summary`."""
    tested = [f"{len(rows)} model{'s' * (len(rows) > 1)} on {benchmark} ({', '.join(rows['backbone'].unique())})"
              for benchmark, rows in ours.dropna(subset=R1).groupby("benchmark", sort=False)]  # fmt: skip
    found, measured = [], ""
    if costs is not None:
        found = full_size.savings(costs)
        measured = f"; it measured what the paper's models cost, {full_size.conditions(costs)}"
    for (benchmark, backbone), rows in ours.groupby(["benchmark", "backbone"], sort=False):
        if compared := best_clustering(rows, R1, largest=True):
            found.append(f"on {benchmark} ({backbone}) {change(*compared)}")
    return [
        f"This run tested {', '.join(tested)}{measured}.",
        f"It found: {'; '.join(found) or 'nothing on clustering, as no clustering variant here has a baseline'}.",
        f"It cannot tell {'; '.join(unknown(ours, costs, paper))}.",
    ]


def change(baseline: pd.Series, best: pd.Series) -> str:
    """The difference in recall between the `best` clustering variant and its `baseline`, as far as the interval
    tells."""
    marks = [", ".join([best["variant"], *remarks(best)]), *once(baseline, best)]
    goes = f"text-to-video R@1 goes from {baseline[R1]:.1f}, the baseline's, to {best[R1]:.1f}, the best clustering"
    if pd.isna(best[DIFFERENCE]):
        return f"{goes} variant's ({'; '.join([*marks, NO_INTERVAL])})"
    if abs(best[DIFFERENCE]) <= best[f"{DIFFERENCE} half"]:
        counts = sample(best)
        told = f"which {counted(counts, counts.values()).replace(', ', ' and ')} cannot tell from 0"
    else:
        told = "a gain" if best[DIFFERENCE] > 0 else "a loss"
        told += f", not corrected for the choice of the best of {best['rivals']}" if best["rivals"] > 1 else ""
    return f"{goes} variant's ({'; '.join(marks)}), by {difference(best)} points (95 %), {told}"


def unknown(ours: pd.DataFrame, costs: pd.DataFrame | None, paper: pd.DataFrame) -> list[str]:
    """The questions that a run cannot answer, a clause for each."""
    count, models = len(comparable(ours)), paper["variant"].count()
    measured = pd.concat([table[["ms", "training_gb"]] for table in (ours, costs) if table is not None])
    seeds = ours.loc[ours["trained"], "seeds"]
    clauses = {
        f"whether the paper's recalls are met, as it tested {count} of its {models} models": count < models,
        "whether a difference in recall is noise of training, as each model was trained once": seeds.max() < 2,
        "what the models cost, as it measured no costs": measured["ms"].isna().all(),
        "what a GPU takes, as it had none": measured["ms"].notna().any() and measured["training_gb"].isna().all(),
    }
    return [clause for clause, holds in clauses.items() if holds] or ["what other videos and other weights would give"]
