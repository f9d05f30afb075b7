"""The rows of a benchmark's table: results and costs of its cells beside the paper's numbers."""

import math
import re
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, read_json
from centerclip.evaluate import ranks, statistics
from centerclip.evaluate.ranks import Ranks
from centerclip.method import reduction
from centerclip.report.rows import (
    CANDIDATES,
    COUNTS,
    DERIVED,
    DIFFERENCE,
    DIRECTIONS,
    INTERVALS,
    MEASURED,
    METRICS,
    R1,
    RANDOM,
    ROLES,
    SCORES,
    STAGE,
    checked,
    naming,
    nullable,
    read_table,
)
from centerclip.settings import layout
from centerclip.settings.cell import Cell, check_own, from_settings

AS_AUTHORS = {score: f"{score} published" for score in SCORES}  # with ties counted as the authors' code does
PAPER = {column: f"paper {column}" for column in ("training_gb", "ms", *SCORES)}
GROUP = ["benchmark", "group"]  # Cell.group: what a model shares with its baseline
MODEL = ["benchmark", "backbone", "trained", *STAGE]  # identifies a model of the paper
DESCRIBED = ["benchmark", "variant", "backbone", "frames", *ROLES]  # known of every model
TIMES = ["ms", "ms_p95", "batch_ms", "videos_s", "clustering_share"]
HISTORY = ["best t2v R@1", "last t2v R@1", "train_s", "gpu_hours", "kwh", "epoch"]  # of training
ROUNDING = 1e-6  # per cent
SELECTED = {
    "best": "of the epoch with the best t2v R@1 on the test split, as in the paper",
    "val": "of the epoch with the best t2v R@1 on the validation split",
    "last": "of the last epoch",
}


def read_models(path: Path) -> pd.DataFrame:
    """The rows of a csv of `for_programs`. Raises UserError for another file."""
    return read_table(
        path, [*DESCRIBED, "group", "seeds"], [*STAGE, *SCORES, *AS_AUTHORS.values(), *COUNTS, *PAPER.values()]
    )


def read_paper(path: Path) -> pd.DataFrame:
    """The published numbers: `method`, `variant` (missing for other people's methods), MODEL, ROLES, PAPER's columns
    and CANDIDATES. `group` is the backbone, because all models of a benchmark have equally many frames. Raises
    UserError for another file."""
    paper = read_table(path, ["benchmark", "method", "trained", "videos"], ["variant", "backbone", *STAGE, *PAPER])
    paper = nullable(paper.rename(columns={**PAPER, "videos": CANDIDATES}).replace({"algorithm": {"none": None}}))
    if unknown := sorted({*paper["algorithm"].dropna()} - {*reduction.names()}):
        raise UserError(f"{path}: algorithm: {unknown[0]!r} is not one of {', '.join(reduction.names())} or none")
    kinds = paper["algorithm"].map(reduction.kind, na_action="ignore")
    return paper.assign(
        group=paper["backbone"],
        baseline=paper["trained"] & paper["variant"].notna() & paper["algorithm"].isna(),
        clustering=kinds.eq(reduction.CLUSTERING).fillna(False).astype(bool),
        as_published=True,
    )


def read_costs(path: Path) -> dict:
    """The content of a COSTS file. Raises UserError for another file and for costs of another version."""
    content, columns = read_json(path), ["variant", *(column for column in MEASURED if column not in DERIVED)]
    with naming(path, "costs, such as results/shapes/costs.json"):
        rows = pd.DataFrame(content["rows"])
        rows["tokens_per_block"].map(sum)
        rows = rows.assign(threads=content["threads"], repeats=content["repeats"])
    if {*columns} - {*rows}:
        raise UserError(f"{path}: measured by another version of centerclip; {layout.remake(path, layout.COSTS)}")
    checked(rows[[*columns, "threads", "repeats"]], path, filled=["variant", "measured_on", "threads", "repeats"])
    return content


def read_result(path: Path) -> tuple[dict, dict]:
    """The `row_of` a RESULT file and its content. Raises UserError for another file and for results of another cell
    than the file is named after."""
    check_own(path)
    result, file = read_json(path), ranks.beside(path)
    if "settings" not in result:
        raise UserError(f"{path}: this is a cell and not its results")
    return row_of(result, path, ranks.read(file) if file.exists() else None), result


