"""Every cell of a benchmark, its costs and the paper's numbers -> one table, in the paper's layout."""

import argparse
import json
import re
from pathlib import Path

import pandas as pd

from centerclip import documents
from centerclip.documents import Table
from centerclip.stage import UserError, atomic, last_error, run

DIRECTIONS = {"text_to_video": "t2v", "video_to_text": "v2t"}
METRICS = ["R@1", "R@5", "R@10", "MdR", "MnR"]
SCORES = [f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS]
STAGE = ["block", "segments", "clusters", "algorithm"]
PLAIN = ("medoid", False, {})  # what a stage's other settings are in the paper's main tables
COMPARED = ["benchmark", "backbone", "frames"]  # what a model shares with its baseline
MODEL = ["benchmark", "backbone", "trained", *STAGE]  # which tells the paper's models apart
COSTS = [
    *("gflops", "saved_mb", "ms", "ms_low", "ms_high", "clustering_share", "tokens", "batch", "batch_ms"),
    *("train_gb", "train_reserved_gb", "train_chunk"),
]
COUNTS = ["n_texts", "n_texts_cut", "n_videos", "n_videos_left_out"]
WHOLE = ["frames", "block", "segments", "clusters", *COUNTS]  # numbers that are whole, or missing
HISTORY = ["best t2v R@1", "last t2v R@1", "train_s", "epoch"]  # of training; nothing is the best in these
PAPER = {"train_gb": "paper memory_gb", "ms": "paper ms", **{score: f"paper {score}" for score in SCORES}}
LAYOUT = {  # column -> heading
    "train_gb": "training, GB",
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
    "best": "of the epoch with the best t2v R@1 on the test split, as the paper's",
    "val": "of the epoch with the best t2v R@1 on the validation split",
    "last": "of the last epoch",
}


def read_paper(path: Path) -> pd.DataFrame:
    """The published numbers: `method`, `variant` (none for other people's methods), MODEL and the columns of PAPER."""
    paper = pd.read_csv(path)
    names = {f"{score.replace('@', '').replace(' ', '_').lower()}": f"paper {score}" for score in SCORES}
    paper = paper.rename(columns=names | {"memory_gb": PAPER["train_gb"], "speed_ms": PAPER["ms"]})
    paper["trained"], paper["shift"] = paper["variant"] != "zeroshot", None
    return typed(paper.replace({"algorithm": {"none": None}}))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with types that know missing values, so that a merge finds what is missing in both."""
    names = dict.fromkeys(["backbone", "algorithm"], "string")
    return table.astype(names | {name: "Int64" for name in WHOLE if name in table})


def row(result: dict) -> dict:
    """A results json as a row: what it is of, metrics in per cent and ranks, training."""
    settings, training = result["settings"], result["training"] or {}
    by_epoch = [epoch["text_to_video"]["R@1"] for epoch in training.get("epochs", [])]
    stage = settings["stages"][0] if settings["stages"] else {}
    return {
        **{key: settings[key] for key in ("benchmark", "variant", "backbone", "frames")},
        **{key: stage.get(key) for key in STAGE},
        "shift": settings["shift"],
        "trained": settings["train"],
        "as published": is_plain(settings),
        **{f"{short} {m}": value for direction, short in DIRECTIONS.items() for m, value in result[direction].items()},
        "best t2v R@1": max(by_epoch, default=None),
        "last t2v R@1": by_epoch[-1] if by_epoch else None,
        "train_s": training.get("seconds"),
        "epoch": training.get("selected_epoch"),
        "select": training.get("select"),
        **{key: result[key] for key in COUNTS},
        "device": result["provenance"]["device"],
    }


def is_plain(settings: dict) -> bool:
    """Whether a cell has nothing that the models of the paper's main tables have not."""
    frames = 60 if settings["benchmark"] == "activitynet" else 12
    others = [stage[key] for stage in settings["stages"] for key in stage.keys() - set(STAGE)]
    plain = all(value in PLAIN for value in others) and len(settings["stages"]) < 2 and not settings["shift"]
    return plain and settings["frames"] == frames


def unmade(path: Path) -> dict:
    """The row of a results json that is not made: only its names."""
    names = re.fullmatch(r"([^_]+)_(.+?)(-seed-\d+)?\.json", path.name)
    if not names:
        raise UserError(f"{path}: no such file, and its name is not BENCHMARK_VARIANT.json")
    return {"benchmark": names[1], "variant": names[2], "trained": False, "as published": False}


