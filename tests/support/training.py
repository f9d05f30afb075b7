"""Something small to train on, for tests."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from conftest import REPOSITORY
from PIL import Image
from torch import Tensor

from centerclip.backbones.clip import build
from centerclip.command import write_json
from centerclip.data.datasets.manifest import read_manifest, usable
from centerclip.data.video import shards
from centerclip.data.video.extraction import jpeg
from centerclip.data.video.frames import FrameStore
from centerclip.evaluate.features import evaluate
from centerclip.settings import layout
from centerclip.settings.cell import Cell, Runtime, read_cell
from centerclip.train.checkpoints import Checkpoints
from centerclip.train.loop import Run
from support.cells import STAGE, tiny_cell

ENVIRONMENT = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1"}
CELL = tiny_cell(replace(STAGE, embedding=True))
ORIGIN = {"settings": "1", "data": "2", "revisions": "3"}


def batch(seed: int) -> list[Tensor]:
    """Frames, masks and token ids of four random pairs."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(256, (4, 6, 3, 56, 56), generator=generator, dtype=torch.uint8)
    ids = torch.randint(1, 49407, (4, 8), generator=generator)
    return [frames, torch.ones(4, 6, dtype=torch.bool), ids]


def srun(rank: int) -> dict[str, str]:
    """The variables of SLURM's for one of two tasks that `srun` starts on two nodes, which this machine stands for."""
    step = {"PROCID": rank, "STEP_NUM_TASKS": 2, "LOCALID": 0, "STEP_NODELIST": "localhost", "STEP_ID": 0}
    return {f"SLURM_{name}": str(value) for name, value in step.items()} | {"SLURM_JOB_ID": str(os.getpid())}


def two_processes(*arguments: object, started: str = "together") -> None:
    """Run two_processes.py in two processes that torchrun starts "together" or on two "nodes", or SLURM's "srun"."""
    script = ["-m", "support.two_processes", *map(str, arguments)]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    nodes = [*torchrun, "--nnodes", "2", "--master-port", str(free_port()), "--node-rank"]
    begun = {
        "together": [([*torchrun, "--standalone", "--nproc-per-node", "2"], {})],
        "nodes": [([*nodes, "0"], {}), ([*nodes, "1"], {})],
        "srun": [([sys.executable], srun(0)), ([sys.executable], srun(1))],
    }[started]
    running = [subprocess.Popen(words + script, cwd=REPOSITORY, env=ENVIRONMENT | more) for words, more in begun]
    assert [process.wait() for process in running] == [0] * len(running)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


class Twelve:
    """What train_epoch wants of an epoch: three batches of four pairs."""

    epoch = 0
    video_ids = [f"video{number}" for number in range(12)]  # noqa: RUF012

    def batches(self, size: int) -> list[list[int]]:
        return np.arange(12).reshape(-1, size).tolist()

    def __getitem__(self, index: int) -> list[Tensor]:
        return [part[index % 4] for part in batch(index // 4)]


def run_in(directory: Path, cell: Cell = CELL, origin: dict = ORIGIN, device: str = "cpu", **runtime) -> Run:
    """A run of `cell` with its checkpoints in `directory`."""
    cell = replace(cell, runtime=Runtime(**runtime))
    return Run(cell, torch.device(device), Checkpoints(directory, origin))


def write_cell(results: Path, cell: Cell = CELL) -> Path:
    """The cell.json of `cell` in a directory `results`, beside a manifest and stored frames: of 9 videos to train on, 4
    to test on and 1 of split val."""
    cell = replace(cell, results=results)
    splits = ["train"] * 9 + ["test"] * 4 + ["val"]
    names = [f"v{number}" for number in range(len(splits))]
    rows = pd.DataFrame({"split": splits, "video_id": names, "path": names, "start_s": 0.0, "end_s": np.nan})
    rows = rows.assign(caption_id=names, caption=[f"video number {name}" for name in names])
    report = cell.path(layout.FRAMES)
    report.parent.mkdir(parents=True)
    rows.to_csv(cell.path(layout.MANIFEST), index=False)
    rng, store = np.random.default_rng(0), shards.lmdb.open(str(report.parent / "0.lmdb"), subdir=False, lock=False)
    for name in names:
        frames = rng.integers(256, size=(8, 7, 7, 3), dtype=np.uint8)
        shards.put(store, name, [jpeg(Image.fromarray(frame).resize((56, 56))) for frame in frames])
    store.close()
    frames = pd.DataFrame({"video_id": names, "frames": 8, "decoder": "pyav", "reason": "", "shard": "0.lmdb"})
    frames.to_csv(report, index=False)
    write_json(cell.path(layout.CELL), cell.settings())
    return cell.path(layout.CELL)


def metrics(path: Path | str) -> list[dict]:
    """The metrics of the model that a cell starts as, on 4 videos, and on 9 with a vector for each segment."""
    cell, found = read_cell(path), []
    manifest, store = read_manifest(cell.path(layout.MANIFEST)), FrameStore(cell.path(layout.FRAMES))
    for split, vectors in (("test", "mean"), ("train", "segments")):
        cell = replace(cell, model=replace(cell.model, vectors=vectors))
        found.append(evaluate(build(cell.model, 0), usable(manifest, store.counts, split), store, cell))
    return found
