"""Training samples a second that the loader of a cell gives, with no model behind it."""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from centerclip import layout
from centerclip.cell import read_cell
from centerclip.command import UserError, natural, positive, run, write_json
from centerclip.datasets.manifest import read_manifest, usable
from centerclip.video.batches import Pairs
from centerclip.video.frames import FrameStore


def samples_per_second(pairs: Pairs, batches: list[list[int]], workers: int) -> float:
    """Rate over `batches` but the first ones, which were loaded while the workers started.

    Raises:
        UserError: there are no others.
    """
    ahead = max(1, 2 * workers)  # batches loaded before they are asked for
    if len(batches) <= ahead:
        raise UserError(f"{len(batches)} batches are too few to measure {workers} workers; {ahead + 1} is the least")
    loader = DataLoader(pairs, batch_sampler=batches, num_workers=workers)
    for number, _ in enumerate(tqdm(loader, f"{workers} workers", unit="batch"), 1):
        if number == ahead:
            start = time.perf_counter()
    return sum(map(len, batches[ahead:])) / (time.perf_counter() - start)


def rates(results: Path, workers: list[int], batches: int) -> pd.DataFrame:
    """`workers` and `samples a second` of the loader on the first `batches` of a cell, by its results.

    Raises:
        UserError: the cell is not trained, or has too few batches.
    """
    cell = read_cell(results)
    if not cell.trained:
        raise UserError(f"{results}: this cell is not trained, so that it has no batches")
    store = FrameStore(cell.path(layout.FRAMES))
    rows = usable(read_manifest(cell.path(layout.MANIFEST)), store.counts, "train")
    pairs = Pairs(rows[rows["caption"] != ""], store, cell, epoch=0)
    chosen = pairs.batches(cell.training.batch_size)[:batches]
    measured = [samples_per_second(pairs, chosen, number) for number in workers]
    return pd.DataFrame({"workers": workers, "samples a second": measured})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.loader", description=__doc__)
    parser.add_argument("--cell", required=True, type=Path, help="the results of a trained cell, whose data is loaded")
    parser.add_argument("--workers", nargs="+", type=natural, default=[0, 1, 2, 4])
    parser.add_argument("--batches", type=positive, default=40)
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        table = rates(arguments.cell, arguments.workers, arguments.batches)
        print(table.round(1).to_markdown(index=False))
        if arguments.out:
            write_json(
                arguments.out, {"settings": read_cell(arguments.cell).settings(), "rows": table.to_dict("records")}
            )

    run(parser, job)


if __name__ == "__main__":
    main()
