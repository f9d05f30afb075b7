"""Check the frames of a folder of videos, or all files of a results folder."""

import argparse
from pathlib import Path

from centerclip.command import UserError, above_zero, atomic, positive, writable
from centerclip.data.video.watch import add_stall_seconds


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of videos, with its subfolders; or results/")
    parser.add_argument("--out", type=Path, help="for videos: csv to write, a row for each file")
    parser.add_argument("--fps", type=above_zero, default=3, help="frames stored a second of video (default: 3)")
    parser.add_argument("--processes", type=positive, default=1, help="files to read at a time (default: 1)")
    add_stall_seconds(parser)


def job(arguments: argparse.Namespace) -> None:
    from centerclip.data.video import audit
    from centerclip.report import audit as results

    if results.is_results(arguments.folder):
        print(results.audit(arguments.folder))
        return
    if not arguments.out:
        raise UserError(f"{arguments.folder}: not a results folder; for videos, --out names the csv to write")
    writable(arguments.out)
    report = audit.table(arguments.folder, arguments.fps, arguments.processes, arguments.stall_seconds)
    with atomic(arguments.out) as temporary:
        report.to_csv(temporary, index=False)
    print(audit.summary(report))
