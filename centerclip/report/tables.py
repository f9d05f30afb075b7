"""A benchmark's table in the paper's layout: its cells, what they cost, and the paper's numbers beside them."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, read_json
from centerclip.evaluate import ranks, statistics
from centerclip.evaluate.ranks import Ranks
from centerclip.method import reduction
from centerclip.report.documents import Document, Table
from centerclip.report.intervals import intervals
from centerclip.report.rows import (
    CANDIDATES,
    COUNTS,
    DERIVED,
    DIFFERENCE,
    DIRECTIONS,
    INTERVALS,
    LACKING,
    MEASURED,
    METRICS,
    R1,
    RANDOM,
    RECALLS,
    ROLES,
    SCORES,
    STAGE,
    checked,
    label,
    naming,
    read_table,
    too_few,
    typed,
)
from centerclip.settings.cell import Cell, check_own, from_settings

AS_AUTHORS = {score: f"{score} published" for score in SCORES}  # with ties counted as the authors' code does
GROUP = ["benchmark", "group"]  # Cell.group: what a model shares with its baseline
MODEL = ["benchmark", "backbone", "trained", *STAGE]  # which tells the paper's models apart
TIMES = ["ms", "ms_p95", "batch_ms", "videos_s", "clustering_share"]
BUSY = " (busy)"  # behind times of a busy machine
FEW_NOTE = "Of times marked as of fewer turns, the time budget allowed no more."
BUSY_NOTE = f"Times marked{BUSY} are wrong: one network, timed twice, differed by more than 10 %."
HISTORY = ["best t2v R@1", "last t2v R@1", "train_s", "gpu_hours", "kwh", "epoch"]  # of training
ROUNDING = 1e-6  # per cent
UNRANKED = [*HISTORY, "price"]  # bold marks none of these
PAPER = {column: f"paper {column}" for column in ("training_gb", "ms", *SCORES)}
DESCRIBED = ["benchmark", "variant", "backbone", "frames", *ROLES]  # of every model
LAYOUT = {  # column -> heading
    "training_gb": "training, GB",
    "inference_gb": "encoding, GB",
    "saved_mb": "saved, MB",
    "ms": "ms",
    "ms_p95": "ms, 95th percentile",
    "videos_s": "videos / s",
    "clustering_share": "reduction, share of ms",
    "gmacs": "GMACs",
    "gflops": "GFLOPs",
    "trainable_m": "parameters trained, 10^6",
    "state_mb": "gradients and moments, MB",
    "step_ms": "training step, ms",
    **{R1: R1, DIFFERENCE: f"{R1} less the baseline's"},
    **{score: score for score in SCORES},
    "best t2v R@1": "t2v R@1, best epoch",
    "last t2v R@1": "t2v R@1, last epoch",
    "epoch": "epoch",
    "train_s": "training, s",
    "gpu_hours": "training, GPU-hours",
    "kwh": "training, kWh",
    "price": "training, price",
}
DIGITS = {"gflops": 3, "gmacs": 3, "clustering_share": 3, "gpu_hours": 2, "kwh": 2, "price": 2}  # else 1
SELECTED = {
    "best": "of the epoch with the best t2v R@1 on the test split, as in the paper",
    "val": "of the epoch with the best t2v R@1 on the validation split",
    "last": "of the last epoch",
}


def read_models(path: Path) -> pd.DataFrame:
    """The rows of a benchmark's table, `for_programs`. Raises UserError for another file."""
    return read_table(path, [*DESCRIBED, "seeds"], [*STAGE, *SCORES, *AS_AUTHORS.values(), *COUNTS, *PAPER.values()])


def read_paper(path: Path) -> pd.DataFrame:
    """The published numbers: `method`, `variant` (missing for other people's methods), MODEL, ROLES, PAPER's columns
    and CANDIDATES; `frames` is 0, as all models of a benchmark have equally many. Raises UserError for another file."""
    paper = read_table(path, ["benchmark", "method", "trained", "videos"], ["variant", "backbone", *STAGE, *PAPER])
    paper = typed(paper.rename(columns={**PAPER, "videos": CANDIDATES}).replace({"algorithm": {"none": None}}))
    if unknown := sorted({*paper["algorithm"].dropna()} - {*reduction.names()}):
        raise UserError(f"{path}: algorithm: {unknown[0]!r} is not one of {', '.join(reduction.names())} or none")
    kinds = paper["algorithm"].map(reduction.kind, na_action="ignore")
    return paper.assign(
        frames=0,
        baseline=paper["trained"] & paper["variant"].notna() & paper["algorithm"].isna(),
        clustering=kinds.eq(reduction.CLUSTERING).fillna(False).astype(bool),
        as_published=True,
    )


