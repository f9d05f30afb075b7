"""A benchmark's table in the paper's layout: its cells, what they cost, and the paper's numbers beside them."""

import re
from pathlib import Path

import pandas as pd

from centerclip.cell import Cell, check_own, read_cell
from centerclip.command import UserError, first_line, read_json
from centerclip.model import reduction
from centerclip.report.documents import Table

DIRECTIONS = {"text_to_video": "t2v", "video_to_text": "v2t"}
METRICS = ["R@1", "R@5", "R@10", "MdR", "MnR"]
SCORES = [f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS]
PUBLISHED = {score: f"{score} published" for score in SCORES}  # counted as the authors' code counts ties
STAGE = ["block", "segments", "clusters", "algorithm"]
GROUP = ["benchmark", "backbone", "frames"]  # Cell.group: what a model shares with its baseline
MODEL = ["benchmark", "backbone", "trained", *STAGE]  # which tells the paper's models apart
ROLES = ["trained", "baseline", "clustering", "as_published"]  # bool, of Cell
COSTS = [
    *("gflops", "saved_mb", "ms", "ms_low", "ms_high", "clustering_share", "tokens", "batch", "batch_ms"),
    *("training_gb", "training_reserved_gb", "training_chunk", "busy"),
]
TIMES = ["ms", "batch_ms"]
BUSY = " (busy)"  # behind times of a busy machine
BUSY_NOTE = f"Times marked{BUSY} are wrong: one network, timed twice, differed by more than 10 %."
COUNTS = ["n_texts", "n_texts_cut", "n_videos", "n_videos_short", "n_videos_left_out"]
WHOLE = ["frames", "block", "segments", "clusters", *COUNTS]  # numbers that are whole, or missing
HISTORY = ["best t2v R@1", "last t2v R@1", "train_s", "epoch"]  # of training; nothing is the best in these
PAPER = {column: f"paper {column}" for column in ("training_gb", "ms", *SCORES)}
LAYOUT = {  # column -> heading
    "training_gb": "training, GB",
    "saved_mb": "saved, MB",
    "ms": "ms",
    "batch_ms": "ms, in batches",
    "gflops": "GFLOPs",
    **{score: score for score in SCORES},
    "best t2v R@1": "t2v R@1, best epoch",
    "last t2v R@1": "t2v R@1, last epoch",
    "epoch": "epoch",
    "train_s": "training, s",
}
SELECTED = {
    "best": "of the epoch with the best t2v R@1 on the test split, as in the paper",
    "val": "of the epoch with the best t2v R@1 on the validation split",
    "last": "of the last epoch",
}


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a csv of models: of a benchmark's table, of `full_size.table` or published. Raises UserError for
    another file."""
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path}: not a table: {first_line(error)}") from None
    if missing := [column for column in ("variant", *MODEL) if column not in table]:
        raise UserError(f"{path}: not a table of models: there is no column {missing[0]}")
    return table


def read_paper(path: Path) -> pd.DataFrame:
    """The published numbers: `method`, `variant` (none for other people's methods), MODEL, ROLES and PAPER's columns.

    `frames` is 0, as all models of a benchmark have equally many.
    """
    paper = typed(read_table(path).rename(columns=PAPER).replace({"algorithm": {"none": None}}))
    kinds = paper["algorithm"].map(reduction.kind, na_action="ignore")
    return paper.assign(
        frames=0,
        baseline=paper["trained"] & paper["variant"].notna() & paper["algorithm"].isna(),
        clustering=kinds.eq(reduction.CLUSTERING).fillna(False).astype(bool),
        as_published=True,
    )


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with types that know missing values, so that a merge matches what is missing in both."""
    names = dict.fromkeys(["backbone", "algorithm"], "string")
    return table.astype(names | {name: "Int64" for name in WHOLE if name in table})


def read_row(path: Path) -> dict:
    """The row of a RESULT file. Raises UserError for another file, and for results that are not those of their cell."""
    cell, result = read_cell(path), read_json(path)
    if "settings" not in result:
        raise UserError(f"{path}: this is a cell and not its results")
    check_own(path)
    return description(cell) | measurements(result)


def description(cell: Cell) -> dict:
    """What a row is of."""
    stage = cell.model.stages[0] if cell.model.stages else None
    return {
        **{"benchmark": cell.benchmark, "variant": cell.variant},
        **{"backbone": cell.model.backbone, "frames": cell.data.frames},
        **{key: getattr(stage, key, None) for key in STAGE},
        "shift": cell.model.shift,
        **{role: getattr(cell, role) for role in ROLES},
    }


def measurements(result: dict) -> dict:
    """What a row has of a result: metrics in per cent and ranks, training, counts, the device."""
    training = result["training"] or {}
    by_epoch = [epoch["text_to_video"]["R@1"] for epoch in training.get("epochs", [])]
    return {
        **{f"{short} {m}": value for direction, short in DIRECTIONS.items() for m, value in result[direction].items()},
        **{
            PUBLISHED[f"{short} {metric}"]: result["published"][direction][metric]
            for direction, short in DIRECTIONS.items()
            for metric in METRICS
        },
        "best t2v R@1": max(by_epoch, default=None),
        "last t2v R@1": by_epoch[-1] if by_epoch else None,
        "train_s": training.get("seconds"),
        "epoch": training.get("selected_epoch"),
        "select": training.get("select"),
        **{key: result[key] for key in COUNTS},
        "device": result["provenance"]["device"],
    }


def over_seeds(rows: list[dict]) -> pd.DataFrame:
    """A row a variant: the mean of its seeds, with the standard deviation of each score where any has several."""
    rows = pd.DataFrame(rows)
    numbers = [*measured(rows), *PUBLISHED.values(), *HISTORY]
    rows[numbers] = rows[numbers].astype(float)
    seeds = rows.groupby("variant", sort=False)
    table = seeds.first()
    table[numbers] = seeds[numbers].mean()
    table["seeds"] = seeds["t2v R@1"].count()
    table["device"] = seeds["device"].agg(lambda devices: ", ".join(devices.dropna().unique()))
    if table["seeds"].max() > 1:
        table = table.join(seeds[measured(rows)].std().add_suffix(" std"))
    return typed(table.reset_index())


def measured(table: pd.DataFrame) -> list[str]:
    """The columns of SCORES and of R@k at further k."""
    return [column for column in table if re.fullmatch(f"({'|'.join(DIRECTIONS.values())}) [^ ]+", column)]


def combine(rows: list[dict], costs: dict, paper: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmark's table, a row a variant, and the published rows that have no counterpart in it.

    Args:
        rows: of `read_row`, or only of `description` for cells that are not made.
        costs: the content of a COSTS file. paper: of `read_paper`.
    """
    table = completed(over_seeds(rows), costs, paper)
    apart = (paper["benchmark"] == table["benchmark"].iloc[0]) & ~paper.index.isin(table["published"])
    return table, paper[apart]


def completed(table: pd.DataFrame, costs: dict, paper: pd.DataFrame) -> pd.DataFrame:
    """`table`, whose rows are `description`s of one benchmark, with COSTS, PAPER's columns and `published`, the index
    of the row of `paper`; the last two are missing where the paper has no such model."""
    columns = pd.DataFrame(costs["rows"])
    columns["tokens"] = columns["tokens_per_block"].map(sum)
    columns = columns[["variant", *COSTS]].astype({"training_gb": float})  # which may be all missing
    published = paper[paper["variant"].notna()].reset_index(names="published")[[*MODEL, "published", *PAPER.values()]]
    table = table.merge(columns, on="variant", how="left").merge(published, on=MODEL, how="left")
    table.loc[~table["as_published"], ["published", *PAPER.values()]] = None
    return table


def of_baselines(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`columns` of each row's baseline, with the index of `table`; missing where there is none. A group of several
    baselines has the first."""
    baselines = table[table["baseline"]].drop_duplicates(GROUP)[[*GROUP, *columns]]
    return table[GROUP].merge(baselines, on=GROUP, how="left").set_axis(table.index)[columns]


def against_baseline(rows: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each row over that of its baseline."""
    return rows[column].astype(float) / of_baselines(rows, [column])[column].astype(float)


def for_programs(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the csv."""
    scores = [name for score in measured(table) for name in (score, f"{score} std") if name in table]
    scores += PUBLISHED.values()
    first = ["benchmark", "variant", "backbone", "frames", *STAGE, "shift", *ROLES, *scores, "seeds"]
    return table[[*first, *HISTORY, *COSTS, *COUNTS, "device", *PAPER.values()]]


def for_people(table: pd.DataFrame, apart: pd.DataFrame, costs: dict, remarks: list[str]) -> list[str | Table]:
    """The document of `combine`'s two tables; `remarks` are further sentences."""
    parts = [comparison(table), notes(table, costs), *remarks]
    return [*parts, "Published, without a counterpart in this run:", elsewhere(apart)] if len(apart) else parts


def text(value: float, column: str, sign: str = "") -> str:
    """A number of LAYOUT's `column` in its digits; nothing for none."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if column == "epoch" else f"{round(value, digits(column)) + 0.0:{sign}.{digits(column)}f}"


def digits(column: str) -> int:
    """After the point."""
    return 3 if column == "gflops" else 1


def best(table: pd.DataFrame, column: str) -> pd.Series:
    """Which rows have the best of `column`, as it is shown; none where all are equal, or times of a busy machine."""
    shown = table[column].astype(float).round(digits(column))
    ranked = column not in HISTORY and shown.nunique() > 1 and not (column in TIMES and disturbed(table).any())
    return ranked & (shown == (shown.max() if "R@" in column else shown.min()))


def disturbed(table: pd.DataFrame) -> pd.Series:
    """Which rows have times of a busy machine."""
    return table["busy"].eq(True)


def comparison(table: pd.DataFrame) -> Table:
    """A line a variant and, where the paper has numbers for it, two more: the paper's, and ours, counted as the paper's
    are, less the paper's."""
    compared = table["published"].notna()
    apart = table["best t2v R@1"].mask(table["select"] == "best")  # which is the R@1 of the selected weights
    table = table.assign(**{"best t2v R@1": apart})
    columns = [column for column in LAYOUT if table[[column, PAPER.get(column, column)]].notna().any(axis=None)]
    stars = pd.DataFrame({column: best(table, column) for column in columns})
    lines, bold = [], []
    for index, row in table.iterrows():
        ours = {}
        for column in columns:
            ours[column] = text(row[column], column) or "-"
            if column in TIMES and disturbed(table)[index]:
                ours[column] += BUSY
            if pd.notna(spread := row.get(f"{column} std")):
                ours[column] += f" ± {spread:.1f}"
        made = pd.notna(row["t2v R@1"])
        lines.append({"variant": row["variant"] + ("" if made else " (not made)"), "": "ours"} | ours)
        bold.append(stars.loc[index].to_dict())
        if compared[index]:
            published = {column: row[PAPER[column]] for column in columns if column in PAPER}
            paper = {column: text(value, column) for column, value in published.items()}
            alike = {column: row[PUBLISHED.get(column, column)] for column in published}
            less = {column: text(alike[column] - value, column, "+") for column, value in published.items()}
            lines += [{"": "paper"} | paper, {"": "difference"} | less]
            bold += 2 * [dict.fromkeys(columns, False)]
    names = ["variant", ""] if compared.any() else ["variant"]
    shown = pd.DataFrame(lines).reindex(columns=[*names, *columns]).fillna("").rename(columns=LAYOUT)
    marks = pd.DataFrame(bold).reindex(columns=[*names, *columns], fill_value=False)
    return Table(shown, len(names), marks.set_axis(shown.columns, axis="columns"))


def elsewhere(apart: pd.DataFrame) -> Table:
    """The paper's rows that nothing here stands beside."""
    labels = apart["method"].where(
        apart["segments"].isna(),
        apart["method"] + apart["segments"].map(", {} segments of ".format) + apart["clusters"].map(str),
    )
    labels = labels + apart["backbone"].map(", {}".format, na_action="ignore").fillna("")
    shown = pd.DataFrame({"published": labels})
    for column, name in PAPER.items():
        shown[LAYOUT[column]] = [text(value, column) for value in apart[name]]
    return Table(shown.reset_index(drop=True))


def notes(table: pd.DataFrame, costs: dict) -> str:
    """What the table was measured on and how, in sentences."""
    made = table[table["seeds"] > 0]
    first = made.iloc[0]
    devices, seeds, busy = ", ".join(made["device"].unique()), made["seeds"].max(), disturbed(table).any()
    sentences = [
        f"The test split of {first['benchmark']} has {first['n_texts']:.0f} captions and {first['n_videos']:.0f}"
        f" videos; {first['n_texts_cut']:.0f} captions were cut to the length that the models read, and"
        f" {first['n_videos_left_out']:.0f} videos were left out because they gave no frames.",
        f"Recall and training were measured on {devices}.",
        "t2v is text to video and v2t video to text. R@k is the recall in the first k, in per cent; MdR and MnR are the"
        f" median and the mean rank, from 1. A random order has a t2v R@1 of {100 / first['n_videos']:.1f}.",
        *([f"Scores are the mean ± standard deviation of up to {seeds} seeds."] if seeds > 1 else []),
        *(f"Weights are those {SELECTED[select]}." for select in made["select"].dropna().unique()),
        f"Costs were measured on {costs['device']} with {costs['threads']} threads, with random weights and generated"
        " videos, and while no other job of the run was going on. The variants of a backbone took turns, and times are"
        f" medians of at least {costs['repeats']} turns. The MB saved for the backward pass, the ms and the GFLOPs are"
        " those of one video, the ms also in batches of the best size.",
        "GB of training and ms here are the peak of one step's tensors, in 10^9 bytes and with the batch that the"
        " authors put on one GPU, and the video encoder alone; the authors' may be GiB, of a whole run with evaluation"
        " and the buckets of several GPUs, and a timer around loading, both encoders and batches of 16 to 64: compare"
        " ratios to the baseline, as the summary does.",
        *([BUSY_NOTE] if busy else []),
        "Bold marks the best in this table; - stands for what does not exist or was not measured.",
        *short_note(made),
    ]
    if table["published"].notna().any():
        sentences.append("The difference is ours less the paper's, whose memory and time are of its own GPUs.")
    return " ".join([*sentences, ties_note(made)])


def short_note(made: pd.DataFrame) -> list[str]:
    """Of which variants a segment is longer than some videos, if of any."""
    short = made[made["n_videos_short"] > 0]
    if short.empty:
        return []
    counts = ", ".join(f"{row['variant']} {row['n_videos_short']:.0f}" for _, row in short.iterrows())
    return [f"Videos shorter than a segment, whose only segment counts although its end is padding: {counts}."]


def ties_note(made: pd.DataFrame) -> str:
    """How ties count here and in the paper, and which recall that changes most."""
    recalls = [score for score in SCORES if "R@" in score]
    change = pd.DataFrame({score: made[PUBLISHED[score]] - made[score] for score in recalls}, made.index).stack()
    (index, score), most = change.abs().idxmax(), change[change.abs().idxmax()]
    effect = (
        f"changes most, by {most:+.1f}, the {score} of {made['variant'][index]}" if most else "changes nothing here"
    )
    return (
        "A tie counts against the query; the authors' code counts each of the tied places as a hit, of as many queries"
        f" (text to video with several captions a video: equal videos in their order), which {effect}. What is compared"
        " with the paper's numbers is counted so."
    )