def row_of(result: dict, source: str | Path, found: dict[str, Ranks] | None = None) -> dict:
    """The row of a RESULT's content, with its `seed` and `ranks`, the ranks `found`. Raises UserError for another
    content, and where the ranks give other recalls."""
    with naming(source, "the results of a cell"):
        row = description(from_settings(result["settings"])) | measurements(result)
        checked(pd.DataFrame([row]), source, [*DESCRIBED, *SCORES, *AS_AUTHORS.values(), *COUNTS, "device"])
        if row["select"] not in (None, *SELECTED):
            raise ValueError(f"select: {row['select']!r} is not one of {', '.join(SELECTED)}")
        seed = int(result["settings"]["seed"])
    for direction, short in DIRECTIONS.items() if found else ():
        for k in statistics.RECALLS:
            score, counted = f"{short} R@{k}", 100 * (found[direction].rank <= k).mean()
            if abs(float(row[score]) - counted) > ROUNDING:
                raise UserError(f"{source}: {score} is {row[score]}, but its ranks give {counted}")
    return row | {"seed": seed, "ranks": found}


def description(cell: Cell) -> dict:
    """The columns that describe a cell. `clustering` is False for low-rank tuning: it saves memory by itself, which no
    claim on clustering may count."""
    stage = cell.model.stages[0] if cell.model.stages else None
    return {
        "benchmark": cell.benchmark,
        "variant": cell.variant,
        "group": cell.group[1],
        "backbone": cell.model.backbone,
        "weights": cell.model.weights or RANDOM,
        "frames": cell.data.frames,
        "method": cell.method,
        **{key: getattr(stage, key, None) for key in STAGE},
        "shift": cell.model.shift,
        **{role: getattr(cell, role) for role in ROLES},
        "clustering": cell.clustering and (cell.tunes_all or not cell.trained),
    }


def measurements(result: dict) -> dict:
    """The columns of a result: metrics in per cent and ranks, training, counts, the device."""
    training, counted = result["training"] or {}, result["published"]
    by_epoch = [epoch["text_to_video"]["R@1"] for epoch in training.get("epochs", [])]
    return {
        **{f"{short} {m}": value for d, short in DIRECTIONS.items() for m, value in result[d].items()},
        **{AS_AUTHORS[f"{short} {m}"]: counted[d][m] for d, short in DIRECTIONS.items() for m in METRICS},
        "best t2v R@1": max(by_epoch, default=None),
        "last t2v R@1": by_epoch[-1] if by_epoch else None,
        "train_s": training.get("seconds"),
        "gpu_hours": (training.get("gpu_seconds") or math.nan) / 3600,  # missing on a CPU
        "kwh": (training.get("joules") or math.nan) / 3.6e6,
        "epoch": training.get("selected_epoch"),
        "select": training.get("select"),
        **{key: result[key] for key in COUNTS},
        "device": result["provenance"]["device"],
    }


def over_seeds(rows: list[dict]) -> pd.DataFrame:
    """A row for each variant: the mean over its seeds, the standard deviation of each score if any variant has several
    seeds, and INTERVALS if all seeds of the variant have ranks."""
    trainings: dict = {}
    for row in rows:
        if "ranks" in row:
            of_variant = trainings.setdefault(row["variant"], {})
            if row["seed"] in of_variant:
                raise UserError(f"{row['variant']}, seed {row['seed']}: two results; give one")
            of_variant[row["seed"]] = row["ranks"]
    rows = pd.DataFrame(rows).drop(columns=["seed", "ranks"], errors="ignore")
    numbers = [*scored(rows), *AS_AUTHORS.values(), *HISTORY]
    rows[numbers] = rows[numbers].astype(float)
    seeds = rows.groupby("variant", sort=False)
    table = seeds.first()
    table[numbers] = seeds[numbers].mean()
    table["seeds"] = seeds[R1].count()
    table["device"] = seeds["device"].agg(lambda devices: ", ".join(devices.dropna().unique()))
    if table["seeds"].max() > 1:
        table = table.join(seeds[scored(rows)].std().add_suffix(" std"))
    table = nullable(table.reset_index())
    whole = {variant: found for variant, found in trainings.items() if all(found.values())}
    pairs = zip(table["variant"], of_baselines(table, ["variant"])["variant"], strict=True)
    found = [intervals(*(whole.get(name, {}) for name in names), *names) for names in pairs]
    return table.join(pd.DataFrame(found, table.index, INTERVALS).astype(float)).copy()


def intervals(trainings: dict, baseline: dict, *names: str) -> dict[str, float]:
    """INTERVALS of a model from {seed: ranks} of its trainings and of its baseline's, the models `names`."""
    found, paired = {}, sorted(trainings.keys() & baseline.keys()) if trainings is not baseline else []
    try:
        for recall, own in (statistics.estimates(list(trainings.values())) if trainings else {}).items():
            found |= {f"{recall} low": own.low, f"{recall} high": own.high}
        if paired:
            both = ([side[seed] for seed in paired] for side in (trainings, baseline))
            own = statistics.differences(*both)[R1]
            told = {what: getattr(own, what) for what in ("low", "high", "p", "seeds", "half")} | {"std": own.seeds_std}
            found |= {DIFFERENCE: own.value} | {f"{DIFFERENCE} {what}": number for what, number in told.items()}
    except UserError as error:
        raise UserError(f"the ranks of {' and '.join(names)}: {error}; evaluate both again") from None
    return found


