"""A benchmark's table in the paper's layout: results and costs of its cells beside the paper's numbers."""

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
from centerclip.settings import layout
from centerclip.settings.cell import Cell, check_own, from_settings

AS_AUTHORS = {score: f"{score} published" for score in SCORES}  # with ties counted as the authors' code does
PAPER = {column: f"paper {column}" for column in ("training_gb", "ms", *SCORES)}
GROUP = ["benchmark", "group"]  # Cell.group: what a model shares with its baseline
MODEL = ["benchmark", "backbone", "trained", *STAGE]  # identifies a model of the paper
DESCRIBED = ["benchmark", "variant", "backbone", "frames", *ROLES]  # known of every model
TIMES = ["ms", "ms_p95", "batch_ms", "videos_s", "clustering_share"]
HISTORY = ["best t2v R@1", "last t2v R@1", "train_s", "gpu_hours", "kwh", "epoch"]  # of training
UNRANKED = [*HISTORY, "price"]  # without a bold value
BUSY = " (busy)"  # behind times of a busy machine
BUSY_NOTE = f"Times marked{BUSY} are wrong: one network, timed twice, differed by more than 10 %."
FEW_NOTE = "Of times marked as of fewer turns, the time budget allowed no more."
ROUNDING = 1e-6  # per cent
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
    """The rows of a csv of `for_programs`. Raises UserError for another file."""
    return read_table(path, [*DESCRIBED, "seeds"], [*STAGE, *SCORES, *AS_AUTHORS.values(), *COUNTS, *PAPER.values()])


def read_paper(path: Path) -> pd.DataFrame:
    """The published numbers: `method`, `variant` (missing for other people's methods), MODEL, ROLES, PAPER's columns
    and CANDIDATES. `frames` is 0, because all models of a benchmark have equally many. Raises UserError for another
    file."""
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
    """The content of a COSTS file. Raises UserError for another file and for costs of another version."""
    content, columns = read_json(path), ["variant", *(column for column in MEASURED if column not in DERIVED)]
    with naming(path, "costs, such as results/shapes/costs.json"):
        rows = pd.DataFrame(content["rows"])
        rows["tokens_per_block"].map(sum)
        rows = rows.assign(threads=content["threads"], repeats=content["repeats"])
    if {*columns} - {*rows}:
        raise UserError(f"{path}: measured by another version of centerclip; {layout.remake(path, layout.COSTS)}")
    checked(rows[[*columns, "threads", "repeats"]], path, known=["variant", "measured_on", "threads", "repeats"])
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
    numbers = [*measured(rows), *AS_AUTHORS.values(), *HISTORY]
    rows[numbers] = rows[numbers].astype(float)
    seeds = rows.groupby("variant", sort=False)
    table = seeds.first()
    table[numbers] = seeds[numbers].mean()
    table["seeds"] = seeds[R1].count()
    table["device"] = seeds["device"].agg(lambda devices: ", ".join(devices.dropna().unique()))
    if table["seeds"].max() > 1:
        table = table.join(seeds[measured(rows)].std().add_suffix(" std"))
    table = typed(table.reset_index())
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


def measured(table: pd.DataFrame) -> list[str]:
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
    """The rows of several tables of `for_programs` or `full_size.table`, with missing values in columns that a table
    lacks."""
    rows = pd.concat(map(typed, tables), ignore_index=True)
    scores = [*SCORES, *INTERVALS, f"{R1} std", *AS_AUTHORS.values(), *PAPER.values()]
    columns = [*MEASURED, *COUNTS, *scores, CANDIDATES, "weights", "seeds"]
    return rows.reindex(columns=list(dict.fromkeys([*rows, *columns])))


def grouped(table: pd.DataFrame) -> pd.Series:
    """The `group` of each row; its backbone and frames in tables without that column."""
    names = table["backbone"].astype("string") + ", " + table["frames"].astype("string")
    return table.get("group", names).fillna(names)


