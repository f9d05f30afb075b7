"""Jobs of the workflow that are killed, stopped, and run side by side."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.gpus import machine
from support.workflow import (
    CENTERCLIP,
    ENVIRONMENT,
    SNAKEMAKE,
    trainings,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from centerclip.data.datasets.manifest import read_manifest
from centerclip.settings.cell import read_cell


def training_command(directory: Path, cell: str, out: Path, *options: str) -> list[str]:
    """What trains a cell of a finished repository again, with all its files in `out`."""
    path = directory / f"results/shapes/{cell}/cell.json"
    return [*CENTERCLIP, "train", str(path), "--out", str(out), "--log", str(out / "train.log"), *options]


class TestTraining:
    @pytest.mark.soak
    def test_killed_again_and_again_it_ends_at_the_same_weights(self, finished, tmp_path):
        command = training_command(finished, "baseline", tmp_path, "--checkpoint-minutes", "1e-9")  # after each step
        checkpoint = tmp_path / "checkpoints/checkpoint.pt"
        for _ in range(3):
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            process = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT)
            while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0) == before:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "training ended before it could be killed"
        assert not (tmp_path / "weights.safetensors").exists()
        subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True)
        assert "resuming after" in (tmp_path / "train.log").read_text()
        weights = (tmp_path / "weights.safetensors").read_bytes()
        assert weights == (finished / "results/shapes/baseline/weights.safetensors").read_bytes()
        again = subprocess.run(command, cwd=finished, env=ENVIRONMENT)  # as after an orphan that ended by itself
        assert again.returncode == 0 and "epoch 1" not in (tmp_path / "train.log").read_text()
        assert (tmp_path / "weights.safetensors").read_bytes() == weights

    def test_captions_to_evaluate_are_missed_before_training(self, finished, tmp_path):
        """The one video of split val has no frames."""
        results = tmp_path / "results/shapes"
        (results / "frames/56px").mkdir(parents=True)
        (results / "baseline").mkdir()
        settings = read_cell(finished / "results/shapes/baseline/cell.json").settings()
        settings["training"]["select"] = "val"
        (results / "baseline/cell.json").write_text(json.dumps(settings))
        shutil.copy(finished / "results/shapes/manifest.csv", results)
        splits = read_manifest(results / "manifest.csv").drop_duplicates("video_id").set_index("video_id")["split"]
        report = pd.read_csv(finished / "results/shapes/frames/56px/report.csv")
        report["shard"] = [str(finished / "results/shapes/frames/56px" / shard) for shard in report["shard"]]
        report[report["video_id"].map(splits) != "val"].to_csv(results / "frames/56px/report.csv", index=False)
        done = subprocess.run(
            training_command(tmp_path, "baseline", tmp_path / "out"), env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "error: no captioned video of split 'val' has frames"
        assert "epoch 1" not in (tmp_path / "out/train.log").read_text()

    def test_one_that_its_cluster_ends_goes_on_from_the_step_it_was_at(self, finished, tmp_path):
        """SLURM's time limit: SIGTERM to the launcher, two trainers and their loaders; one trainer goes on, in chunks.
        Together they do as one alone."""
        options = ["--gpus", "2", "--workers", "1", "--checkpoint-minutes", "99"]
        command, log = training_command(finished, "kmedoids", tmp_path, *options), tmp_path / "train.log"
        training = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        while not (log.exists() and re.search(r"\| [1-4]/4 \[", log.read_text())):
            assert training.poll() is None, log.read_text()
            time.sleep(0.01)
        for process in family(training.pid):
            os.kill(process, signal.SIGTERM)
        assert "stopped by" in training.communicate(timeout=60)[1] and training.returncode == 1
        progress = torch.load(tmp_path / "checkpoints/checkpoint.pt", weights_only=True)["progress"]
        assert (progress["epoch"], progress["step"]) > (0, 0)
        command = training_command(finished, "kmedoids", tmp_path, "--chunk", "3")
        subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True)
        assert f"resuming after {progress['epoch']} epochs and {progress['step']} steps" in log.read_text()

        alone = load_file(finished / "results/shapes/kmedoids/weights.safetensors")
        for name, tensor in load_file(tmp_path / "weights.safetensors").items():
            assert (tensor - alone[name]).abs().max() <= 1e-3 * alone[name].abs().max() + 1e-5, name
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("loss")] == list(range(2 * 32 // 8))
        history = json.loads((tmp_path / "history.json").read_text())
        assert [event.value for event in events.Scalars("R@1/text_to_video")] == pytest.approx(
            [epoch["text_to_video"]["R@1"] for epoch in history["epochs"]]
        )


def family(process: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children = [
        int(child) for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [process, *(member for child in children for member in family(child))]


def test_three_trainings_on_two_gpus(finished, tmp_path):
    """Two at a time train side by side, each on a GPU of its own, and nobody has to say so."""
    repository, environment = tmp_path / "repository", machine(tmp_path / "machine", 2)
    shutil.copytree(finished, repository)
    for log in repository.glob("results/logs/shapes/*/train.log"):
        log.unlink()
    command = [*SNAKEMAKE, "--configfile", "config/demo.yaml", "small.yaml", "--cores", "4"]
    command += ["--forcerun", "train", "--until", "train"]
    seen = set()
    with subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None:
            claimed = [gpu_of(repository, name) for name in trainings(repository)]
            seen.add(tuple(sorted(filter(None, claimed))))
            time.sleep(0.02)
        assert run.returncode == 0, run.stderr.read()
    assert ("0", "1") in seen and seen <= {(), ("0",), ("1",), ("0", "1")}


def gpu_of(repository: Path, name: str) -> str | None:
    """The GPUs that the training of a cell says in its log it has for itself; None before it says so."""
    log = repository / f"results/logs/shapes/{name}/train.log"
    claimed = re.search("^GPUs of this job alone: (.+)$", log.read_text(), re.MULTILINE) if log.exists() else None
    return claimed and claimed[1]


def test_a_killed_extraction_loses_no_more_than_its_shard(finished, tmp_path):
    """kill -9 while a shard is written: what is half made has no name, and the same command makes it whole."""
    command = [*CENTERCLIP, "frames", str(tmp_path / "0000.lmdb"), "--manifests", "results/shapes/manifest.csv"]
    command += ["--size", "56", "--fps", "3", "--shards", "1"]
    process = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".0000.lmdb.*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "0000.lmdb").exists() and not (tmp_path / "0000.csv").exists()
    subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True, capture_output=True)
    assert (pd.read_csv(tmp_path / "0000.csv")["frames"] > 0).all()
