"""Print one table of several people's results, and the paper's, on the same models and test splits."""

import argparse
from pathlib import Path

from centerclip.command import UserError, tell, writable


def options(parser: argparse.ArgumentParser) -> None:
    what = "a zip of `centerclip export`, a results folder, a result's json, or published numbers, csv"
    parser.add_argument("sources", nargs="+", type=Path, help=f"each {what}; the first sets the test splits")
    parser.add_argument("--out", type=Path, help="also write the table here, without .csv and .md")


def job(arguments: argparse.Namespace) -> None:
    if arguments.out:
        writable(Path(f"{arguments.out}.md"))
    from centerclip.report import documents, leaderboard

    lines, names, left_out = leaderboard.compared(arguments.sources)
    for reason in left_out:
        tell(reason)
    if len(names) > 1 and all(len(line) < 2 for line in lines):
        raise UserError("nothing compares: no model is in two sources")
    document = leaderboard.for_people(lines, names)
    print(documents.markdown(document), end="")
    if arguments.out:
        documents.write(arguments.out, document, ".md", table=leaderboard.for_programs(lines, names))
