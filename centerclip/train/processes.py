"""Several processes that train one model together, a GPU each: torch.distributed, or nothing for a process alone."""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIG_IGN, Signals, getsignal
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from centerclip.command import UserError, last_error, place

TOGETHER = (FloatingPointError, torch.OutOfMemoryError)  # what all processes raise if one did, the graver last
Result = TypeVar("Result")
BUCKET = 25 << 20  # bytes of gradients that are sent at a time, as PyTorch's DistributedDataParallel has it


def launched() -> bool:
    """Whether this process has joined others."""
    return dist.is_initialized()


def launch(count: int, log: Path | None) -> None:
    """Run this very command of `centerclip`, which logs to `log`, in `count` processes, as torchrun does.

    Raises:
        UserError: fewer GPUs than processes on a machine that has some, or a process that failed.
        KeyboardInterrupt: Ctrl-C, which has ended the processes.
    """
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


def join(device: torch.device) -> torch.device:
    """Meet the other processes, if this is one of several; returns the device of this one."""
    if place() is None:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def largest(number: int, device: torch.device) -> int:
    """The largest `number` of all processes."""
    if not launched():
        return number
    numbers = torch.tensor(number, device=device)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return int(numbers)


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any of the processes."""
    return bool(largest(int(flag), device))


def everywhere(work: Callable[[], Result], device: torch.device) -> Result:
    """What `work` returns here. Raises an error of TOGETHER in all processes if one did."""
    result, failed, reason = None, 0, "in another process"
    try:
        result = work()
    except TOGETHER as error:  # to be raised outside this handler, whose traceback holds memory
        failed, reason = 1 + [isinstance(error, kind) for kind in TOGETHER].index(True), str(error)
    if failed := largest(failed, device):
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
    """This process's share of `items`: every so many-th, as many as any other has, the first ones again if the last do
    not suffice."""
    return [items[index % len(items)] for index in range(rank(), -(-len(items) // world()) * world(), world())]


def of_all(vectors: Tensor, count: int) -> Tensor:
    """The vectors [count, E] of all items, of those [n, E] of each process's `share_of` them."""
    return gather(vectors).transpose(0, 1).flatten(0, 1)[:count]


class Bucket:
    """Gradients that are added up over the processes together: those of `parameters` lie in one tensor, which starts at
    zero and is sent when each has had its gradient of so many backward passes."""

    def __init__(self, parameters: list[Tensor], passes: int):
        self.parameters, self.missing = parameters, passes * len(parameters)
        self.reached: set[Tensor] = set()
        self.sum = torch.cat([torch.zeros_like(parameter).flatten() for parameter in parameters])
        parts = self.sum.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def note(self, parameter: Tensor) -> None:
        self.reached.add(parameter)
        self.missing -= 1

    def send(self) -> None:
        self.work = dist.all_reduce(self.sum, async_op=True)

    def receive(self) -> None:
        self.work.wait()
        for parameter in set(self.parameters) - self.reached:
            parameter.grad = None


@contextmanager
def added_up(parameters: list[Tensor], passes: int) -> Iterator[None]:
    """Add up over the processes the gradients that `passes` backward passes in this block give to `parameters`, which
    have none yet: in buckets, the last parameters first, each sent while a pass still computes the others.

    All processes send all buckets in the same order, also one in which an error ends the block. None sends one, and all
    raise the error, where the memory of one does not hold them."""
    if not launched():
        yield
        return
    groups, members, size = [], [], 0
    for parameter in reversed(parameters):
        members, size = [*members, parameter], size + parameter.nbytes
        if size >= BUCKET or parameter is parameters[0]:
            groups.append(members)
            members, size = [], 0
    buckets = everywhere(lambda: [Bucket(group, passes) for group in groups], parameters[0].device)
    pending = deque(buckets)

    def note(bucket: Bucket, parameter: Tensor) -> None:
        bucket.note(parameter)
        while pending and not pending[0].missing:
            pending.popleft().send()

    hooks = [parameter.register_post_accumulate_grad_hook(partial(note, bucket))
             for bucket in buckets for parameter in bucket.parameters]  # fmt: skip
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for bucket in pending:
            bucket.send()
        for bucket in buckets:
            bucket.receive()
