"""Print the retrieval metrics of vectors that any program made."""

import argparse
from pathlib import Path

from centerclip.command import write_json

SHOWN = ("R@1", "R@5", "R@10", "MdR", "MnR")


def options(parser: argparse.ArgumentParser) -> None:
    text = (
        "a .npz: texts [T, E], videos [V, E], of unit length, and video_of_text [T], each text's row of videos, from 0"
    )
    parser.add_argument("file", type=Path, help=text)
    grouped = "count rows of videos that are equal as one video, such as those of files with a row a caption"
    parser.add_argument("--group-equal-videos", action="store_true", help=grouped)
    parser.add_argument("--out", type=Path, help="also write all metrics here, json, as results have them")


def job(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from centerclip.evaluate import given
    from centerclip.evaluate.metrics import retrieval_metrics

    found = retrieval_metrics(*given.read(arguments.file, arguments.group_equal_videos))
    directions = {"text to video": found["text_to_video"], "video to text": found["video_to_text"]}
    rows = [{"": name, **{key: values[key] for key in SHOWN}} for name, values in directions.items()]
    print(f"{found['n_texts']} texts, {found['n_videos']} videos; a tie counts against the query\n")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))
    if arguments.out:
        write_json(arguments.out, found)
