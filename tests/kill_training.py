"""Train a finished cell again, killed at random moments, and hold its weights against the undisturbed run's.

python tests/kill_training.py results/shapes_kmedoids.json --kills 20
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path


def training_command(results: Path, settings: dict, out: Path) -> list[str]:
    """What trains the cell of `settings` from the manifest and frames in `results`, with all its files in `out`."""
    benchmark = results / settings["benchmark"]
    frames = benchmark / f"frames/{settings['image_size']}px/report.csv"
    return [
        *(sys.executable, "-m", "centerclip.training", "--settings", json.dumps(settings)),
        *("--manifest", str(benchmark / "manifest.csv"), "--frames", str(frames)),
        *("--checkpoints", str(out / "checkpoints"), "--weights", str(out / "w"), "--history", str(out / "h.json")),
        *("--log", str(out / "train.log")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="the longest that a run lives before it is killed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = json.loads(arguments.cell.read_text())["settings"]
    settings["training"]["checkpoint_minutes"] = 1e-9  # after each step
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        command = training_command(arguments.cell.parent, settings, out)
        for number in range(arguments.kills):
            seconds = draw.uniform(0, arguments.seconds)
            process = subprocess.Popen(command)
            try:
                process.wait(seconds)
                sys.exit(f"training ended by itself before kill {number + 1}; give fewer --seconds")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            log = out / "train.log"
            lines = log.read_text().splitlines() if log.exists() else []
            before = next((line for line in lines if line.startswith("resuming")), "from the start")
            print(f"kill {number + 1} after {seconds:.1f} s; this run: {before}", flush=True)
        subprocess.run(command, check=True)
        own = arguments.cell.parent / settings["benchmark"] / arguments.cell.stem.partition("_")[2]
        equal = (out / "w").read_bytes() == (own / "weights.safetensors").read_bytes()
    print(f"{arguments.kills} kills; the weights are {'equal to' if equal else 'NOT'} those of the undisturbed run")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
