"""`claim` takes GPUs for one job alone."""

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
        """Its name in CUDA_VISIBLE_DEVICES: a GPU's index, an instance's UUID."""
        return self.index if self.uuid == self.gpu else self.uuid


def devices() -> list[Device]:
    """The driver's GPUs; a divided GPU is replaced by its MIG instances."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found: list[Device] = []
    for index, uuid in map(re.Match.groups, filter(None, map(LISTED.match, listing.splitlines()))):
        if index:
            found.append(Device(index, uuid, uuid))
        else:
            last = found[-1] if found[-1].uuid != found[-1].gpu else found.pop()
            found.append(last._replace(uuid=uuid))
    return found


def named(word: str, there: list[Device]) -> Device | None:
    """The device that a word of CUDA_VISIBLE_DEVICES names, by index, UUID or the beginning of a UUID."""
    first = {name: device for device in reversed(there) for name in device}
    begun = [name for name in first if word.startswith(("GPU-", "MIG-")) and name.startswith(word)]
    return first.get(begun[0] if len(begun) == 1 else word)


def usable() -> dict[str, str]:
    """The names of the GPUs and MIG instances that this process may use, by UUID. As in CUDA, CUDA_VISIBLE_DEVICES ends
    before a word that names no device, and is empty if it names a device twice."""
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
    """`count` free GPUs of `uuids`, each with the descriptor of its locked file in `directory`. None, and nothing
    locked, if too few are free."""
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
    """Hold `count` visible GPUs, or all if there are fewer, until this process and its children end; wait while too few
    are free. A `count` of 0 holds none and hides none. Call it once, before CUDA is initialised.

    GPUs are divided among one user's jobs on a machine, or among the processes of one SLURM job.
    """
    names = usable()
    if not (count := min(count, len(names))):
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
