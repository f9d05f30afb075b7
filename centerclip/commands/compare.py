"""Compare results with a baseline's, query by query: differences with intervals and p-values, and queries that flip."""

import argparse
from pathlib import Path

from centerclip.command import UserError, natural


def options(parser: argparse.ArgumentParser) -> None:
    files = "results/BENCHMARK_VARIANT.json, .ranks.npz, or .npz as for `centerclip metrics`"
    parser.add_argument("baseline", type=Path, help=files)
    parser.add_argument("others", nargs="+", type=Path, help="further seeds of the baseline, and other models")
    grouped = "in files of vectors, count equal rows of videos as one video"
    parser.add_argument("--group-equal-videos", action="store_true", help=grouped)
    parser.add_argument("--flips", type=natural, default=0, help="largest gains and losses to list (default: 0)")
    parser.add_argument("--out", type=Path, help="also write the output to OUT.md and all numbers to OUT.csv")


def job(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from centerclip.report import compare, documents

    files = [arguments.baseline, *arguments.others]
    baseline, *others = compare.models(files, arguments.group_equal_videos)
    if not others:
        raise UserError(f"{arguments.baseline}: all files are results of the same model; add those of another model")
    compared = [compare.compare(model, baseline) for model in others]
    document = [part for comparison in compared for part in compare.for_people(comparison, arguments.flips)]
    print(documents.markdown(document), end="")
    if arguments.out:
        table = pd.concat(map(compare.for_programs, compared))
        documents.write(arguments.out, document, ".md", table=table)