def reason(path: Path) -> str:
    """Why a results json is not made, in a sentence: the last error in the log of the last job that it needed."""
    benchmark, _, name = path.stem.partition("_")
    logs = [path.parent / "logs" / benchmark / name / f"{job}.log" for job in ("train", "evaluate")]
    newest = max(logs, key=lambda log: log.stat().st_mtime if log.exists() else 0)
    return f"{name} is not made: {last_error(newest) or 'it has not run to its end'}."


def over_seeds(rows: list[dict]) -> pd.DataFrame:
    """A row a variant: the mean of its seeds, with the standard deviation of each score where any has several."""
    rows = pd.DataFrame(rows)
    flags, numbers = ["trained", "as published"], [*measured(rows), *HISTORY]
    rows[numbers] = rows[numbers].astype(float)
    seeds = rows.groupby("variant", sort=False)
    table = seeds.first()
    table[flags] = seeds[flags].any()  # of the seeds that are made
    table[numbers] = seeds[numbers].mean()
    table["seeds"] = seeds["t2v R@1"].count()
    table["device"] = seeds["device"].agg(lambda devices: ", ".join(devices.dropna().unique()))
    if table["seeds"].max() > 1:
        table = table.join(seeds[measured(rows)].std().add_suffix(" std"))
    return typed(table.reset_index())


def measured(table: pd.DataFrame) -> list[str]:
    """The columns of SCORES and of R@k at further k."""
    return [column for column in table if re.fullmatch(f"({'|'.join(DIRECTIONS.values())}) [^ ]+", column)]


