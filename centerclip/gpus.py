"""GPUs for one job alone: `claim` takes some that no other job has."""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from centerclip.command import flock

LISTED = re.compile(r"(?:GPU (\d+):|\s+MIG ).*\(UUID: (\S+)\)")  # in a line of `nvidia-smi -L`


class Device(NamedTuple):
    """A GPU, or a MIG instance of one."""

    index: str  # of the GPU
    gpu: str  # the GPU's UUID
    uuid: str

    def name(self) -> str:
        """How CUDA_VISIBLE_DEVICES names it: a GPU by its index, an instance by its UUID, as it has no other."""
        return self.index if self.uuid == self.gpu else self.uuid


def devices() -> list[Device]:
    """What the driver has: GPUs, in place of a GPU that is divided its MIG instances."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found: list[Device] = []
    for index, uuid in map(re.Match.groups, filter(None, map(LISTED.match, listing.splitlines()))):
        if index:
            found.append(Device(index, uuid, uuid))
        else:
            gpu = found[-1]
            found[-1:] = [*([gpu] if gpu.uuid != gpu.gpu else []), gpu._replace(uuid=uuid)]
    return found


def named(word: str, there: list[Device]) -> Device | None:
    """The device that a word of CUDA_VISIBLE_DEVICES means: an index, a UUID or the beginning of one."""
    first = {name: device for device in reversed(there) for name in device}
    begun = [name for name in first if word.startswith(("GPU-", "MIG-")) and name.startswith(word)]
    return first.get(begun[0] if len(begun) == 1 else word)


def usable() -> dict[str, str]:
    """The names of the GPUs and MIG instances that this process may use, by their UUIDs: those that
    CUDA_VISIBLE_DEVICES names, or else all. CUDA ends the list before a word that names no device, and takes none if
    one stands twice."""
    there, chosen = devices(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return {device.uuid: device.name() for device in there}
    names = {}
    for word in map(str.strip, chosen.split(",")):
        if (device := named(word, there)) is None:
            break
        if device.uuid in names:
            return {}
        names[device.uuid] = word
    return names


def visible() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    return [*usable().values()]


def take(uuids: Iterable[str], count: int, directory: Path) -> dict[str, int] | None:
    """`count` of the GPUs `uuids` that nobody holds, each with the descriptor of a file in `directory` whose lock keeps
    it. None if too few are free: then none is taken."""
    taken = {}
    with open(directory / "taking", "w", encoding="utf-8") as taking:
        flock(taking, fcntl.LOCK_EX)
        for uuid in uuids:
            lock = os.open(directory / uuid.replace("/", "-"), os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            taken[uuid] = lock
            if len(taken) == count:
                return taken
        for lock in taken.values():
            os.close(lock)
    return None


def claim(count: int) -> None:
    """Take `count` of the visible GPUs for this process alone, until it and all that inherit its open files have ended,
    however they end; wait while too few are free. To be called once, before CUDA is initialised.

    GPUs are shared out among one user's jobs on a machine or, as SLURM has already shared them, within one SLURM job.
    Where there are fewer than `count`, all are taken; without any, the process runs on the CPU. A `count` of 0 takes
    none and hides none.
    """
    names = usable()
    count = min(count, len(names))
    if count == 0:
        return
    job = f"{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'all')}"
    directory = Path(tempfile.gettempdir(), f"centerclip-gpus-{job}")
    directory.mkdir(mode=0o700, exist_ok=True)
    if not (taken := take(names, count, directory)):
        print(f"waiting for {count} of the GPUs {', '.join(names.values())}", file=sys.stderr, flush=True)
    while not taken:
        time.sleep(1)
        taken = take(names, count, directory)
    for lock in taken.values():
        os.set_inheritable(lock, True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[uuid] for uuid in taken)
    print(f"GPUs of this job alone: {os.environ['CUDA_VISIBLE_DEVICES']}", file=sys.stderr, flush=True)
