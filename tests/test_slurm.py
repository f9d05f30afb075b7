"""The cluster profile on a real SLURM of one node: GPUs of their own for jobs, and jobs ended before their time."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import slurm
from support.workflow import ENVIRONMENT, METRICS, SNAKEMAKE, copy_repository, result, snakemake, trainings

from centerclip.gpus import visible

VARIANTS = ["baseline", "kmedoids", "spectral"]
SMALL = {
    "run": {"variants": VARIANTS},
    "training": {"epochs": 5, "batch_size": 8, "checkpoint_minutes": 1e-9},  # a checkpoint after each step
    "benchmarks": {"shapes": {"shards": 1, "source": {"videos": {"train": 8, "val": 1, "test": 12}, "resolution": 64}}},
}
TARGETS = [f"results/shapes_{variant}.json" for variant in VARIANTS]
# What a process on the cluster does when it is sent SIGUSR1: it takes 3 GB and stands still.
GLUTTON = """
import os, signal
def eat(*_):
    global eaten
    eaten = b"x" * 3_000_000_000
    os.kill(os.getpid(), signal.SIGSTOP)
signal.signal(signal.SIGUSR1, eat)
"""


@pytest.mark.parametrize("option", ["--profile", "--workflow-profile"])
def test_what_a_job_asks_for(tmp_path, option):
    """Partition and account are the two lines to edit; a training's GPUs and threads are those of its config."""
    repository = copy_repository(tmp_path, SMALL | {"training": {"threads": 3}})
    profile = repository / "profiles/slurm/config.yaml"
    edited = profile.read_text().replace("slurm_partition: gpu", "slurm_partition: a100")
    profile.write_text(edited.replace("slurm_account: none", "slurm_account: video"))
    done = snakemake(repository, option, "profiles/slurm", "--dry-run", "--cores", "3", TARGETS[0])
    assert done.returncode == 0, done.stderr
    (train,) = (rule for rule in (done.stdout + done.stderr).split("\nrule ") if rule.startswith("train:"))
    for asked in ("threads: 3", "gpu=1", "mem_mb=24000", "runtime=720", "slurm_partition=a100", "slurm_account=video"):
        assert asked in train


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> dict[str, str]:
    """The environment for commands on a running SLURM of 8 cores and 2 GPUs."""
    if reason := slurm.missing():
        pytest.skip(f"no SLURM: {reason}")
    if visible():
        pytest.skip("the jobs' pretended GPUs would be this machine's real ones, and the local run not on a CPU")
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), ENVIRONMENT, gpus=2, cpus=8) as environment:
        yield environment


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A copy of the repository in which the cells were made without SLURM."""
    repository = copy_repository(tmp_path_factory.mktemp("local"), SMALL)
    done = snakemake(repository, *TARGETS)
    assert done.returncode == 0, done.stderr
    return repository


def jobs_of_trainings(cluster: dict[str, str]) -> dict[str, list[list[str]]]:
    """What SLURM knows of the jobs that train each variant, oldest first: id, state, memory, time limit and GPUs."""
    fields = "Comment:60,JobId:10,State:20,MinMemory:20,TimeLimit:20,tres-per-job:20"
    command = ["squeue", "--states=all", "--noheader", "--sort=i", f"--Format={fields}"]
    jobs = {variant: [] for variant in VARIANTS}
    for line in subprocess.check_output(command, env=cluster, text=True).splitlines():
        comment, *values = line.split()
        if comment.startswith("rule_train"):
            jobs[comment.removeprefix("rule_train_wildcards_shapes_")].append(values)
    return jobs


@pytest.mark.soak
def test_jobs_ended_before_their_time_go_on_and_end_as_a_local_run(cluster, local, tmp_path):
    """Three trainings on two GPUs: one is cancelled, one runs out of time, one out of memory."""
    repository = copy_repository(tmp_path / "repository", SMALL)
    profile = repository / "profiles/slurm/config.yaml"
    profile.write_text(profile.read_text() + "set-resources:\n  train:\n    mem_mb: 2000 * attempt\n")
    (tmp_path / "sitecustomize.py").write_text(GLUTTON)
    environment = cluster | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [*SNAKEMAKE, "--configfile", "config/demo.yaml", "small.yaml"]
    command += ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]

    def end(variant: str, process: int, job: str) -> None:
        if variant == "baseline":
            subprocess.run(["scancel", job], env=cluster, check=True)
        elif variant == "kmedoids":
            subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now+1"], env=cluster, check=True)
        else:
            os.kill(process, signal.SIGUSR1)
            os.kill(process, signal.SIGCONT)

    log, waiting, stopped = tmp_path / "snakemake.log", set(VARIANTS), {}
    with open(log, "w") as output:
        run = subprocess.Popen([*command, *TARGETS], cwd=repository, env=environment, stdout=output, stderr=output)
    try:
        while waiting:
            assert run.poll() is None, log.read_text()
            for variant, (process, variables) in trainings(repository).items():
                checkpoint = repository / f"results/shapes/{variant}/checkpoints/checkpoint.pt"
                if variant in waiting - stopped.keys() and checkpoint.exists():
                    os.kill(process, signal.SIGSTOP)
                    stopped[variant] = process, variables
            if len(waiting) == 3 and len(stopped) == 2:
                assert {variables["CUDA_VISIBLE_DEVICES"] for _, variables in stopped.values()} == {"0", "1"}
                states = [state for ((_, state, *_),) in jobs_of_trainings(cluster).values()]
                assert sorted(states) == ["PENDING", "RUNNING", "RUNNING"]
            if len(waiting) == 1 or len(stopped) == 2:
                for variant, (process, variables) in stopped.items():
                    end(variant, process, variables["SLURM_JOB_ID"])
                waiting -= stopped.keys()
                stopped = {}
            time.sleep(0.02)
        assert run.wait(timeout=480) == 0, log.read_text()
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)  # Snakemake cancels its jobs
            run.wait()

    jobs = jobs_of_trainings(cluster)
    for variant, state in (("baseline", "CANCELLED"), ("kmedoids", "TIMEOUT"), ("spectral", "FAILED")):
        (job, *first), (_, *second) = jobs[variant]
        limit = first.pop(2)
        assert (limit == "12:00:00") == (state != "TIMEOUT")  # of which the test made minutes
        assert first == [state, "2000M", "gres:gpu:1"]
        assert second == ["COMPLETED", "4000M", "1-00:00:00", "gres:gpu:1"]
        if state == "FAILED":  # the name of out of memory where there are no cgroups
            kept = repository / f".snakemake/slurm_logs/rule_train/shapes_{variant}/{job}.log"
            assert "exceeded memory limit" in kept.read_text()
        assert "resuming after" in (repository / f"results/logs/shapes/{variant}/train.log").read_text()
        for key in METRICS:
            assert result(repository, variant)[key] == result(local, variant)[key]
        weights = f"results/shapes/{variant}/weights.safetensors"
        assert (repository / weights).read_bytes() == (local / weights).read_bytes()
