"""A benchmark's table for people, beside the paper's numbers: digits, marks, bold numbers, and notes."""

from collections.abc import Iterable, Mapping

import pandas as pd

from centerclip.evaluate import statistics
from centerclip.report.documents import Document, Table
from centerclip.report.rows import (
    BUSY,
    BUSY_NOTE,
    DIFFERENCE,
    LACKING,
    MEASURED,
    R1,
    RECALLS,
    SCORES,
    disturbed,
    label,
    too_few,
)
from centerclip.report.tables import AS_AUTHORS, HISTORY, PAPER, SELECTED, TIMES

UNRANKED = [*HISTORY, "price"]  # without a bold value
FEW_NOTE = "Times marked with their turns are medians of fewer turns, because the time budget was used up."
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


def document(table: pd.DataFrame, apart: pd.DataFrame, costs: dict | None, *further: str | Table) -> Document:
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
    first, seeds, devices = made.iloc[0], made["seeds"].max(), table["measured_on"].dropna().unique()
    sentences = [
        f"The test split of {first['benchmark']} has {first['n_texts']:.0f} captions and {first['n_videos']:.0f}"
        f" videos; {first['n_texts_cut']:.0f} captions were cut to the length that the models read, and"
        f" {first['n_videos_left_out']:.0f} videos were left out because they are missing or gave no frames.",
        f"Recall and training were measured on {', '.join(made['device'].unique())}.",
        "t2v is text to video and v2t video to text. R@k is the recall in the first k, in per cent; MdR and MnR are the"
        f" median and the mean rank, from 1. A random order has a t2v R@1 of {100 / first['n_videos']:.1f}.",
    ]
    if seeds > 1:
        sentences.append(f"Scores are the mean ± standard deviation of up to {seeds} seeds.")
    if made[f"{R1} low"].notna().any():
        sentences.append(
            f"[low, high] is the 95 % interval over queries, from {statistics.DRAWS:,} resamples of the videos with"
            " their captions. A model and its baseline are compared on the same resamples."
            f" {'Seeds are paired by their numbers.' if seeds > 1 else 'Each model was trained once.'}"
            " The noise of training is not in the interval."
        )
    sentences += [f"Weights are those {SELECTED[select]}." for select in made["select"].dropna().unique()]
    if len(devices):
        sentences += cost_notes(table, costs, devices)
    if table["kwh"].notna().any():
        sentences.append(
            "The kWh of a training are the energy of one GPU, with everything that ran on it, times the number of GPUs."
        )
    if table["price"].notna().any():
        price = (table["price"] / table["gpu_hours"]).max()
        sentences.append(f"The price of a training is its GPU-hours at {price:g} each.")
    sentences.append("Bold marks the best in this table; - stands for what does not exist or was not measured.")
    if len(short := made[made["n_videos_short"] > 0]):
        counts = ", ".join(f"{row['variant']} {row['n_videos_short']:.0f}" for _, row in short.iterrows())
        sentences.append(
            f"Test videos shorter than a segment: {counts}. Their only segment counts, although its end is padding."
        )
    if compared.any():
        sentences.append("The difference is ours minus the paper's. The paper's memory and time are of its own GPUs.")
    if (too_few(table) & compared).any():
        sentences.append(f"Recall on less than {1 - LACKING:.0%} of the published test videos has no difference.")
    change = pd.DataFrame({score: made[AS_AUTHORS[score]] - made[score] for score in RECALLS}, made.index).stack()
    index, score = change.abs().idxmax()
    most = change[index, score]
    changed = f"changes most the {score} of {made['variant'][index]}, by {most:+.1f}"
    sentences.append(
        "A tie counts against the query. The authors' code counts every tied position as a separate query; with several"
        " captions a video, text to video keeps equal videos in their order. Counting like the authors' code"
        f" {changed if most else 'changes nothing here'}. Differences to the paper are counted so."
    )
    return " ".join(sentences)


def cost_notes(table: pd.DataFrame, costs: dict, devices: Iterable[str]) -> list[str]:
    """Sentences on the conditions under which costs were measured."""
    several = ["Costs of different devices are not compared: the best of each device is bold."] * (len(devices) > 1)
    return [
        f"Costs were measured on {' and '.join(devices)} with {costs['threads']} threads, with random weights and"
        " generated videos, while no other job of the run was running. The variants of a backbone took turns, and"
        f" times are medians of at least {costs['repeats']} turns. MB saved for the backward pass, ms, GMACs and GFLOPs"
        " (two for each multiply-add) are of one video; videos / s are of the best batch.",
        *several,
        "GB of training are the peak of one step's tensors, in 10^9 bytes, with the batch that the authors put on one"
        " GPU; ms are of the video encoder alone. The authors' may be GiB of a whole run, with evaluation and the"
        " buckets of several GPUs; their ms may include loading, both encoders and batches of 16 to 64. So compare"
        " ratios to the baseline, as the summary does.",
        *time_notes(table),
    ]
