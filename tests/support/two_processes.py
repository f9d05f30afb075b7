"""One of two processes that train together, for tests: `python -m support.two_processes WHAT DIRECTORY [CELL]`.

WHAT is `step`, for the gradients of a step of `batch(0)` in several ways, and what a failure of the second process does
here; `methods`, for the gradients of each of METHODS; `epoch`, to train the rest of an epoch from the checkpoint in
DIRECTORY; or `metrics`, to evaluate the model of a CELL.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from centerclip.settings.cell import Cell, Runtime
from centerclip.train import processes
from centerclip.train.loop import Run, backward, train_step
from support.cells import tiny_cell
from support.methods import METHODS
from support.training import CELL, Twelve, batch, metrics, run_in


def share() -> list[torch.Tensor]:
    """This process's half of `batch(0)`."""
    return [part[2 * processes.rank() :][:2] for part in batch(0)]


def gradients(cell: Cell, device: torch.device, chunk: int = 4) -> dict:
    """The loss and the gradients of a step."""
    run = Run(cell, device)
    run.chunk = chunk
    loss = backward(run, share(), seed=0)
    trains = {name: tensor.grad for name, tensor in run.model.named_parameters() if tensor.requires_grad}
    return trains | {"loss": loss}


def gradients_of_spare_parameters() -> list[torch.Tensor | None]:
    """The gradients of a parameter that both processes use, one that the first uses in its first chunk, and a spare."""
    model = torch.nn.ParameterList([torch.ones(1), torch.ones(1), torch.ones(1)])
    averaged = processes.averaged(model)
    with averaged.no_sync():
        averaged(model[processes.rank() == 0] * 2).backward()
    averaged(model[0] * 3).backward()
    return [parameter.grad for parameter in model]


def full_memory_of_the_other(device: torch.device, backwards: bool) -> tuple[int, float]:
    """The chunk and the loss of a step here, where the second process alone holds one video, forwards or backwards."""
    run = Run(CELL, device)
    encode = run.model.encode_video

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    def small(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = encode(frames, mask)
        if len(frames) > 1:
            vectors.register_hook(full) if backwards else full()
        return vectors

    if processes.rank() == 1:
        run.model.encode_video = small
    loss = train_step(run, share(), 1.0)
    return run.chunk, loss


def error_of_the_other(device: torch.device) -> str:
    """What an error of the second process alone says here."""
    assert processes.any_over_ranks(processes.rank() == 1, device)

    def fail() -> None:
        if processes.rank() == 1:
            raise FloatingPointError("here")

    try:
        processes.fail_together(fail, device)
    except FloatingPointError as error:
        return str(error)


def main() -> None:
    torch.set_num_threads(1)
    device, (what, directory, *path) = processes.join(lambda: torch.device("cpu")), sys.argv[1:]
    if what == "epoch":
        run = run_in(Path(directory), device=device)
        run.resume()
        run.train_epoch(Twelve())
        result = run.model.state_dict()
    elif what == "methods":
        result = {name: gradients(tiny_cell(model=model), device) for name, model in METHODS.items()}
    elif what == "step":
        ways = (1, Runtime()), (2, Runtime()), (2, Runtime(grad_checkpointing=True))
        result = {"steps": [gradients(replace(CELL, runtime=runtime), device, chunk) for chunk, runtime in ways]}
        result["spare"] = gradients_of_spare_parameters()
        result["full"] = [full_memory_of_the_other(device, backwards) for backwards in (False, True)]
        result["reason"] = error_of_the_other(device)
    else:
        result = metrics(*path)
    torch.save(result, Path(directory, f"{processes.rank()}.pt"))


main()
