"""One of two processes that train together, for test_training.py: `python -m support.two_processes WHAT DIRECTORY`.

WHAT is a chunk, for the gradients of a step of `batch(0)` and how an error travels; `methods`, for the gradients of
each of METHODS; `epoch`, to train the rest of an
epoch from the checkpoint in DIRECTORY; or a split, on which the model of a third argument, a cell.json, is evaluated.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch

from centerclip.backbones.clip import build
from centerclip.data.datasets.manifest import read_manifest, usable
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.features import evaluate
from centerclip.settings import layout
from centerclip.settings.cell import Cell, read_cell
from centerclip.train import processes
from centerclip.train.loop import Run, backward
from support.cells import tiny_cell
from support.methods import METHODS
from support.training import CELL, Twelve, batch, run_in


def gradients(cell: Cell, device: torch.device, chunk: int = 4) -> dict:
    """The loss and the gradients of a step."""
    run = Run(cell, device)
    run.chunk = chunk
    share = slice(2 * processes.rank(), 2 * processes.rank() + 2)
    loss = backward(run, [part[share] for part in batch(0)], seed=0)
    trains = {name: tensor.grad for name, tensor in run.model.named_parameters() if tensor.requires_grad}
    return trains | {"loss": loss}


def full_memory_of_the_other(device: torch.device) -> str:
    """What it says here that the second process alone has no memory for the sums of gradients."""

    def differentiate() -> None:
        weight = torch.nn.Parameter(torch.ones(2))
        with processes.added_up([weight], passes=1):
            weight.sum().backward()

    full = mock.patch.object(processes, "Bucket", side_effect=torch.OutOfMemoryError("here"))
    try:
        with full if processes.rank() == 1 else nullcontext():
            processes.everywhere(differentiate, device)
    except torch.OutOfMemoryError as error:
        return str(error)


def error_of_the_other(device: torch.device) -> str:
    """What an error of the second process alone says here."""
    assert processes.anywhere(processes.rank() == 1, device)

    def fail() -> None:
        weight = torch.nn.Parameter(torch.ones(2))
        with processes.added_up([weight], passes=1):
            if processes.rank() == 1:
                raise FloatingPointError("here")
            weight.sum().backward()

    try:
        processes.everywhere(fail, device)
    except FloatingPointError as error:
        return str(error)


def metrics(split: str, path: str) -> dict:
    """The metrics of the model that a cell starts as on a split."""
    cell = read_cell(path)
    manifest, store = read_manifest(cell.path(layout.MANIFEST)), FrameStore(cell.path(layout.FRAMES))
    return evaluate(build(cell.model, 0), usable(manifest, store.counts, split), store, cell)


def main() -> None:
    torch.set_num_threads(1)
    device, (what, directory, *path) = processes.join(torch.device("cpu")), sys.argv[1:]
    if what == "epoch":
        run = run_in(Path(directory), device=device)
        run.resume()
        run.train_epoch(Twelve())
        result = run.model.state_dict()
    elif what == "methods":
        result = {name: gradients(tiny_cell(model=model), device) for name, model in METHODS.items()}
    elif path:
        result = metrics(what, *path)
    else:
        result = gradients(CELL, device, int(what))
        result |= {"full": full_memory_of_the_other(device), "reason": error_of_the_other(device)}
    torch.save(result, Path(directory, f"{processes.rank()}.pt"))


main()
