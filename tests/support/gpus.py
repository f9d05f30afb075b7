"""A machine with pretended GPUs."""

import os
import sys
from pathlib import Path


def machine(directory: Path, gpus: int) -> dict[str, str]:
    """The environment of a machine with `gpus` GPUs."""
    directory.mkdir(exist_ok=True)
    lines = "".join(f"GPU {index}: Some GPU (UUID: GPU-{index})\\n  MIG 1g.5gb Device 0\\n" for index in range(gpus))
    (directory / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    (directory / "nvidia-smi").chmod(0o755)
    hidden = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(directory)}
