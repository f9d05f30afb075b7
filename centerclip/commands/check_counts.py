"""Check that a benchmark has as many videos and captions as it should."""

import argparse
from pathlib import Path

from centerclip.command import atomic
from centerclip.datasets.manifest import check_counts, counted, read_manifest


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="its name, for the message")
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--expect", nargs="*", default=[], help="such as train.videos=9000 test.captions=1000")
    parser.add_argument("--out", required=True, type=Path, help="the counts, as text")


def job(arguments: argparse.Namespace) -> None:
    manifest = read_manifest(arguments.manifest)
    expected = {key: int(number) for key, number in (word.split("=") for word in arguments.expect)}
    check_counts(manifest, expected, arguments.benchmark)
    with atomic(arguments.out) as temporary:
        temporary.write_text("".join(f"{key}: {number:,}\n" for key, number in counted(manifest).items()))
