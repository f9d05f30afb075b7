"""Several processes that train one model together, each on a GPU, by torch.distributed. All functions also work in a
process alone."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from signal import SIG_IGN, Signals, getsignal
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from centerclip.command import UserError, last_error, place

TOGETHER = (FloatingPointError, torch.OutOfMemoryError)  # errors that all processes raise if one did, the graver last
Result = TypeVar("Result")


def launched() -> bool:
    """Whether this process has joined others."""
    return dist.is_initialized()


def launch(count: int, log: Path | None) -> None:
    """Run this command of `centerclip`, which logs to `log`, in `count` processes, as torchrun does. Raises UserError
    if a process failed or a machine has some GPUs but fewer than `count`; KeyboardInterrupt after Ctrl-C."""
    if 0 < torch.cuda.device_count() < count:
        raise UserError(f"training.gpus is {count}, and this job has {torch.cuda.device_count()}")
    ends = [end for end in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if getsignal(Signals[end]) is not SIG_IGN]
    plan = LaunchConfig(1, 1, count, run_id="train", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
                        signals_to_handle=",".join(ends))  # fmt: skip
    for module in ("agent.server.api", "multiprocessing.api"):  # which warn of each signal that they pass on
        logging.getLogger(f"torch.distributed.elastic.{module}").setLevel(logging.ERROR)
    try:
        elastic_launch(plan, sys.executable)("-m", "centerclip", *sys.argv[1:])
    except ChildFailedError as error:
        rank = error.get_first_failure()[0]
        reason = last_error(Path(f"{log}.{rank}") if rank else log) if log else None
        raise UserError(reason or f"process {rank} of {count} failed") from None
    except SignalException as error:
        if error.sigval == Signals.SIGINT:
            raise KeyboardInterrupt from None
        raise UserError(f"stopped by a signal, and its {count} processes with it") from None


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if launched() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if launched() else 1


def join(pick: Callable[[], torch.device]) -> torch.device:
    """Meet the other processes, if this is one of several; returns the device of this one, which `pick` chooses."""
    if (variables := place()) is None:
        return pick()
    os.environ |= variables
    if torch.cuda.is_available():  # before `pick` uses GPU 0; srun may show each task a GPU of its own, number 0
        torch.cuda.set_device(int(variables["LOCAL_RANK"]) % torch.cuda.device_count())
    device = pick()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


class Averaged(nn.Module):
    """Returns vectors of `model` unchanged. DistributedDataParallel wraps this, and not the model: so no other process
    waits if memory is full in an encoder."""

    require_backward_grad_sync = False  # this and `no_sync` are DistributedDataParallel's, for a process alone

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors

    def no_sync(self) -> AbstractContextManager:
        return nullcontext()


def averaged(model: nn.Module) -> Averaged | DistributedDataParallel:
    """A module for vectors of `model`: a backward pass through it averages the model's gradients over processes."""
    if not launched():
        return Averaged(model)
    # The loss's parameter gets its gradient elsewhere, a stage's perhaps none; no buffer changes.
    options = {"find_unused_parameters": True, "gradient_as_bucket_view": True, "forward_sync_buffers": False}
    return DistributedDataParallel(Averaged(model), **options)


def max_over_ranks(number: int, device: torch.device) -> int:
    """The largest `number` of all processes."""
    if not launched():
        return number
    numbers = torch.tensor(number, device=device)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return int(numbers)


def any_over_ranks(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any of the processes."""
    return bool(max_over_ranks(int(flag), device))


def fail_together(work: Callable[[], Result], device: torch.device) -> Result:
    """The result of `work`. Raises an error of TOGETHER in all processes if `work` raised it in one."""
    result, failed, reason = None, 0, "in another process"
    try:
        result = work()
    except TOGETHER as error:  # to be raised outside this handler, whose traceback holds memory
        failed, reason = 1 + [isinstance(error, kind) for kind in TOGETHER].index(True), str(error)
    if failed := max_over_ranks(failed, device):
        raise TOGETHER[failed - 1](reason)
    return result


def gather(share: Tensor) -> Tensor:
    """The tensors `share` of all processes, of one shape, stacked in the order of their ranks."""
    if not launched():
        return share[None]
    parts = [torch.empty_like(share) for _ in range(world())]
    dist.all_gather(parts, share.contiguous())
    return torch.stack(parts)


def share_of(items: list) -> list:
    """This process's share of `items`: every n-th of n processes. All shares are equally long; the first items fill the
    last ones up."""
    return [items[index % len(items)] for index in range(rank(), -(-len(items) // world()) * world(), world())]


def of_all(vectors: Tensor, count: int) -> Tensor:
    """The vectors [count, E] of all items, from the vectors [n, E] of each process's `share_of` them."""
    return gather(vectors).transpose(0, 1).flatten(0, 1)[:count]