def combine(rows: list[dict], efficiency: dict, paper: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmark's table, a row a variant, and the published rows that have no counterpart in it."""
    costs = pd.DataFrame(efficiency["rows"]).rename(columns={"train_memory_gb": "train_gb"})
    costs["tokens"] = costs["tokens_per_block"].map(sum)
    costs = costs[["variant", *COSTS]].astype({"train_gb": float})  # which may be all missing
    table = over_seeds(rows).merge(costs, on="variant", how="left")
    published = paper[paper["variant"].notna()].reset_index(names="published")[[*MODEL, "published", *PAPER.values()]]
    table = table.merge(published, on=MODEL, how="left")
    table.loc[~table["as published"], ["published", *PAPER.values()]] = None
    others = paper[(paper["benchmark"] == table["benchmark"].iloc[0]) & ~paper.index.isin(table["published"])]
    return table, others


def baselines(table: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of `table` those that others of the same COMPARED are measured against: the first trained one without
    stage and shift."""
    plain = table["trained"] & table["algorithm"].isna() & table["shift"].isna()
    return table[plain].drop_duplicates(COMPARED)


def for_programs(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the csv."""
    scores = [name for score in measured(table) for name in (score, f"{score} std") if name in table]
    first = ["benchmark", "variant", "backbone", "frames", *STAGE, "shift", *scores, "seeds"]
    return table[[*first, *HISTORY, *COSTS, *COUNTS, "device", *PAPER.values()]]


def text(value: float, column: str, sign: str = "") -> str:
    """A number of LAYOUT's `column` in its digits; nothing for none."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if column == "epoch" else f"{round(value, digits(column)) + 0.0:{sign}.{digits(column)}f}"


def digits(column: str) -> int:
    """After the point."""
    return 3 if column == "gflops" else 1


def best(table: pd.DataFrame, column: str) -> pd.Series:
    """Which rows have the best of `column`, as it is shown; none where all are equal."""
    shown = table[column].astype(float).round(digits(column))
    ranked = column not in HISTORY and shown.nunique() > 1
    return ranked & (shown == (shown.max() if "R@" in column else shown.min()))


def for_people(table: pd.DataFrame) -> Table:
    """A line a variant and, where the paper has numbers for it, two more: the paper's, and ours less the paper's."""
    beside = table["published"].notna()
    other = table["best t2v R@1"].mask(table["select"] == "best")  # than the R@1 of the weights
    table = table.assign(**{"best t2v R@1": other})
    columns = [column for column in LAYOUT if table[[column, PAPER.get(column, column)]].notna().any(axis=None)]
    stars = pd.DataFrame({column: best(table, column) for column in columns})
    lines, bold = [], []
    for index, one in table.iterrows():
        ours = {}
        for column in columns:
            ours[column] = text(one[column], column) or "-"
            if pd.notna(spread := one.get(f"{column} std")):
                ours[column] += f" ± {spread:.1f}"
        made = pd.notna(one["t2v R@1"])
        lines.append({"variant": one["variant"] + ("" if made else " (not made)"), "": "ours"} | ours)
        bold.append(stars.loc[index].to_dict())
        if beside[index]:
            published = {column: one[PAPER[column]] for column in columns if column in PAPER}
            paper = {column: text(value, column) for column, value in published.items()}
            less = {column: text(one[column] - value, column, "+") for column, value in published.items()}
            lines += [{"": "paper"} | paper, {"": "difference"} | less]
            bold += 2 * [dict.fromkeys(columns, False)]
    names = ["variant", ""] if beside.any() else ["variant"]
    shown = pd.DataFrame(lines).reindex(columns=[*names, *columns]).fillna("").rename(columns=LAYOUT)
    marks = pd.DataFrame(bold).reindex(columns=[*names, *columns], fill_value=False)
    return Table(shown, len(names), marks.set_axis(shown.columns, axis="columns"))


def elsewhere(others: pd.DataFrame) -> Table:
    """The paper's rows that nothing here stands beside."""
    labels = others["method"].where(
        others["segments"].isna(),
        others["method"] + others["segments"].map(", {} segments of ".format) + others["clusters"].map(str),
    )
    labels = labels + others["backbone"].map(", {}".format, na_action="ignore").fillna("")
    shown = pd.DataFrame({"published": labels})
    for column, name in PAPER.items():
        shown[LAYOUT[column]] = [text(value, column) for value in others[name]]
    return Table(shown.reset_index(drop=True))


def notes(table: pd.DataFrame, efficiency: dict) -> list[str]:
    """What the table was measured on and how, in sentences."""
    made = table[table["seeds"] > 0]
    first = made.iloc[0]
    devices, seeds = ", ".join(made["device"].unique()), made["seeds"].max()
    said = [
        f"{first['benchmark']}: {first['n_texts']:.0f} captions and {first['n_videos']:.0f} videos of the test split,"
        f" {first['n_texts_cut']:.0f} captions cut to the length that is read,"
        f" {first['n_videos_left_out']:.0f} videos left out for want of frames; recall and training: {devices}.",
        "t2v: text to video, v2t: video to text. R@k: recall in the first k, in per cent; MdR, MnR: median and mean"
        f" rank, from 1. A random order has t2v R@1 {100 / first['n_videos']:.1f}.",
        *(f"Weights are those {SELECTED[select]}." for select in made["select"].dropna().unique()),
        f"Costs: {efficiency['device']}, {efficiency['threads']} threads, no other job of this run beside; random"
        " weights and generated videos, the variants of a backbone in turns, medians of at least"
        f" {efficiency['repeats']}. Of one video: MB saved for the backward pass, ms one at a time and in batches of"
        " the best size, GFLOPs. training, GB: peak of a step of the authors' batch for one GPU. Bold: the best here."
        " -: none, or not measured.",
    ]
    if seeds > 1:
        said.insert(2, f"Mean ± standard deviation of up to {seeds} seeds.")
    if table["published"].notna().any():
        said.append("difference: ours less the paper's, whose memory and time are of its own GPUs.")
    return [" ".join(said)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.tables", description=__doc__)
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--efficiency", required=True, type=Path, help="the costs of the variants, json")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="results json of each variant and seed")
    parser.add_argument("--outdated", default=[], nargs="*", type=Path, help="those of them not to be read")
    parser.add_argument("--csv", required=True, type=Path)
    parser.add_argument("--shown", required=True, nargs="+", type=Path, help="the same for people: .md, .html, .tex")

    def job(arguments: argparse.Namespace) -> None:
        efficiency = json.loads(arguments.efficiency.read_text())
        missing = [path for path in arguments.cells if path in arguments.outdated or not path.exists()]
        if missing == arguments.cells:
            raise UserError(f"none of the cells is made, not {arguments.cells[0]}, for one")
        rows = [unmade(path) if path in missing else row(json.loads(path.read_text())) for path in arguments.cells]
        table, others = combine(rows, efficiency, read_paper(arguments.paper))
        with atomic(arguments.csv) as temporary:
            for_programs(table).to_csv(temporary, index=False)
        parts = [for_people(table), *notes(table, efficiency), *map(reason, missing)]
        if len(others):
            parts += ["Published, without a counterpart in this run:", elsewhere(others)]
        for path in arguments.shown:
            documents.write(path, parts)

    run(parser, job)


if __name__ == "__main__":
    main()
