"""The real workflow under a small config, in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import REPOSITORY

from support import hashed

SMALL = {
    "run": {
        "variants": ["zeroshot", "baseline", "kmedoids", "spectral"],
        "full_size": False,
        "costs_minutes": 0.05,  # a turn
    },
    "training": {"epochs": 2, "batch_size": 8},
    "benchmarks": {"shapes": {"shards": 2, "source": {"videos": {"train": 8, "val": 1, "test": 12}, "resolution": 64}}},
}
METRICS = ("text_to_video", "video_to_text", "n_texts", "n_videos", "n_videos_left_out")
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
CENTERCLIP = [sys.executable, "-m", "centerclip"]


def copy_repository(directory: Path, overlay: dict) -> Path:
    """Copy what the workflow needs to `directory`, with `overlay` as small.yaml; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "environment.yml", "config", "workflow", "centerclip", "profiles"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    (directory / "small.yaml").write_text(yaml.safe_dump(overlay))
    return directory


def snakemake(directory: Path, *arguments: str, env: dict = ENVIRONMENT) -> subprocess.CompletedProcess:
    """Run Snakemake in `directory` under the demo's config and small.yaml."""
    command = [*SNAKEMAKE, "--configfile", "config/demo.yaml", "small.yaml", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)


def typed(directory: Path, line: str, env: dict = ENVIRONMENT) -> subprocess.CompletedProcess:
    """Run a line as a user types it in `directory`."""
    return subprocess.run(line, cwd=directory, env=env, capture_output=True, text=True, shell=True)


def hashed_jobs(directory: Path) -> dict[str, str]:
    """An environment in which the jobs of the repository in `directory` are `support.hashed`."""
    python = directory / "bin/python"
    python.parent.mkdir()
    python.write_text(f"#!{sys.executable} -S\n{Path(hashed.__file__).read_text()}")
    python.chmod(0o755)
    (directory / "fate").write_text("0 0")
    return ENVIRONMENT | {"PATH": f"{python.parent}:{ENVIRONMENT['PATH']}"}


def jobs(directory: Path, *arguments: str) -> dict[str, int]:
    """What a dry-run would do: rule -> number of jobs."""
    done = snakemake(directory, "--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    stats = re.search(r"Job stats:\n.*?\n-[- ]+\n(.*?)\ntotal", done.stderr + done.stdout, re.DOTALL)
    return {rule: int(count) for rule, count in map(str.split, stats[1].splitlines())} if stats else {}


def result(directory: Path, variant: str) -> dict:
    """The results of a cell of `shapes`."""
    return json.loads((directory / f"results/shapes_{variant}.json").read_text())


def trainings(directory: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """The processes that train in `directory` now: name of the cell -> process and its environment."""
    running = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if command[1:4] == ["-m", "centerclip", "train"] and (process / "cwd").readlink() == directory:
                lines = (process / "environ").read_text().split("\0")
                name = Path(command[4]).parent.name
                running[name] = int(process.name), dict(line.split("=", 1) for line in lines if line)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            pass
    return running


def folder_overlay(videos: Path, captions: Path, max_unreadable_share: float, **source) -> dict:
    """A config for the videos of a folder, evaluated without training."""
    block = {
        "source": {"reader": "folder", "videos": str(videos), "captions": str(captions)} | source,
        **{"fps": 3, "shards": 2, "max_unreadable_share": max_unreadable_share, "frames": 6, "text_tokens": 32},
        "stage": {"block": 2, "segments": 2, "clusters": 49},
    }
    run = {"benchmarks": ["mine"], "variants": ["zeroshot"], "full_size": False, "costs": False}
    return {"run": run, "benchmarks": {"mine": block}}
