"""Print the retrieval metrics of vectors that any program made."""

import argparse
from pathlib import Path

from centerclip.command import write_json


def options(parser: argparse.ArgumentParser) -> None:
    arrays = "texts [T, E], videos [V, E], of unit length, and video_of_text [T], each text's row of videos, from 0"
    parser.add_argument("file", type=Path, help=f"a .npz: {arrays}")
    grouped = "count rows of videos that are equal as one video, such as those of files with a row a caption"
    parser.add_argument("--group-equal-videos", action="store_true", help=grouped)
    parser.add_argument("--out", type=Path, help="also write all metrics here, json, as results have them")


def job(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from centerclip.evaluate import vector_file
    from centerclip.evaluate.metrics import retrieval_metrics

    found = retrieval_metrics(*vector_file.read(arguments.file, arguments.group_equal_videos))
    rows = {name.replace("_", " "): found[name] for name in ("text_to_video", "video_to_text")}
    table = pd.DataFrame.from_dict(rows, orient="index")[["R@1", "R@5", "R@10", "MdR", "MnR"]]
    print(f"{found['n_texts']} texts, {found['n_videos']} videos; a tie counts against the query\n")
    print(table.to_markdown(floatfmt=".1f"))
    if arguments.out:
        write_json(arguments.out, found)