def read_costs(path: Path) -> dict:
    """The content of a COSTS file. Raises UserError for another file."""
    content = read_json(path)
    with naming(path, "costs, such as results/shapes/costs.json"):
        rows = pd.DataFrame(content["rows"])
        rows["tokens_per_block"].map(sum)
        conditions = pd.DataFrame([{key: content[key] for key in ("threads", "repeats")}])
        measured = rows[["variant", *(column for column in MEASURED if column not in DERIVED)]]
    checked(conditions, path, known=conditions.columns)
    checked(measured, path, known=["variant", "measured_on"])
    return content


def read_row(path: Path) -> dict:
    """The row of a RESULT file with `seed` and `ranks`. Raises UserError as `read_result`."""
    row, result, found = read_result(path)
    return row | {"seed": result["settings"]["seed"], "ranks": found}


def read_result(path: Path) -> tuple[dict, dict, dict[str, Ranks] | None]:
    """The row, the content and the ranks, None without their file, of a RESULT file. Raises UserError for another file,
    for results of another cell than they are named after, and as `checked_row`."""
    check_own(path)
    result, file = read_json(path), ranks.beside(path)
    if "settings" not in result:
        raise UserError(f"{path}: this is a cell and not its results")
    found = ranks.read(file) if file.exists() else None
    return checked_row(result, found, path), result, found


def checked_row(result: dict, found: dict[str, Ranks] | None, source: str | Path) -> dict:
    """The row of the content of a RESULT file, the `source`. Raises UserError as `row_of`, and where the ranks `found`
    give other recalls."""
    row = row_of(result, source)
    for direction, short in DIRECTIONS.items() if found else ():
        for k in statistics.RECALLS:
            score, counted = f"{short} R@{k}", 100 * (found[direction].rank <= k).mean()
            if abs(float(row[score]) - counted) > ROUNDING:
                raise UserError(f"{source}: {score} is {row[score]}, but its ranks give {counted}")
    return row


def row_of(result: dict, source: str | Path) -> dict:
    """The row of the content of a RESULT file, the `source`. Raises UserError for another content."""
    with naming(source, "the results of a cell"):
        row = description(from_settings(result["settings"])) | measurements(result)
        checked(pd.DataFrame([row]), source, [*DESCRIBED, *SCORES, *AS_AUTHORS.values(), *COUNTS, "device"])
        if row["select"] not in (None, *SELECTED):
            raise ValueError(f"select: {row['select']!r} is not one of {', '.join(SELECTED)}")
    return row


def described(cells: Iterable[Cell], source: str | Path) -> pd.DataFrame:
    """The `description`s of the cells of a file, the `source`. Raises UserError for settings that are no model's."""
    with naming(source, "settings of models"):
        rows = list(map(description, cells))
    return checked(pd.DataFrame(rows), source, DESCRIBED)


def description(cell: Cell) -> dict:
    """What a row is of."""
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
    }


def measurements(result: dict) -> dict:
    """What a row has of a result: metrics in per cent and ranks, training, counts, the device."""
    training, counted = result["training"] or {}, result["published"]
    by_epoch = [epoch["text_to_video"]["R@1"] for epoch in training.get("epochs", [])]
    return {
        **{f"{short} {m}": value for d, short in DIRECTIONS.items() for m, value in result[d].items()},
        **{AS_AUTHORS[f"{short} {m}"]: counted[d][m] for d, short in DIRECTIONS.items() for m in METRICS},
        "best t2v R@1": max(by_epoch, default=None),
        "last t2v R@1": by_epoch[-1] if by_epoch else None,
        "train_s": training.get("seconds"),
        "gpu_hours": (training.get("gpu_seconds") or math.nan) / 3600,  # of a CPU: missing
        "kwh": (training.get("joules") or math.nan) / 3.6e6,
        "epoch": training.get("selected_epoch"),
        "select": training.get("select"),
        **{key: result[key] for key in COUNTS},
        "device": result["provenance"]["device"],
    }


