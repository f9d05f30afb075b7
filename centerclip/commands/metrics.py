"""Print the retrieval metrics of vectors that any program made, with their intervals over videos."""

import argparse
from pathlib import Path

from centerclip.command import writable, write_json


def options(parser: argparse.ArgumentParser) -> None:
    arrays = "texts [T, E], videos [V, E] or [V, k, E], unit vectors, and video_of_text [T], each text's row of videos"
    parser.add_argument("file", type=Path, help=f"a .npz: {arrays}")
    grouped = "count equal rows of videos as one video, where the file repeats a video for each caption"
    parser.add_argument("--group-equal-videos", action="store_true", help=grouped)
    written = "also write all metrics and `intervals` here, json"
    parser.add_argument("--out", type=Path, help=written)


def job(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from centerclip.evaluate import metrics, statistics, vector_file
    from centerclip.evaluate.ranks import DIRECTIONS

    if arguments.out:
        writable(arguments.out)
    texts, videos, truth = vector_file.read(arguments.file, arguments.group_equal_videos)
    answers = metrics.answers(texts, videos, truth)
    found = metrics.metrics(answers, len(videos))
    estimates = statistics.estimates([metrics.numbered(answers, truth, len(videos))])
    rows = {}
    for direction, short in DIRECTIONS.items():
        recalls = {f"R@{k}": f"{estimates[f'{short} R@{k}']:.1f}" for k in statistics.RECALLS}
        rows[direction.replace("_", " ")] = recalls | {key: f"{found[direction][key]:.1f}" for key in ("MdR", "MnR")}
    print(f"{len(texts)} texts, {len(videos)} videos; a tie counts against the query; [95 % interval over videos]\n")
    print(pd.DataFrame.from_dict(rows, orient="index").to_markdown(disable_numparse=True, stralign="right"))
    if arguments.out:
        intervals = {name: [estimate.low, estimate.high] for name, estimate in estimates.items()}
        write_json(arguments.out, found | {"intervals": intervals})
