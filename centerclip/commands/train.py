"""Train a cell: its weights and the history of its epochs come out, beside its cell.json.

Stopped or killed, the same command goes on from the last checkpoint. That stays until the cell has been evaluated.
"""

import argparse
import signal
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path

from centerclip.command import UserError, above_zero, end_with_parent, natural, place, positive, write_json
from centerclip.data.datasets import source_block
from centerclip.data.datasets.checks import add_limits, check_benchmark
from centerclip.gpus import claim
from centerclip.settings import layout
from centerclip.settings.cell import Runtime, read_cell


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", type=Path, help="results/BENCHMARK/VARIANT/cell.json")
    parser.add_argument("--out", type=Path, help="directory of all that is written (default: that of the cell)")
    parser.add_argument("--gpus", type=natural, help="the batch is split over them, or CPU processes; 0: take none")
    parser.add_argument("--workers", type=natural, help="processes that load frames, a GPU")
    parser.add_argument("--chunk", type=positive, help="pairs a GPU encodes at a time (default: all that fit)")
    parser.add_argument("--grad-checkpointing", action="store_true", help="compute activations again: less memory")
    parser.add_argument("--checkpoint-minutes", type=above_zero, help="between checkpoints")
    parser.add_argument("--threads", type=positive, help="of the CPU, of all processes")
    parser.add_argument("--evaluation-batch-size", type=positive, help="videos or captions")
    parser.add_argument("--evaluation-workers", type=natural, help="processes that load frames")
    rank, world = place() or (None, 1)
    parser.set_defaults(**asdict(Runtime()), rank=rank, world=world)
    parser.add_argument("--source", type=source_block, help="captions by this `source` block, json")
    add_limits(parser)


def job(arguments: argparse.Namespace) -> None:
    chosen = {field.name: getattr(arguments, field.name) for field in fields(Runtime)}
    runtime = Runtime(**chosen | {"gpus": max(1, arguments.gpus)})
    cell = read_cell(arguments.cell, runtime=runtime, source=arguments.source)
    if not cell.trained:
        raise UserError(f"{arguments.cell}: this cell is evaluated as it starts, and not trained")
    if cell.training.batch_size % runtime.gpus:
        raise UserError(f"--gpus {runtime.gpus} does not divide training.batch_size {cell.training.batch_size}")
    if arguments.rank is None:
        check_benchmark(cell, arguments)
        claim(arguments.gpus)
        if arguments.gpus > 1:
            from centerclip.train import processes

            processes.launch(arguments.gpus, arguments.log)
            return
    else:
        end_with_parent(signal.SIGTERM)  # whose GPU it uses
    import torch

    from centerclip.backbones.weights import save_weights
    from centerclip.train import checkpoints, loop

    def path(template: str) -> Path:
        return arguments.out / Path(template).name if arguments.out else cell.path(template)

    torch.set_num_threads(max(1, runtime.threads // arguments.world))
    directory = path(layout.CHECKPOINTS)
    with nullcontext() if arguments.rank else checkpoints.sole_owner(directory):
        weights, history = loop.train(cell, directory, path(layout.TENSORBOARD))
        if arguments.rank:
            return
        save_weights(weights, cell.model.backbone, path(layout.WEIGHTS))
        write_json(path(layout.HISTORY), history)  # The last checkpoint stays: from it, both are written again at once.