def over_seeds(rows: list[dict]) -> pd.DataFrame:
    """A row a variant: the mean of its seeds, with the standard deviation of each score where any has several, and
    INTERVALS where all its seeds have ranks."""
    trainings: dict = {}
    for row in rows:
        if "ranks" in row:
            trainings.setdefault(row["variant"], {})[row["seed"]] = row["ranks"]
    rows = pd.DataFrame(rows).drop(columns=["seed", "ranks"], errors="ignore")
    numbers = [*measured(rows), *AS_AUTHORS.values(), *HISTORY]
    rows[numbers] = rows[numbers].astype(float)
    seeds = rows.groupby("variant", sort=False)
    table = seeds.first()
    table[numbers] = seeds[numbers].mean()
    table["seeds"] = seeds["t2v R@1"].count()
    table["device"] = seeds["device"].agg(lambda devices: ", ".join(devices.dropna().unique()))
    if table["seeds"].max() > 1:
        table = table.join(seeds[measured(rows)].std().add_suffix(" std"))
    table = typed(table.reset_index())
    whole = {variant: seeds for variant, seeds in trainings.items() if all(seeds.values())}
    baselines = dict(zip(table["variant"], of_baselines(table, ["variant"])["variant"], strict=True))
    return table.join(intervals(whole, baselines), on="variant")


def measured(table: pd.DataFrame) -> list[str]:
    """The columns of SCORES and of R@k at further k."""
    return [column for column in table if re.fullmatch(f"({'|'.join(DIRECTIONS.values())}) [^ ]+", column)]


