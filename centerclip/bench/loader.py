"""Training samples a second that the loader of a cell gives, with no model behind it."""

import argparse
import time
from pathlib import Path

import lmdb
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from centerclip.command import UserError, natural, positive, run, write_json
from centerclip.data.video import batches
from centerclip.data.video.batches import Pairs
from centerclip.data.video.extraction import jpeg
from centerclip.data.video.frames import FrameStore
from centerclip.data.video.shards import put
from centerclip.evaluate.costs import smooth_videos
from centerclip.settings.cell import Cell, read_cell

NOISE = 6  # of 255, with which a made-up picture takes about 10 KB, as real ones do


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


def stored(cell: Cell) -> Pairs:
    """The training pairs of a cell whose frames are stored. Raises UserError for a cell that is not trained."""
    if not cell.trained:
        raise UserError(f"{cell.name}: this cell is not trained, so that it has no batches")
    _, store, splits = batches.stored(cell, ["train"])
    rows = splits["train"]
    return Pairs(rows[rows["caption"] != ""], store, cell, epoch=0)


def made_up(cell: Cell, directory: Path, videos: int = 128, captions: int = 20) -> Pairs:
    """Training pairs of generated videos for a cell without data, stored in `directory`."""
    names = [f"video{number}" for number in range(videos)]
    with lmdb.open(str(directory / "0000.lmdb"), subdir=False, lock=False) as shard:
        for number, name in enumerate(tqdm(names, "made-up videos", unit="video")):
            (video,) = smooth_videos(1, cell.data.frames, cell.data.image_size, seed=number)
            noisy = 128 + 40 * video + NOISE * torch.randn(video.shape, generator=torch.Generator().manual_seed(number))
            pictures = noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
            put(shard, name, [jpeg(Image.fromarray(picture)) for picture in pictures])
    report = directory / "report.csv"
    pd.DataFrame({"video_id": names, "frames": cell.data.frames, "shard": "0000.lmdb"}).to_csv(report, index=False)
    rows = pd.DataFrame({"video_id": names * captions, "caption": "two people talk about a car"})
    return Pairs(rows, FrameStore(report), cell, epoch=0)


def rates(pairs: Pairs, batch_size: int, workers: list[int], batches: int) -> pd.DataFrame:
    """`workers` and `samples a second` of the loader on the first `batches` of `pairs`. Raises UserError if there are
    too few."""
    chosen = pairs.batches(batch_size)[:batches]
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
        cell = read_cell(arguments.cell)
        pairs = stored(cell)
        table = rates(pairs, cell.training.batch_size, arguments.workers, arguments.batches)
        print(table.round(1).to_markdown(index=False))
        if arguments.out:
            write_json(arguments.out, {"settings": cell.settings(), "rows": table.to_dict("records")})

    run(parser, job)


if __name__ == "__main__":
    main()
