"""Every cell of a benchmark -> one table, as csv for programs and as markdown for people."""

import argparse
import json
from pathlib import Path

import pandas as pd

from centerclip.stage import atomic, run

DIRECTIONS = {"text_to_video": "t2v", "video_to_text": "v2t"}
METRICS = ["R@1", "R@5", "R@10", "MdR", "MnR"]
PLAIN = ("medoid", False, {})  # what a stage's other settings are in the paper's main tables
DIGITS = {"gflops": 3}  # after the point; 1 elsewhere
HEADINGS = {
    "variant": "variant",
    **{f"{short} {metric}": f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS},
    "last t2v R@1": "t2v R@1, last epoch",
    "gflops": "GFLOPs / video",
    "saved_mb": "saved for backward, MB / video",
    "ms": "ms / video",
    "train_s": "training, s",
}


def row(result: dict) -> dict:
    """A results json as a row of the table: metrics in per cent and ranks, cost per video."""
    training = result["training"] or {}
    return {
        "benchmark": result["benchmark"],
        "variant": result["variant"],
        "backbone": result["settings"]["backbone"],
        "published as": published_as(result["settings"]),
        **{f"{short} {m}": result[direction][m] for direction, short in DIRECTIONS.items() for m in METRICS},
        "last t2v R@1": training["epochs"][-1]["text_to_video"]["R@1"] if training else None,
        "gflops": result["cost"]["gflops_per_video"],
        "saved_mb": result["cost"]["saved_bytes_per_video"] / 1e6,
        "ms": result["cost"]["ms_per_video"],
        "train_s": training.get("seconds"),
        "epoch": training.get("selected_epoch"),
        "n_texts": result["n_texts"],
        "n_videos": result["n_videos"],
        "n_videos_left_out": result["n_videos_left_out"],
        "device": result["provenance"]["device"],
    }


def published_as(settings: dict) -> str | None:
    """The name the paper's numbers have for a cell that is one of its models, however the config calls it."""
    suffix = {"ViT-B-32": "", "ViT-B-16": "-b16"}.get(settings["backbone"])
    frames = 60 if settings["benchmark"] == "activitynet" else 12
    if suffix is None or settings["shift"] or settings["frames"] != frames or len(settings["stages"]) > 1:
        return None
    if not settings["stages"]:
        return f"baseline{suffix}" if settings["train"] else f"zeroshot{suffix}"
    (stage,) = settings["stages"]
    size = {"block": 6, "clusters": 160 if suffix else 49}
    others = set(stage) - {"algorithm", "segments", *size}
    if any(stage[key] != value for key, value in size.items()) or any(stage[key] not in PLAIN for key in others):
        return None
    return f"{stage['algorithm']}{suffix}-s{stage['segments']}"


def beside_paper(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """`table` with a `paper ...` column for each published metric, where the paper has the benchmark and the model."""
    metrics = [(short, metric) for short in DIRECTIONS.values() for metric in METRICS]
    names = {f"{short}_{metric.replace('@', '').lower()}": f"paper {short} {metric}" for short, metric in metrics}
    published = paper.dropna(subset="variant").rename(columns=names | {"variant": "published as"})
    kept = published[["benchmark", "published as", *names.values()]]
    return table.merge(kept, on=["benchmark", "published as"], how="left").dropna(axis="columns", how="all")


def markdown(table: pd.DataFrame) -> str:
    """The table for people: its columns in their order, then what it was measured on, in a sentence."""
    headings = HEADINGS | {column: column for column in table if column.startswith("paper ")}
    shown = pd.DataFrame({"variant": table["variant"]})
    for column in [column for column in headings if column in table and column != "variant"]:
        digits = DIGITS.get(column, 1)
        shown[headings[column]] = [f"{value:.{digits}f}" if pd.notna(value) else "-" for value in table[column]]
    first = table.iloc[0]
    words = [
        f"**{first.benchmark}** ({', '.join(table['backbone'].unique())}): {first.n_texts} captions and"
        f" {first.n_videos} videos of the test split, {first.n_videos_left_out} videos left out for want of frames.",
        "t2v: text to video, v2t: video to text. R@k: recall in the first k, in per cent; MdR, MnR: median and mean"
        f" rank, from 1. A random order has t2v R@1 {100 / first.n_videos:.1f}. Times are of a {first.device}, measured"
        " while other jobs may have run.",
    ]
    body = shown.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * (shown.shape[1] - 1))
    return f"{body}\n\n{' '.join(words)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.tables", description=__doc__)
    parser.add_argument("--paper", required=True, type=Path, help="the published numbers, csv")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="results json of each variant")
    parser.add_argument("--markdown", required=True, type=Path)
    parser.add_argument("--csv", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        table = pd.DataFrame([row(json.loads(cell.read_text())) for cell in arguments.cells])
        table = beside_paper(table, pd.read_csv(arguments.paper))
        with atomic(arguments.csv) as temporary:
            table.to_csv(temporary, index=False)
        with atomic(arguments.markdown) as temporary:
            temporary.write_text(markdown(table))

    run(parser, job)


if __name__ == "__main__":
    main()
