"""Train a finished cell again, killed at random moments, and hold its weights against the undisturbed run's.

python tests/kill_training.py results/shapes_kmedoids.json --kills 20
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from centerclip.settings import layout
from centerclip.settings.cell import read_cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", type=Path, help="the results of a trained cell, or its cell.json")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="the longest that a run lives before it is killed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cell = read_cell(arguments.cell)
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        log, weights = Path(directory, "train.log"), Path(directory, Path(layout.WEIGHTS).name)
        command = [sys.executable, "-m", "centerclip", "train", str(arguments.cell), "--out", directory]
        command += ["--log", str(log), "--checkpoint-minutes", "1e-9"]  # after each step
        for number in range(arguments.kills):
            seconds = draw.uniform(0, arguments.seconds)
            process = subprocess.Popen(command)
            try:
                process.wait(seconds)
                sys.exit(f"training ended by itself before kill {number + 1}; give fewer --seconds")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            lines = log.read_text().splitlines() if log.exists() else []
            before = next((line for line in lines if line.startswith("resuming")), "from the start")
            print(f"kill {number + 1} after {seconds:.1f} s; this run: {before}", flush=True)
        subprocess.run(command, check=True)
        equal = weights.read_bytes() == cell.path(layout.WEIGHTS).read_bytes()
    print(f"{arguments.kills} kills; the weights are {'equal to' if equal else 'NOT'} those of the undisturbed run")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
