"""GPUs for one job alone: `python -m centerclip.gpus N COMMAND...` runs COMMAND on N GPUs that no other job has.

COMMAND finds them in CUDA_VISIBLE_DEVICES and has them until it ends, however it ends; it waits while too few are free.
They are shared out among one user's jobs on a machine or, as SLURM has already shared them, within one SLURM job. Where
there are fewer than N, COMMAND gets them all; none: it runs on the CPU. N = 0 takes none and hides none.
"""

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
    """`count` of the GPUs `names` that nobody holds, each with the open file in `directory` whose lock keeps it.

    None if too few are free: then none is taken.
    """
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


def main() -> None:
    count, command = int(sys.argv[1]), sys.argv[2:]
    names = visible()
    count = min(count, len(names))
    if count:
        shared_by = f"{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'all')}"
        directory = Path(tempfile.gettempdir(), f"centerclip-gpus-{shared_by}")
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (taken := take(names, count, directory)):
            print(f"waiting for {count} of the GPUs {', '.join(names)}", file=sys.stderr)
        while not taken:
            time.sleep(1)
            taken = take(names, count, directory)
        for lock in taken.values():
            os.set_inheritable(lock, True)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