def combine(
    rows: list[dict], costs: dict | None, paper: pd.DataFrame, gpu_hour_price: float | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmark's table, a row a variant, and the published rows that have no counterpart in it.

    Args:
        rows: of `read_row`, or only of `description` for cells that are not made.
        costs: of `read_costs`; None where none were measured. paper: of `read_paper`.
    """
    table = completed(over_seeds(rows), costs, paper)
    table["price"] = table["gpu_hours"] * (gpu_hour_price or math.nan)
    apart = (paper["benchmark"] == table["benchmark"].iloc[0]) & ~paper.index.isin(table["paper_row"])
    return table, paper[apart]


def completed(table: pd.DataFrame, costs: dict | None, paper: pd.DataFrame) -> pd.DataFrame:
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
    """The rows of `for_programs` tables or their csv; what a table has no column for is missing."""
    rows = pd.concat(map(typed, tables), ignore_index=True)
    scores = [*SCORES, *INTERVALS, f"{R1} std", *AS_AUTHORS.values(), *PAPER.values()]
    columns = [*MEASURED, *COUNTS, *scores, CANDIDATES, "weights", "seeds"]
    return rows.reindex(columns=list(dict.fromkeys([*rows, *columns])))


def grouped(table: pd.DataFrame) -> pd.Series:
    """The `group` of each row; its backbone and frames where the paper or an older table tells no more."""
    older = table["backbone"].astype("string") + ", " + table["frames"].astype("string")
    return table.get("group", older).fillna(older)


def of_baselines(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of each row's baseline, the first of its GROUP whose costs were measured on the same device, with the
    index of `table`; missing without any."""
    table = table.assign(group=grouped(table))
    same = [*GROUP, *({"measured_on"} & {*table})]
    baselines = table[table["baseline"]].drop_duplicates(same)[[*same, *columns]]
    return table[same].merge(baselines, on=same, how="left").set_axis(table.index)[columns]


def against_baseline(rows: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each row over that of its baseline."""
    return rows[column].astype(float) / of_baselines(rows, [column])[column].astype(float)


def for_programs(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the csv; without MEASURED where no costs were measured."""
    scores = [name for score in measured(table) for name in (score, f"{score} std") if name in table]
    first = ["benchmark", "variant", "backbone", "weights", "frames", "method", *STAGE, "shift", "group", *ROLES]
    costs = MEASURED if table["ms"].notna().any() else []
    counts = [*AS_AUTHORS.values(), "seeds", *UNRANKED, *costs, *COUNTS, "device", CANDIDATES, *PAPER.values()]
    return table[[*first, *scores, *INTERVALS, *counts]]


def for_people(table: pd.DataFrame, apart: pd.DataFrame, costs: dict | None, *further: str | Table) -> Document:
    """The document of `combine`'s two tables, with `further` parts."""
    parts = [comparison(table), notes(table, costs), *further]
    return [*parts, "Published, without a counterpart in this run:", elsewhere(apart)] if len(apart) else parts


def shown(value: float, column: str, sign: str = "") -> str:
    """A number of LAYOUT's `column` in its digits; an empty string where it is missing."""
    if pd.isna(value):
        return ""
    digits = DIGITS.get(column, 1)
    return f"{value:g}" if column == "epoch" else f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def best(table: pd.DataFrame, column: str) -> pd.Series:
    """Which rows show the best value of `column`; costs are compared on each device. None if all are equal, and none of
    the times of a busy machine."""
    values = table[column].astype(float).round(DIGITS.get(column, 1))
    rivals = values.groupby(table["measured_on"] if column in MEASURED else table["benchmark"])
    ranked = column not in (*UNRANKED, DIFFERENCE, "clustering_share") and not (
        column in TIMES and disturbed(table).any()
    )
    extreme = rivals.transform("max" if "R@" in column or column == "videos_s" else "min")
    return ranked & (rivals.transform("nunique") > 1) & (values == extreme)


def disturbed(table: pd.DataFrame) -> pd.Series:
    """Which rows have times of a busy machine."""
    return table["busy"].eq(True)


def time_mark(row: Mapping) -> str:
    """What stands behind the times of a row: that the machine was busy, and that they are of fewer turns than asked."""
    few = row["turns"] < row["repeats"]
    busy = pd.notna(row["busy"]) and row["busy"]
    return (BUSY if busy else "") + (f" ({row['turns']:.0f} of {row['repeats']:.0f} turns)" if few else "")


def marked(row: Mapping, column: str) -> str:
    """A number of ours with its `time_mark`, its interval and its spread over seeds; "-" where it is missing."""
    if pd.isna(row[column]):
        return "-"
    words = shown(row[column], column, "+" if column == DIFFERENCE else "")
    words += time_mark(row) if column in TIMES else ""
    low, high, spread = (row.get(f"{column} {what}") for what in ("low", "high", "std"))
    if column in (R1, DIFFERENCE) and pd.notna(low):
        words += f" [{low:.1f}, {high:.1f}]"
    return words + (f" ± {spread:.1f}" if pd.notna(spread) else "")


def comparison(table: pd.DataFrame) -> Table:
    """A line a variant and, where the paper has numbers for it, two more: the paper's, and ours less the paper's, with
    ties counted as the paper's are. There is no difference in recall where ours is on `too_few` videos."""
    compared, few = table["paper_row"].notna(), too_few(table)
    apart = table["best t2v R@1"].mask(table["select"] == "best")  # which is the R@1 of the selected weights
    table = table.assign(**{"best t2v R@1": apart})
    columns = [column for column in LAYOUT if table[[column, PAPER.get(column, column)]].notna().any(axis=None)]
    stars = pd.DataFrame({column: best(table, column) for column in columns})
    lines, bold = [], []
    for index, row in table.iterrows():
        variant = label(row) if pd.notna(row["t2v R@1"]) else f"{row['variant']} (not made)"
        first = {"variant": variant, "measured on": row["measured_on"], "": "ours"}
        lines.append(first | {column: marked(row, column) for column in columns})
        bold.append(stars.loc[index].to_dict())
        if compared[index]:
            paper = {column: row[PAPER[column]] for column in columns if column in PAPER}
            told = [column for column in paper if not (few[index] and column in SCORES)]
            less = {column: row[AS_AUTHORS.get(column, column)] - paper[column] for column in told}
            lines.append({"": "paper"} | {column: shown(value, column) for column, value in paper.items()})
            lines.append({"": "difference"} | {column: shown(value, column, "+") for column, value in less.items()})
            bold += [{}, {}]
    shown_first = {"variant": True, "measured on": table["measured_on"].nunique() > 1, "": compared.any()}
    names = [name for name, needed in shown_first.items() if needed]
    text = pd.DataFrame(lines).reindex(columns=[*names, *columns]).fillna("").rename(columns=LAYOUT)
    marks = pd.DataFrame(bold).reindex(columns=[*names, *columns]).eq(True).set_axis(text.columns, axis="columns")
    return Table(text, len(names), marks)


def elsewhere(apart: pd.DataFrame) -> Table:
    """The paper's rows that nothing here stands beside."""
    clustered = apart["method"] + apart["segments"].map(", {} segments of ".format) + apart["clusters"].map(str)
    labels = apart["method"].where(apart["segments"].isna(), clustered)
    labels = labels + apart["backbone"].map(", {}".format, na_action="ignore").fillna("")
    numbers = {LAYOUT[column]: [shown(value, column) for value in apart[name]] for column, name in PAPER.items()}
    return Table(pd.DataFrame({"published": labels} | numbers).reset_index(drop=True))


def notes(table: pd.DataFrame, costs: dict | None) -> str:
    """What the table was measured on and how, in sentences."""
    made = table[table["seeds"] > 0]
    first, seeds, short = made.iloc[0], made["seeds"].max(), made[made["n_videos_short"] > 0]
    counts = ", ".join(f"{row['variant']} {row['n_videos_short']:.0f}" for _, row in short.iterrows())
    sentences = [
        f"The test split of {first['benchmark']} has {first['n_texts']:.0f} captions and {first['n_videos']:.0f}"
        f" videos; {first['n_texts_cut']:.0f} captions were cut to the length that the models read, and"
        f" {first['n_videos_left_out']:.0f} videos were left out because they are missing or gave no frames.",
        f"Recall and training were measured on {', '.join(made['device'].unique())}.",
        "t2v is text to video and v2t video to text. R@k is the recall in the first k, in per cent; MdR and MnR are the"
        f" median and the mean rank, from 1. A random order has a t2v R@1 of {100 / first['n_videos']:.1f}.",
        f"Scores are the mean ± standard deviation of up to {seeds} seeds." if seeds > 1 else "",
        interval_note(made),
        *(f"Weights are those {SELECTED[select]}." for select in made["select"].dropna().unique()),
        *(cost_notes(table, costs) if costs else []),
        "The kWh of a training: what one of its GPUs took, for other programs too, times the number of GPUs."
        if table["kwh"].notna().any()
        else "",
        f"The price of a training is that of its GPU-hours, at {(table['price'] / table['gpu_hours']).max():g} each."
        if table["price"].notna().any()
        else "",
        "Bold marks the best in this table; - stands for what does not exist or was not measured.",
        counts and f"Videos shorter than a segment, whose only segment counts although its end is padding: {counts}.",
        "The difference is ours less the paper's, whose memory and time are of its own GPUs."
        if table["paper_row"].notna().any()
        else "",
        f"It is not taken of recall on less than {1 - LACKING:.0%} of the published test videos."
        if (too_few(table) & table["paper_row"].notna()).any()
        else "",
        ties_note(made),
    ]
    return " ".join(filter(None, sentences))


def interval_note(made: pd.DataFrame) -> str:
    """What the intervals are of; nothing without intervals."""
    if made[f"{R1} low"].isna().all():
        return ""
    trained = "Seeds are paired by their numbers." if made["seeds"].max() > 1 else "Each model was trained once."
    return (
        f"[low, high] is the 95 % interval over queries, from {statistics.DRAWS:,} resamples of the videos with their"
        " captions. A model and its baseline are compared on the same resamples."
        f" {trained} The noise of training is not in the interval."
    )


def cost_notes(table: pd.DataFrame, costs: dict) -> list[str]:
    """What costs were measured on and how, in sentences."""
    devices = table["measured_on"].dropna().unique()
    return [
        f"Costs were measured on {' and '.join(devices)} with {costs['threads']} threads, with random weights and"
        " generated videos, and while no other job of the run was going on. The variants of a backbone took turns, and"
        f" times are medians of at least {costs['repeats']} turns. The MB saved for the backward pass, the ms, the"
        " GMACs and the GFLOPs, two for each multiply-add, are those of one video; videos / s are those of the best"
        " batch.",
        "Costs of different devices are not compared: the best of each device is bold." if len(devices) > 1 else "",
        "GB of training and ms here are the peak of one step's tensors, in 10^9 bytes and with the batch that the"
        " authors put on one GPU, and the video encoder alone; the authors' may be GiB, of a whole run with evaluation"
        " and the buckets of several GPUs, and a timer around loading, both encoders and batches of 16 to 64: compare"
        " ratios to the baseline, as the summary does.",
        *time_notes(table),
    ]


def time_notes(table: pd.DataFrame) -> list[str]:
    """What the `time_mark`s in a table mean."""
    notes = {BUSY_NOTE: disturbed(table), FEW_NOTE: table["turns"] < table["repeats"]}
    return [note for note, rows in notes.items() if rows.any()]


def ties_note(made: pd.DataFrame) -> str:
    """How ties count here and in the paper, and which recall that changes most."""
    change = pd.DataFrame({score: made[AS_AUTHORS[score]] - made[score] for score in RECALLS}, made.index).stack()
    (index, score), most = change.abs().idxmax(), change[change.abs().idxmax()]
    largest = f"changes most, by {most:+.1f}, the {score} of {made['variant'][index]}"
    return (
        "A tie counts against the query; the authors' code counts each of the tied places as a hit, of as many queries"
        " (text to video with several captions a video: equal videos in their order), which"
        f" {largest if most else 'changes nothing here'}. What is compared with the paper's numbers is counted so."
    )
