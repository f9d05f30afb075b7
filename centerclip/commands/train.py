"""Train a cell: its weights and the history of its epochs come out, beside its cell.json.

Stopped or killed, the same command goes on from the last checkpoint.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

from centerclip import layout
from centerclip.cell import Runtime, read_cell
from centerclip.command import UserError, positive, write_json
from centerclip.gpus import claim


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", type=Path, help="results/BENCHMARK/VARIANT/cell.json")
    parser.add_argument("--out", type=Path, help="directory of all that is written (default: that of the cell)")
    number = {"type": int, "metavar": "N"}
    parser.add_argument(
        "--gpus",
        default=Runtime.gpus,
        help="the batch is split over them, or over CPU processes; 0: take none",
        **number,
    )
    parser.add_argument("--workers", default=Runtime.workers, help="processes that load frames, a GPU", **number)
    parser.add_argument("--chunk", type=positive, help="pairs a GPU encodes at a time (default: all that fit)")
    parser.add_argument("--grad-checkpointing", action="store_true", help="compute activations again: less memory")
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=Runtime.checkpoint_minutes, help="between checkpoints"
    )
    parser.add_argument("--threads", type=positive, default=Runtime.threads, help="of the CPU, of all processes")
    parser.add_argument(
        "--evaluation-batch-size", type=positive, default=Runtime.evaluation_batch_size, help="videos or captions"
    )
    parser.add_argument(
        "--evaluation-workers", default=Runtime.evaluation_workers, help="processes that load frames", **number
    )


def job(arguments: argparse.Namespace) -> None:
    from centerclip.train import processes

    names = ("workers", "chunk", "grad_checkpointing", "checkpoint_minutes", "threads", "evaluation_batch_size",
             "evaluation_workers")  # fmt: skip
    runtime = Runtime(gpus=max(1, arguments.gpus), **{name: getattr(arguments, name) for name in names})
    cell = read_cell(arguments.cell, runtime=runtime)
    if not cell.trained:
        raise UserError(f"{arguments.cell}: this cell is evaluated as it starts, and not trained")
    if cell.training.batch_size % runtime.gpus:
        raise UserError(f"--gpus {runtime.gpus} does not divide training.batch_size {cell.training.batch_size}")
    if not processes.launched():
        claim(arguments.gpus)
        if arguments.gpus > 1:
            return processes.launch(arguments.gpus, arguments.log)
    import torch

    from centerclip.model.clip import save_weights
    from centerclip.train import checkpoints, loop

    def path(template: str) -> Path:
        return arguments.out / Path(template).name if arguments.out else cell.path(template)

    torch.set_num_threads(max(1, runtime.threads // processes.world()))
    directory = path(layout.CHECKPOINTS)
    with nullcontext() if processes.rank() else checkpoints.sole_owner(directory):
        weights, history = loop.train(cell, directory, path(layout.TENSORBOARD))
        if processes.rank():
            return
        save_weights(weights, cell.model.backbone, path(layout.WEIGHTS))
        write_json(path(layout.HISTORY), history)
        checkpoints.remove(directory)