def scored(table: pd.DataFrame) -> list[str]:
    """The columns of SCORES and of R@k at further k."""
    return [column for column in table if re.fullmatch(f"({'|'.join(DIRECTIONS.values())}) [^ ]+", column)]


def combine(
    rows: list[dict], costs: dict | None, paper: pd.DataFrame, gpu_hour_price: float | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmark's table with a row for each variant, and the published rows without a counterpart in it.

    Args:
        rows: of `row_of`, or of `description` for cells without a result. costs: of `read_costs`. paper: of
            `read_paper`.

    Raises:
        UserError: the rows are of several benchmarks, or two are of one variant and seed.
    """
    if len(names := {row["benchmark"]: None for row in rows}) > 1:
        raise UserError(f"a table has the results of one benchmark, and these are of {', '.join(names)}")
    table = with_costs_and_paper(over_seeds(rows), costs, paper)
    table["price"] = table["gpu_hours"] * (gpu_hour_price or math.nan)
    apart = (paper["benchmark"] == table["benchmark"].iloc[0]) & ~paper.index.isin(table["paper_row"])
    return table, paper[apart]


def with_costs_and_paper(table: pd.DataFrame, costs: dict | None, paper: pd.DataFrame) -> pd.DataFrame:
    """`description`s of one benchmark with MEASURED, CANDIDATES, PAPER's columns and `paper_row`, the index in `paper`
    of the same model; missing without `costs`, or where the paper has no such model."""
    measured = pd.DataFrame(costs["rows"] if costs else [], columns=None if costs else ["variant"])
    if costs:
        measured = measured.assign(tokens=measured["tokens_per_block"].map(sum), repeats=costs["repeats"])
    numbers = dict.fromkeys((column for column in MEASURED if column not in ("busy", "measured_on")), float)
    measured = measured.reindex(columns=["variant", *MEASURED]).astype(numbers)
    state = {"state_mb": 3 * 4 * measured["trainable_m"]}  # a gradient and AdamW's two moments, float32
    measured = measured.assign(gmacs=measured["gflops"] / 2, videos_s=1000 / measured["batch_ms"], **state)
    models = paper[paper["variant"].notna()].reset_index(names="paper_row")[[*MODEL, "paper_row", *PAPER.values()]]
    table = table.merge(measured, on="variant", how="left").merge(models, on=MODEL, how="left")
    table.loc[~table["as_published"], ["paper_row", *PAPER.values()]] = None
    candidates = paper.drop_duplicates("benchmark").set_index("benchmark")[CANDIDATES]
    return table.assign(**{CANDIDATES: table["benchmark"].map(candidates).astype(float)})


def joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables of `for_programs` or `full_size.table`, with missing values in columns that a table
    lacks."""
    rows = pd.concat(map(nullable, tables), ignore_index=True)
    scores = [*SCORES, *INTERVALS, f"{R1} std", *AS_AUTHORS.values(), *PAPER.values()]
    columns = [*MEASURED, *COUNTS, *scores, CANDIDATES, "weights", "seeds"]
    return rows.reindex(columns=list(dict.fromkeys([*rows, *columns])))


def of_baselines(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of each row's baseline, with the index of `table`: of the first baseline of its GROUP whose costs were
    measured on the same device; missing without any."""
    same = [*GROUP, *({"measured_on"} & {*table})]
    baselines = table[table["baseline"]].drop_duplicates(same)[[*same, *columns]]
    return table[same].merge(baselines, on=same, how="left").set_axis(table.index)[columns]


def against_baseline(rows: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each row as a share of its baseline's."""
    return rows[column].astype(float) / of_baselines(rows, [column])[column].astype(float)


def for_programs(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the csv, without MEASURED if no costs were measured."""
    scores = [name for score in scored(table) for name in (score, f"{score} std") if name in table]
    first = ["benchmark", "variant", "backbone", "weights", "frames", "method", *STAGE, "shift", "group", *ROLES]
    costs = MEASURED if table["ms"].notna().any() else []
    counts = [*AS_AUTHORS.values(), "seeds", *HISTORY, "price", *costs, *COUNTS, "device", CANDIDATES, *PAPER.values()]
    return table[[*first, *scores, *INTERVALS, *counts]]