def of_baselines(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of each row's baseline, with the index of `table`: of the first baseline of its GROUP whose costs were
    measured on the same device; missing without any."""
    table = table.assign(group=grouped(table))
    same = [*GROUP, *({"measured_on"} & {*table})]
    baselines = table[table["baseline"]].drop_duplicates(same)[[*same, *columns]]
    return table[same].merge(baselines, on=same, how="left").set_axis(table.index)[columns]


def against_baseline(rows: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each row as a share of its baseline's."""
    return rows[column].astype(float) / of_baselines(rows, [column])[column].astype(float)


def for_programs(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the csv, without MEASURED if no costs were measured."""
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
    """The rows with the best value of `column`, as bool, if rows differ. Costs are compared on each device. Times of a
    busy machine are left out."""
    values = table[column].astype(float).round(DIGITS.get(column, 1))
    rivals = values.groupby(table["measured_on"] if column in MEASURED else table["benchmark"])
    unranked = [*UNRANKED, DIFFERENCE, "clustering_share", *(TIMES if disturbed(table).any() else [])]
    extreme = rivals.transform("max" if "R@" in column or column == "videos_s" else "min")
    return (column not in unranked) & (rivals.transform("nunique") > 1) & (values == extreme)


def disturbed(table: pd.DataFrame) -> pd.Series:
    """The rows with times of a busy machine, as bool."""
    return table["busy"].eq(True).fillna(False).astype(bool)


def time_mark(row: Mapping) -> str:
    """The mark after a row's times: measured on a busy machine, or with fewer turns than asked for."""
    few = f" ({row['turns']:.0f} of {row['repeats']:.0f} turns)" if row["turns"] < row["repeats"] else ""
    return (BUSY if pd.notna(row["busy"]) and row["busy"] else "") + few


def time_notes(table: pd.DataFrame) -> list[str]:
    """The meaning of each `time_mark` in a table."""
    notes = {BUSY_NOTE: disturbed(table), FEW_NOTE: table["turns"] < table["repeats"]}
    return [note for note, rows in notes.items() if rows.any()]


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
    """A line for each variant. If the paper has numbers for the variant, two more lines follow: the paper's numbers,
    and ours minus the paper's, with ties counted as in the paper. Recalls are left out if ours is on `too_few`
    videos."""
    compared, few = table["paper_row"].notna(), too_few(table)
    apart = table["best t2v R@1"].mask(table["select"] == "best")  # is the R@1 of the selected weights
    table = table.assign(**{"best t2v R@1": apart})
    columns = [column for column in LAYOUT if table[[column, PAPER.get(column, column)]].notna().any(axis=None)]
    stars = pd.DataFrame({column: best(table, column) for column in columns})
    lines, bold = [], []
    for index, row in table.iterrows():
        variant = label(row) if pd.notna(row[R1]) else f"{row['variant']} (not made)"
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
    """The paper's rows without a counterpart here."""
    labels = [
        ", ".join(
            [row["method"]]
            + ([f"{row['segments']} segments of {row['clusters']}"] if pd.notna(row["segments"]) else [])
            + ([row["backbone"]] if pd.notna(row["backbone"]) else [])
        )
        for row in apart.to_dict("records")
    ]
    numbers = {LAYOUT[column]: [shown(value, column) for value in apart[name]] for column, name in PAPER.items()}
    return Table(pd.DataFrame({"published": labels} | numbers))


def notes(table: pd.DataFrame, costs: dict | None) -> str:
    """Sentences on the conditions under which the table was measured."""
    made, compared = table[table["seeds"] > 0], table["paper_row"].notna()
    first, seeds, short = made.iloc[0], made["seeds"].max(), made[made["n_videos_short"] > 0]
    counts = ", ".join(f"{row['variant']} {row['n_videos_short']:.0f}" for _, row in short.iterrows())
    devices = table["measured_on"].dropna().unique()
    trained = "Seeds are paired by their numbers." if seeds > 1 else "Each model was trained once."
    change = pd.DataFrame({score: made[AS_AUTHORS[score]] - made[score] for score in RECALLS}, made.index).stack()
    (index, score), most = change.abs().idxmax(), change[change.abs().idxmax()]
    largest = f"changes most, by {most:+.1f}, the {score} of {made['variant'][index]}"
    sentences = {  # sentence -> whether it applies
        f"The test split of {first['benchmark']} has {first['n_texts']:.0f} captions and {first['n_videos']:.0f}"
        f" videos; {first['n_texts_cut']:.0f} captions were cut to the length that the models read, and"
        f" {first['n_videos_left_out']:.0f} videos were left out because they are missing or gave no frames.": True,
        f"Recall and training were measured on {', '.join(made['device'].unique())}.": True,
        "t2v is text to video and v2t video to text. R@k is the recall in the first k, in per cent; MdR and MnR are the"
        f" median and the mean rank, from 1. A random order has a t2v R@1 of {100 / first['n_videos']:.1f}.": True,
        f"Scores are the mean ± standard deviation of up to {seeds} seeds.": seeds > 1,
        f"[low, high] is the 95 % interval over queries, from {statistics.DRAWS:,} resamples of the videos with their"
        " captions. A model and its baseline are compared on the same resamples."
        f" {trained} The noise of training is not in the interval.": made[f"{R1} low"].notna().any(),
        **{f"Weights are those {SELECTED[select]}.": True for select in made["select"].dropna().unique()},
        **dict.fromkeys(cost_notes(table, costs, devices) if len(devices) else [], True),
        "The kWh of a training: what one of its GPUs took, for other programs too, times the number of GPUs.": table[
            "kwh"
        ]
        .notna()
        .any(),
        f"The price of a training is that of its GPU-hours, at {(table['price'] / table['gpu_hours']).max():g}"
        " each.": table["price"].notna().any(),
        "Bold marks the best in this table; - stands for what does not exist or was not measured.": True,
        f"Videos shorter than a segment, whose only segment counts although its end is padding: {counts}.": bool(
            counts
        ),
        "The difference is ours less the paper's, whose memory and time are of its own GPUs.": compared.any(),
        f"It is not taken of recall on less than {1 - LACKING:.0%} of the published test videos.": (
            too_few(table) & compared
        ).any(),
        "A tie counts against the query; the authors' code counts each of the tied places as a hit, of as many queries"
        " (text to video with several captions a video: equal videos in their order), which"
        f" {largest if most else 'changes nothing here'}. What is compared with the paper's numbers is counted"
        " so.": True,
    }
    return " ".join(sentence for sentence, applies in sentences.items() if applies)


def cost_notes(table: pd.DataFrame, costs: dict, devices: Iterable[str]) -> list[str]:
    """Sentences on the conditions under which costs were measured."""
    several = ["Costs of different devices are not compared: the best of each device is bold."] * (len(devices) > 1)
    return [
        f"Costs were measured on {' and '.join(devices)} with {costs['threads']} threads, with random weights and"
        " generated videos, and while no other job of the run was going on. The variants of a backbone took turns, and"
        f" times are medians of at least {costs['repeats']} turns. The MB saved for the backward pass, the ms, the"
        " GMACs and the GFLOPs, two for each multiply-add, are those of one video; videos / s are those of the best"
        " batch.",
        *several,
        "GB of training and ms here are the peak of one step's tensors, in 10^9 bytes and with the batch that the"
        " authors put on one GPU, and the video encoder alone; the authors' may be GiB, of a whole run with evaluation"
        " and the buckets of several GPUs, and a timer around loading, both encoders and batches of 16 to 64: compare"
        " ratios to the baseline, as the summary does.",
        *time_notes(table),
    ]
