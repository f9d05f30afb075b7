"""The savings on a GPU: the paper's claims on cost beside ours, clustering alone, and a training step.

Weights are random and videos generated: no data is needed. The published numbers come from the authors' GPUs, so only
ratios to the baseline compare. Encoding is measured in 16 bits, one video at a time and sixteen.
"""

import argparse
from dataclasses import replace
from datetime import date
from functools import partial
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from tqdm import tqdm

from centerclip.backbones.clip import build
from centerclip.backbones.device import autocast, device_name, multiplies_bfloat16, pick_device
from centerclip.command import UserError, atomic, positive, run, typed, write_json
from centerclip.evaluate import efficiency
from centerclip.evaluate.costs import elapsed, generated, in_turns, milliseconds, now
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.reduction.spectral import spectral
from centerclip.settings import config
from centerclip.settings.cell import Cell
from centerclip.settings.schema import Runtime

BATCHES = (1, 16)
PUBLISHED = config.ROOT / "config/paper.csv"
STEPS = 3  # of training, timed after two that warm up
WIDTH = 768
# Segments, tokens, clusters: 16 videos of MSR-VTT with S=4 (ViT-B-32), one of ActivityNet with S=12, two of MSR-VTT
# with ViT-B-16 and S=4, one of ActivityNet with ViT-B-16 and S=15.
SHAPES = [(64, 147, 49), (12, 245, 49), (8, 588, 160), (15, 784, 160)]
ALGORITHMS = {"kmedoids": kmedoids, "spectral": partial(spectral, neighbours=15, sigma=None)}


def headline() -> list[Cell]:
    """The cells of the paper's claims on cost, with random weights."""
    checked = config.read_config([])
    cells = [config.cell(checked, benchmark, name) for benchmark, names in config.HEADLINE.items() for name in names]
    return [replace(cell, model=replace(cell.model, weights=None), runtime=Runtime()) for cell in cells]


def precision(device: torch.device) -> str:
    """The precision of encoding: bfloat16, or float16 on a GPU before Ampere, which has no units for bfloat16."""
    return "bfloat16" if multiplies_bfloat16(device) else "float16"


def encoding(cells: list[Cell], device: torch.device, repeats: int) -> list[dict]:
    """A row for each of the cells of one group: ms a video and clustering's share of it, for each of BATCHES."""
    models = [build(cell.model, 0, cell.data.image_size).eval().to(device) for cell in cells]
    rows = [{"benchmark": cell.benchmark, "variant": cell.variant} for cell in cells]
    for batch in BATCHES:
        videos = generated(batch, [cell.data.shape for cell in cells], device)
        with autocast(device, precision(device)):
            times = milliseconds(models, videos, repeats)
        for row, turns in zip(rows, times, strict=True):
            row[f"ms, batch {batch}"] = median(whole for whole, _ in turns)
            row[f"clustering, batch {batch}"] = median(inside / whole for whole, inside in turns)
    return rows


def step_seconds(cell: Cell, device: torch.device) -> float:
    """Median seconds of a training step of `costs.batch_size` pairs."""
    ends = [now(training.model.logit_scale) for training in islice(efficiency.training_steps(cell, device), 2 + STEPS)]
    return median(end - start for start, end in pairwise(ends[1:]))


def training(cell: Cell, device: torch.device) -> dict:
    """The result of `efficiency.training_memory` for a cell, and the seconds and pairs of a step."""
    memory = efficiency.training_memory(cell, device)
    torch.cuda.empty_cache()
    return memory | {"step_s": step_seconds(cell, device), "step_pairs": cell.costs.batch_size}


def alone(shape: tuple[int, int, int], repeats: int, device: torch.device) -> dict:
    """Median milliseconds of each of ALGORITHMS on random tokens of one of SHAPES, in turns."""
    segments, count, clusters = shape
    tokens = torch.randn(segments, count, WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    times = in_turns([partial(elapsed, partial(way, tokens, clusters), tokens) for way in ALGORITHMS.values()], repeats)
    row = {"segments": segments, "tokens": count, "clusters": clusters}
    return row | {f"{name}, ms": median(of_way) for name, of_way in zip(ALGORITHMS, times, strict=True)}


def claims(rows: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Each published time and memory of a variant of `rows` as a ratio to its baseline's, the paper's beside ours.

    Args:
        rows: `benchmark`, `variant`, `ms, batch N` and `training_gb`; the first row of a benchmark is its baseline.
        published: config/paper.csv.
    """
    ours = [f"ms, batch {batch}" for batch in BATCHES] + ["training_gb"]
    paper = published.set_index(["benchmark", "variant"])[["ms", "training_gb"]]
    rows = rows.astype(dict.fromkeys(ours, float))  # unknown memory is None
    lines = []
    for benchmark, group in rows.groupby("benchmark", sort=False):
        baseline = group.iloc[0]
        for _, row in group.iloc[1:].iterrows():
            for cost in ours:
                theirs = "training_gb" if cost == "training_gb" else "ms"
                before, after = (paper.loc[(benchmark, name), theirs] for name in (baseline["variant"], row["variant"]))
                ratio = row[cost] / baseline[cost]
                of = {"benchmark": benchmark, "variant": row["variant"], "of": cost}
                lines.append(of | {"paper": after / before, "here": ratio, "at least as good": ratio <= after / before})
    return pd.DataFrame(lines)


def page(conditions: dict, tables: dict[str, pd.DataFrame]) -> str:
    """The measurements as a markdown page."""
    said = "".join(f"- {name}: {value}\n" for name, value in conditions.items())
    parts = [f"## {title}\n\n{table.to_markdown(index=False, floatfmt='.4g')}\n" for title, table in tables.items()]
    return "\n".join([f"# On a GPU, {conditions['date']}\n\n{__doc__.splitlines()[0]}\n\n{said}", *parts])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.gpu", description=__doc__)
    parser.add_argument("--repeats", type=positive, default=10, help="turns of each method (default: 10)")
    parser.add_argument("--out", required=True, type=Path, help="write NAME.md and NAME.json")

    def job(arguments: argparse.Namespace) -> None:
        device = pick_device()
        if device.type != "cuda":
            raise UserError(f"PyTorch {torch.__version__} finds no GPU here: nothing was measured")
        cells, encoded = headline(), []
        for group in tqdm(efficiency.groups(cells), "encoding", unit="group"):
            encoded += encoding(group, device, arguments.repeats)
        steps = [training(cell, device) for cell in tqdm(cells, "training steps", unit="variant")]
        torch.cuda.empty_cache()
        rows = pd.DataFrame(encoded).join(pd.DataFrame(steps))
        clustering = [alone(shape, arguments.repeats, device) for shape in tqdm(SHAPES, "clustering", unit="shape")]
        tables = {
            "The paper's claims on cost, as ratios to the baseline": claims(rows, pd.read_csv(PUBLISHED)),
            "Encoding and training steps": rows,
            "Clustering alone": pd.DataFrame(clustering),
        }
        conditions = {
            "date": date.today().isoformat(),
            "command": typed(parser),
            "device": device_name(device),
            "encoding in": precision(device),
            "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
            "clustering in one launch": "by Triton" if find_spec("triton") else "no: Triton is missing",
        }
        text = page(conditions, tables)
        print(text)
        with atomic(Path(f"{arguments.out}.md")) as temporary:
            temporary.write_text(text)
        records = {title: table.to_dict("records") for title, table in tables.items()}
        write_json(Path(f"{arguments.out}.json"), conditions | records)

    run(parser, job)


if __name__ == "__main__":
    main()
