"""One of two processes that take a training step together, for test_training.py: CHUNK, DIRECTORY to write to."""

import sys
from pathlib import Path

import torch
from test_training import SETTINGS, batch

from centerclip import processes
from centerclip.training import Run, backward

chunk, directory = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
run = Run(SETTINGS, "", processes.join(torch.device("cpu")))
own = slice(2 * processes.rank(), 2 * processes.rank() + 2)
loss = backward(run.model, [part[own] for part in batch(0)], chunk, run.scaler)
assert processes.anywhere(processes.rank() == 1, run.device)


def fail() -> None:
    if processes.rank() == 1:
        raise FloatingPointError("here")


try:
    processes.everywhere(fail, run.device)
except FloatingPointError as error:
    said = str(error)
gradients = {name: parameter.grad for name, parameter in run.model.named_parameters()}
torch.save(gradients | {"loss": loss, "said": said}, directory / f"{processes.rank()}.pt")
