"""Jobs and GPUs, where `nvidia-smi` is a stand-in that lists as many as a test says: no GPU is needed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from centerclip.gpus import visible

SHOW = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
time.sleep(60)
"""


def machine(directory: Path, gpus: int) -> dict[str, str]:
    """The environment of a machine with `gpus` GPUs."""
    directory.mkdir(exist_ok=True)
    lines = "".join(f"GPU {index}: Some GPU (UUID: GPU-{index})\\n  MIG 1g.5gb Device 0\\n" for index in range(gpus))
    (directory / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    (directory / "nvidia-smi").chmod(0o755)
    hidden = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(directory)}


class Job:
    """A command that is given `count` GPUs and keeps them until it is killed."""

    def __init__(self, tmp_path: Path, environment: dict[str, str], count: int = 1):
        self.seen = tmp_path / f"seen{len(list(tmp_path.glob('seen*')))}"
        self.seen.touch()
        command = [sys.executable, "-m", "centerclip.gpus", str(count), sys.executable, "-c", SHOW, str(self.seen)]
        self.process = subprocess.Popen(command, env=environment)

    def gpus(self, seconds: float = 30) -> str | None:
        """What it got; None if it got nothing in `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if shown := self.seen.read_text():
                return shown
            time.sleep(0.01)
        return None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """Start a `Job`; all are ended with the test."""
    jobs = []

    def start(environment: dict[str, str], count: int = 1) -> Job:
        jobs.append(Job(tmp_path, environment, count))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def test_jobs_get_a_gpu_each_and_wait_for_a_free_one(tmp_path, start):
    two = machine(tmp_path / "machine", 2)
    first, second = start(two), start(two)
    assert {first.gpus(), second.gpus()} == {"0", "1"}
    third = start(two)
    assert third.gpus(seconds=2) is None
    second.kill()
    assert third.gpus() == second.gpus()


def test_a_job_of_two_gpus_gets_both_at_once(tmp_path, start):
    three = machine(tmp_path / "machine", 3)
    one = start(three)
    assert one.gpus() == "0"
    assert start(three, 2).gpus() == "1,2"
    assert start(three, 2).gpus(seconds=2) is None  # and takes none meanwhile
    one.kill()
    assert start(three).gpus() == "0"


def test_the_users_choice_of_gpus(tmp_path, start):
    chosen = machine(tmp_path / "machine", 8) | {"CUDA_VISIBLE_DEVICES": "5,GPU-7"}
    assert {start(chosen).gpus(), start(chosen).gpus()} == {"5", "GPU-7"}
    assert start(chosen).gpus(seconds=2) is None
    assert start(chosen, 0).gpus() == "5,GPU-7"  # a job that asks for none shares them


def test_slurm_jobs_do_not_wait_for_each_other(tmp_path, start):
    """Each may call its GPU 0; the two within one job are shared out."""
    alone = machine(tmp_path / "machine", 8) | {"CUDA_VISIBLE_DEVICES": "0"}
    assert [start(alone | {"SLURM_JOB_ID": job}).gpus() for job in "12"] == ["0", "0"]
    both = alone | {"SLURM_JOB_ID": "3", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert {start(both).gpus(), start(both).gpus()} == {"0", "1"}


@pytest.mark.parametrize(("gpus", "environment"), [(0, {}), (4, {"CUDA_VISIBLE_DEVICES": ""})])
def test_without_a_gpu_jobs_run_side_by_side(tmp_path, gpus, environment):
    none = machine(tmp_path / "machine", gpus) | environment
    command = [sys.executable, "-m", "centerclip.gpus", "1", "sh", "-c", "echo GPU: $CUDA_VISIBLE_DEVICES"]
    jobs = [subprocess.Popen(command, env=none, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [job.communicate(timeout=30)[0] for job in jobs] == ["GPU:\n", "GPU:\n"]


def test_gpus_are_counted_without_their_parts(tmp_path, monkeypatch):
    for name, value in machine(tmp_path / "machine", 3).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible() == ["0", "1", "2"]
    (tmp_path / "machine/nvidia-smi").write_text("#!/bin/sh\necho no driver >&2; exit 9\n")
    assert visible() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible() == []
