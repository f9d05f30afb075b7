"""One of two processes that train together, for test_training.py: `python -m support.two_processes WHAT DIRECTORY`.

WHAT is a chunk, for the gradients of a step of `batch(0)` and how an error travels, or `epoch`, to train the rest of an
epoch from the checkpoint in DIRECTORY.
"""

import sys
from pathlib import Path

import torch

from centerclip.train import processes
from centerclip.train.loop import Run, backward
from support.training import CELL, Twelve, batch, run_in


def gradients(chunk: int, device: torch.device) -> dict:
    """The loss and the gradients of a step, and what an error of the second process alone says here."""
    run = Run(CELL, device)
    share = slice(2 * processes.rank(), 2 * processes.rank() + 2)
    loss = backward(run.model, [part[share] for part in batch(0)], chunk, run.scaler)
    assert processes.anywhere(processes.rank() == 1, device)

    def fail() -> None:
        if processes.rank() == 1:
            raise FloatingPointError("here")

    try:
        processes.everywhere(fail, device)
    except FloatingPointError as error:
        reason = str(error)
    return {name: tensor.grad for name, tensor in run.model.named_parameters()} | {"loss": loss, "reason": reason}


def main() -> None:
    torch.set_num_threads(1)
    device, (what, directory) = processes.join(torch.device("cpu")), sys.argv[1:]
    if what == "epoch":
        run = run_in(Path(directory), device=device)
        run.resume()
        run.train_epoch(Twelve())
        result = run.model.state_dict()
    else:
        result = gradients(int(what), device)
    torch.save(result, Path(directory, f"{processes.rank()}.pt"))


main()
