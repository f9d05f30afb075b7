"""Train a cell. Writes its weights and the history of its epochs beside its cell.json.

After a stop or kill, the same command continues from the last checkpoint, which stays until the cell is evaluated.
"""

import argparse
import signal
from contextlib import nullcontext
from pathlib import Path

from centerclip.command import UserError, end_with_parent, natural, place, positive, write_json
from centerclip.data.datasets import source_block
from centerclip.data.datasets.checks import add_limits, check_benchmark
from centerclip.gpus import claim
from centerclip.settings import layout
from centerclip.settings.cell import check_current, read_cell
from centerclip.settings.schema import Evaluation, Runtime, Work, add_settings, settings_of


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", type=Path, help="results/BENCHMARK/VARIANT/cell.json")
    parser.add_argument("--out", type=Path, help="directory for all files (default: that of the cell)")
    help_gpus = "GPUs, or CPU processes, that share the batch; 0: share a GPU (default: 1)"
    parser.add_argument("--gpus", type=natural, default=1, help=help_gpus)
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads of all processes (default: 1)")
    add_settings(parser, Work)
    add_settings(parser, Evaluation, "evaluation_")
    started = place()
    rank, world = (int(started["RANK"]), int(started["WORLD_SIZE"])) if started else (None, 1)
    parser.set_defaults(rank=rank, world=world)
    parser.add_argument("--settings", metavar="DIGEST", help="digest of the settings that the cell must have")
    parser.add_argument("--source", type=source_block, help="`source` block that the captions come from, json")
    add_limits(parser)


def job(arguments: argparse.Namespace) -> None:
    evaluation, gpus = Evaluation(**settings_of(Evaluation, arguments, "evaluation_")), max(1, arguments.gpus)
    runtime = Runtime(**settings_of(Work, arguments), gpus=gpus, threads=arguments.threads, evaluation=evaluation)
    cell = read_cell(arguments.cell, runtime=runtime, source=arguments.source)
    check_current(arguments.cell, arguments.settings)
    if not cell.trained:
        raise UserError(f"{arguments.cell}: its variant has `train: false`: there is nothing to train")
    if arguments.rank is not None and arguments.world != runtime.gpus:
        problem = f"--gpus is {runtime.gpus}, but torchrun or srun started {arguments.world} processes together"
        raise UserError(f"{problem}: give --gpus {arguments.world}, or start this one alone")
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
        end_with_parent(signal.SIGTERM)  # the launcher's GPUs
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
