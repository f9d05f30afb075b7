"""GPUs for one job alone: `claim` takes some that no other job has."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def visible() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them: what that says, or else all there are."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name not in ("", "-1")]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listing.splitlines()))]


def take(names: list[str], count: int, directory: Path) -> dict[str, int] | None:
    """`count` of the GPUs `names` that nobody holds, each with the descriptor of a file in `directory` whose lock keeps
    it. None if too few are free: then none is taken."""
    taken = {}
    with open(directory / "taking", "w") as taking:
        fcntl.flock(taking, fcntl.LOCK_EX)
        for name in names:
            lock = os.open(directory / name.replace("/", "-"), os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            taken[name] = lock
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
    names = visible()
    count = min(count, len(names))
    if count == 0:
        return
    job = f"{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'all')}"
    directory = Path(tempfile.gettempdir(), f"centerclip-gpus-{job}")
    directory.mkdir(mode=0o700, exist_ok=True)
    if not (taken := take(names, count, directory)):
        print(f"waiting for {count} of the GPUs {', '.join(names)}", file=sys.stderr, flush=True)
    while not taken:
        time.sleep(1)
        taken = take(names, count, directory)
    for lock in taken.values():
        os.set_inheritable(lock, True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    print(f"GPUs of this job alone: {','.join(taken)}", file=sys.stderr, flush=True)
