"""Say what a run will take before anything runs: GPU-hours, downloads, disk, decoding. Takes seconds.

Finished work is left out. Operations agree with PyTorch's count to 1 %. Hours are operations divided by a share of
each GPU's peak, which is assumed and printed, by your --tflops, or by what --measure finds on this machine.
"""

import argparse
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from centerclip.command import above_zero, positive
from centerclip.data.download import sources
from centerclip.gpus import claim
from centerclip.report import forecast
from centerclip.report.forecast import Rates, Work
from centerclip.settings import layout
from centerclip.settings.config import read_config

DELETED = {  # when the files of each stage of `forecast.disk` can be deleted
    "archives": "when all manifests are made: results/downloads/*/*.zip, *.tar",
    "unpacked": "when no cell of the dataset will run again: results/downloads/*/*.unpacked",
    "frames": "when no cell of the dataset will run again: results/*/frames",
    "checkpoints": "the workflow does it when a cell is evaluated",
    "weights": "when the tables are made, if you do not search with them",
}


def options(parser: argparse.ArgumentParser) -> None:
    changes = "changes to config.yaml, as for snakemake"
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help=changes)
    parser.add_argument("--gpus", type=positive, default=1, help="number of GPUs that work side by side (default: 1)")
    parser.add_argument("--gpu", choices=forecast.PEAKS, default="A100", help="GPU to show hours for (default: A100)")
    rates = "your GPU's 10^12 operations a second, in float16 and in float32"
    parser.add_argument("--tflops", type=above_zero, nargs=2, metavar=("HALF", "SINGLE"), help=rates)
    parser.add_argument("--measure", action="store_true", help="run a step of each model here: up to 3 minutes")


def job(arguments: argparse.Namespace) -> None:
    config = read_config(arguments.configfile)
    works = forecast.works(config)
    every = [work for parts in works.values() for work in parts]
    by_gpu = {name: forecast.of_gpu(*peaks, forecast.SHARE) for name, peaks in forecast.PEAKS.items()}
    gpu = arguments.gpu
    if arguments.tflops:
        gpu, by_gpu = "yours", {"yours": forecast.of_gpu(*arguments.tflops)}
    if arguments.measure:
        claim(1)
        gpu, rates = forecast.measured(every)
        by_gpu = {gpu: rates}
    amount = ["steps", "PFLOPs of training", "of evaluation", f"GPU-hours, {gpu}"]
    cells = [[work.cell.benchmark, work.cell.name, *amounts([work], by_gpu[gpu])] for work in every]
    show(["benchmark", "cell", *amount], cells)
    for work in {(work.cell.benchmark, work.cell.variant): work for work in every if work.left}.values():
        if line := forecast.costly_clustering(work.cell):
            print(f"{work.cell.benchmark} {work.cell.variant}: {line}", end="\n\n")
    show_storage(config, every, arguments.gpus)
    rows = []
    for name, parts in (works | {"all": every}).items():
        counts = [len(parts), sum(work.left for work in parts), sum(work.steps > 0 for work in parts)]
        rows.append([name, *counts, *amounts(parts, by_gpu[gpu])])
    show(["benchmark", "cells", "left", "trainings", *amount], rows)
    show_hours(every, by_gpu, arguments.gpus)
    print("A half-finished training counts as whole. If the batch does not fit a GPU's memory, add a third.")
    unmeasured = [name for name in works if not Path(layout.COSTS.format(benchmark=name)).exists()]
    if config["run"]["costs"] and unmeasured:
        minutes = config["run"]["costs_minutes"]
        print(f"Measuring costs (run.costs) adds up to {minutes:g} minutes for each of {', '.join(unmeasured)}.")


def show(header: list[str], rows: list[list]) -> None:
    """Print a table of texts and numbers, with at least three digits, and ? for None. Nothing without rows."""
    if rows:
        texts = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
        sides = ["left" if isinstance(cell, str) else "right" for cell in rows[0]]
        print(tabulate(texts, header, "pipe", disable_numparse=True, colalign=sides), end="\n\n")


def number(value: float | None) -> str:
    """A number for a table: a whole one, or to three digits."""
    if value is None:
        return "?"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amounts(works: list[Work], rates: Rates) -> list[float]:
    """Steps, PFLOPs of training and of evaluation, and hours."""
    training, evaluation = (sum(getattr(work, what) for work in works) / 1e15 for what in ("training", "evaluation"))
    return [sum(work.steps for work in works), training, evaluation, sum(work.hours(rates) for work in works)]


def show_hours(works: list[Work], by_gpu: dict[str, Rates], gpus: int) -> None:
    """Print the hours of all work on each GPU, and on several side by side."""
    rows = []
    for name, rates in by_gpu.items():
        jobs = [(work.hours(rates), work.cell.runtime.gpus if work.steps else 1) for work in works]
        peaks = [*forecast.PEAKS[name], f"{forecast.SHARE:.0%}"] if name in forecast.PEAKS else ["", "", "none"]
        rows.append([name, *peaks, sum(hours for hours, _ in jobs), forecast.makespan(jobs, gpus)])
    hours = ["GPU-hours", f"hours, {gpus} side by side"]
    show(["GPU", "peak TFLOPs in float16", "in float32", "share assumed", *hours], rows)


def show_storage(config: dict, works: list[Work], gpus: int) -> None:
    """Print downloads, frames to decode, and disk by stage."""
    stored = forecast.stored(config, works)
    files = {name: each.downloads for name, each in stored.items()}
    rows = downloads(files | {"weights": forecast.weights_to_download(config, works)})
    show(["files for", "download", "GB", "licence"], rows)
    for name in files:
        for line in sources.wishes(name, config["benchmarks"][name]["source"]):
            print(line, end="\n\n")
    rows = [
        [name, of.videos, of.frames and of.frames / 1e6, forecast.gigabytes([of.frames_bytes]), of.core_hours]
        for name, of in stored.items()
    ]
    show(["frames of", "videos", "10^6 frames", "GB", "core-hours to decode"], rows)
    sizes = forecast.disk(works, stored.values(), gpus)
    show(["disk", "GB", "can be deleted"], [[of, forecast.gigabytes(sizes[of]), when] for of, when in DELETED.items()])
    bytes_of_frames = f"{forecast.FRAME_BYTES:,} bytes each at {forecast.FRAME_SIZE} px"
    print(f"Frames are estimated: {bytes_of_frames}, the mean of 20 real clips.", end="\n\n")


def downloads(files: dict[str, list[sources.Source]]) -> list[list]:
    """A row for the files of each dataset that have the same licence."""
    rows = []
    for name, wanted in files.items():
        for licence, group in groupby(wanted, lambda file: file.licence):
            same = list(group)
            names = ", ".join(file.file for file in same[:2]) + (f" and {len(same) - 2} more" if len(same) > 2 else "")
            rows.append([name, names, forecast.gigabytes([file.size for file in same]), licence or "?"])
    return rows
