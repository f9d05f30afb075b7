"""Jobs and GPUs, where `nvidia-smi` is a stand-in that lists as many as a test says: no GPU is needed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.gpus import machine

from centerclip.gpus import take, usable, visible

CLAIM = "import os, pathlib, sys, time; from centerclip.gpus import claim; claim(int(sys.argv[1]))"
SHOW = "; pathlib.Path(sys.argv[2]).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"


def claiming(count: int, then: str, *arguments: object) -> list[str]:
    """The command of a job that claims GPUs."""
    return [sys.executable, "-c", CLAIM + then, str(count), *map(str, arguments)]


class Job:
    """A process that claims `count` GPUs and keeps them until it is killed, or a child that it has forked is."""

    def __init__(self, tmp_path: Path, environment: dict[str, str], count: int = 1, forks: bool = False):
        self.seen = tmp_path / f"seen{len(list(tmp_path.glob('seen*')))}"
        self.seen.touch()
        fork = "; child = os.fork(); child and pathlib.Path(sys.argv[2] + 'child').write_text(str(child))" * forks
        command = claiming(count, SHOW + fork + "; time.sleep(60)", self.seen)
        self.process = subprocess.Popen(command, env=environment, cwd=REPOSITORY)

    def gpus(self, seconds: float = 30) -> str | None:
        """What it got; None if it got nothing in `seconds`."""
        deadline = time.monotonic() + seconds
        while not (shown := self.seen.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return shown or None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """Start a `Job`; all are ended with the test."""
    jobs = []

    def start(environment: dict[str, str], count: int = 1, **options) -> Job:
        jobs.append(Job(tmp_path, environment, count, **options))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def test_gpus_are_taken_all_at_once_or_not_and_are_free_again_with_their_locks(tmp_path):
    (alone,) = take("abc", 1, tmp_path).items()
    both = take("abc", 2, tmp_path)
    assert alone[0] == "a" and [*both] == ["b", "c"] and take("abc", 1, tmp_path) is None
    os.close(alone[1])
    assert take("abc", 2, tmp_path) is None
    again = take("abc", 1, tmp_path)
    assert [*again] == ["a"]
    for lock in (*again.values(), *both.values()):
        os.close(lock)


@pytest.mark.slow
def test_a_gpu_is_a_jobs_until_its_children_have_ended(tmp_path, start):
    alone = machine(tmp_path / "machine", 1)
    first = start(alone, forks=True)
    assert first.gpus() == "0"
    while not (child := first.seen.with_name(first.seen.name + "child")).exists() or not child.read_text():
        time.sleep(0.01)
    first.kill()
    second = start(alone)
    assert second.gpus(seconds=2) is None
    os.kill(int(child.read_text()), signal.SIGKILL)
    assert second.gpus() == "0"


def test_a_job_says_what_it_has_or_waits_for(tmp_path, start):
    three, alone = (machine(tmp_path / f"machine{gpus}", gpus) for gpus in (3, 1))
    for claimed, given in ((4, "0,1,2"), (2, "0,1")):  # all, if there are fewer
        done = subprocess.run(claiming(claimed, ""), env=three, cwd=REPOSITORY, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("", f"GPUs of this job alone: {given}\n")
    assert start(alone).gpus() == "0"
    with subprocess.Popen(claiming(1, ""), env=alone, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr.readline() == "waiting for 1 of the GPUs 0\n"
        waiting.kill()


@pytest.mark.slow
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


NOT_THERE = {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}  # what SLURM sets for a job without GPUs


@pytest.mark.parametrize(("gpus", "environment"), [(0, {}), (4, {"CUDA_VISIBLE_DEVICES": ""}), (4, NOT_THERE)])
def test_without_a_gpu_jobs_run_side_by_side(tmp_path, gpus, environment):
    none = machine(tmp_path / "machine", gpus) | environment
    command = claiming(1, "; print(os.environ.get('CUDA_VISIBLE_DEVICES')); time.sleep(1)")
    jobs = [subprocess.Popen(command, env=none, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = f"{environment.get('CUDA_VISIBLE_DEVICES')}\n"
    assert [job.communicate(timeout=30)[0] for job in jobs] == [expected] * 2


def test_without_a_driver_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver >&2; exit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible() == []


LISTING = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d9e0c1a-0b12)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4)
  MIG 1g.5gb      Device  1: (UUID: MIG-c7aa0b1d-9f3c)
GPU 2: Tesla T4 (UUID: GPU-a0b1c2d3-1111)
"""
FIRST, SMALL, LARGE, LAST = "GPU-5d5ba0d6-d33d", "MIG-c7aa0b1d-9f3c", "MIG-c6d4f1ef-42e4", "GPU-a0b1c2d3-1111"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, {FIRST: "0", LARGE: LARGE, SMALL: SMALL, LAST: "2"}),
        ("", {}),
        (" 0 , 2 ", {FIRST: "0", LAST: "2"}),
        ("0,7,2", {FIRST: "0"}),  # CUDA ends the list before what is not there
        ("0,2,0", {}),  # and takes none if one stands twice
        (f"{LAST},{FIRST}", {LAST: LAST, FIRST: FIRST}),
        ("GPU-a0b1", {LAST: "GPU-a0b1"}),
        ("GPU-5d", {}),  # two begin so
        ("MIG-c7", {SMALL: "MIG-c7"}),
        ("1", {LARGE: "1"}),  # CUDA's choice of a divided GPU
    ],
)
def test_usable_gpus_are_those_of_the_driver_that_cuda_would_show(chosen, expected, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [*usable().items()] == [*expected.items()]
