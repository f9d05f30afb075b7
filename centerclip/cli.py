"""Text-video retrieval with token clustering, for your own videos. (The paper's tables are Snakemake's: README.md.)"""

import argparse
import sys
from pathlib import Path

from centerclip import backbones
from centerclip.stage import UserError, positive, run
from centerclip.watch import STALL_SECONDS

# What is heavy to import is imported where it is used: `--help` should not wait for it.


def main() -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
    parser = argparse.ArgumentParser(prog="centerclip", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    search = commands.add_parser("search", help="search a folder of videos by a sentence")
    search.add_argument("folder", type=Path, help="of videos; folders in it count too")
    search.add_argument("sentence")
    search.add_argument("--top", type=positive, default=5, help="how many videos to print (default: 5)")
    search.set_defaults(job=search_folder)
    audit = commands.add_parser("audit", help="see whether the frames of a folder of videos can be trusted")
    audit.add_argument("folder", type=Path, help="of videos; folders in it count too")
    audit.add_argument("--out", required=True, type=Path, help="a row for each file, csv")
    audit.add_argument("--fps", type=float, default=3, help="frames stored a second of video (default: 3)")
    audit.add_argument("--size", type=positive, default=224, help="side of the stored frames, pixels (default: 224)")
    audit.add_argument("--processes", type=positive, default=1, help="files read at a time (default: 1)")
    audit.set_defaults(job=audit_folder)
    for command in (search, audit):
        command.add_argument(
            "--stall-seconds",
            type=float,
            default=STALL_SECONDS,
            help=f"end a video that gives no frame for so long (default: {STALL_SECONDS})",
        )
    tokens = commands.add_parser("tokens", help="draw which patches of a video go on after clustering")
    tokens.add_argument("video", type=Path)
    tokens.add_argument("--out", required=True, type=Path, help="the picture: .png, .svg or .pdf")
    tokens.add_argument(
        "--stage",
        type=int,
        nargs=3,
        metavar=("BLOCK", "SEGMENTS", "CLUSTERS"),
        help="with --weights: after how many blocks, into how many segments of how many kept tokens (default: 6 4 49)",
    )
    tokens.set_defaults(job=draw_tokens)
    for command in (search, tokens):
        model = command.add_mutually_exclusive_group()
        model.add_argument("--cell", type=Path, action="append", help="a trained model: its results/*.json")
        model.add_argument("--weights", default="openai", help="or weights: openai (default), .safetensors or .pt")
        command.add_argument("--backbone", choices=backbones.names(), help="with --weights: whose (default: ViT-B-32)")
        command.add_argument("--frames", type=positive, help="of a video, evenly spread (default: the cell's, or 12)")
    efficiency = commands.add_parser("efficiency", help="measure what variants cost")
    if "efficiency" in sys.argv:
        add_efficiency(efficiency)
    run(parser, lambda arguments: arguments.job(arguments))


def add_efficiency(parser: argparse.ArgumentParser) -> None:
    from centerclip import efficiency

    efficiency.add_options(parser)
    parser.set_defaults(job=efficiency.job)


def search_folder(arguments: argparse.Namespace) -> None:
    from centerclip import search

    settings, *others = models(arguments, [[]])
    if others:
        raise UserError("search takes one --cell")
    search.search(arguments.folder, arguments.sentence, settings, arguments.top, arguments.stall_seconds)


def audit_folder(arguments: argparse.Namespace) -> None:
    from centerclip import audit

    audit.job(arguments)


def draw_tokens(arguments: argparse.Namespace) -> None:
    from centerclip import pictures

    block, segments, clusters = arguments.stage or (6, 4, 49)
    stage = {"block": block, "segments": segments, "clusters": clusters}
    settings = models(arguments, [[{"algorithm": name} | stage] for name in ("kmedoids", "spectral")])
    pictures.save(pictures.tokens_of_file(arguments.video, settings), arguments.out)


def models(arguments: argparse.Namespace, stages: list[list[dict]]) -> list[dict]:
    """The settings of the models asked for: of each cell or, without, of the weights with each of `stages`."""
    from centerclip.retriever import plain, read_cell

    if not arguments.cell:
        backbone = arguments.backbone or "ViT-B-32"
        return [plain(backbone, arguments.weights, arguments.frames or 12, own) for own in stages]
    if arguments.backbone or getattr(arguments, "stage", None):
        raise UserError("a cell has its own backbone and stages: --backbone and --stage go with --weights")
    frames = {"frames": arguments.frames} if arguments.frames else {}
    return [read_cell(cell) | frames for cell in arguments.cell]


if __name__ == "__main__":
    main()
