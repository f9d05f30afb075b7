"""Measure the costs of variants beside each other: time, operations, memory.

By default, measures the cells of the paper's claims on cost.
"""

import argparse
import time
from pathlib import Path

from centerclip.command import UserError, above_zero, natural, positive, writable, write_json
from centerclip.gpus import claim
from centerclip.settings.cell import Cell, read_compared


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="changes to config.yaml, as for snakemake")
    parser.add_argument("--benchmark", help="a benchmark of the config, with --variants")
    parser.add_argument("--variants", nargs="+", help="variants of the config, of one backbone and length")
    parser.add_argument("--cells", type=Path, help="results/BENCHMARK/compared.json, in place of these two")
    parser.add_argument("--repeats", type=positive, default=5, help="least turns of each variant (default: 5)")
    parser.add_argument("--largest-batch", type=positive, default=1, help="largest batch to try (default: 1)")
    budget = "minutes, over all groups, after which no further turn and no larger batch starts (default: 30)"
    parser.add_argument("--minutes", type=above_zero, default=30, help=budget)
    parser.add_argument("--threads", type=positive, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--gpus", type=natural, default=0, help="GPUs for this job alone (default: 0, share GPUs)")
    parser.add_argument("--out", type=Path, help="also write all results here, json")


def job(arguments: argparse.Namespace) -> None:
    cells = chosen(arguments)
    if arguments.out:
        writable(arguments.out)
    claim(arguments.gpus)
    import pandas as pd
    import torch
    from tqdm import tqdm

    from centerclip.backbones.device import pick_device
    from centerclip.evaluate import efficiency

    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    device, rows, groups = pick_device(), [], efficiency.groups(cells)
    end = time.perf_counter() + 60 * arguments.minutes
    for done, group in enumerate(tqdm(groups, "efficiency", unit="group")):
        begin = time.perf_counter()
        deadline = begin + (end - begin) / (len(groups) - done)  # equal parts of the remaining time
        rows += efficiency.measure(group, device, arguments.repeats, arguments.largest_batch, deadline)
    table = pd.DataFrame(rows).drop(columns="tokens_per_block").dropna(axis="columns", how="all")
    table["time / GFLOPs"] = table["ms_ratio"] / table["gflops_ratio"]
    print(table.round(3).to_markdown(index=False))
    if arguments.out:
        conditions = {"threads": torch.get_num_threads(), "repeats": arguments.repeats}
        write_json(arguments.out, conditions | {"rows": rows})


def chosen(arguments: argparse.Namespace) -> list[Cell]:
    """The cells that the command line asks for. Raises UserError for unknown ones."""
    if arguments.cells:
        return read_compared(arguments.cells)
    from centerclip.settings import config

    if bool(arguments.benchmark) != bool(arguments.variants):
        raise UserError("--benchmark and --variants go together")
    asked = {arguments.benchmark: arguments.variants} if arguments.benchmark else config.HEADLINE
    checked = config.read_config(arguments.config)
    cells = [config.cell(checked, benchmark, name) for benchmark, names in asked.items() for name in names]
    for cell in cells:
        config.check_cell(cell)
    return cells
