"""The real workflow, as a user runs it, under a small config in a copy of the repository."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from browser import read_report
from conftest import REPOSITORY
from kill_training import training_command
from PIL import Image
from safetensors.torch import load_file
from server import serving
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_frames import make_video
from test_gpus import machine

from centerclip.manifest import read_manifest
from centerclip.metrics import RECALLED

SMALL = {
    "run": {"variants": ["zeroshot", "baseline", "kmedoids", "spectral"]},
    "training": {"epochs": 2, "batch_size": 8},
    "benchmarks": {"shapes": {"shards": 2, "source": {"videos": {"train": 8, "val": 1, "test": 12}, "resolution": 64}}},
}
PICTURES = ("tokens", "queries")
PLOTS = ("recall", "recall_at_k", "recall_vs_cost", "cost", "training")
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def copy_repository(directory: Path, overlay: dict) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "environment.yml", "config", "workflow", "centerclip"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    (directory / "small.yaml").write_text(yaml.safe_dump(overlay))
    return directory


def snakemake(directory: Path, *arguments: str, env: dict = ENVIRONMENT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/demo.yaml", "small.yaml", "--cores", "2"]
    return subprocess.run([*command, *arguments], cwd=directory, env=env, capture_output=True, text=True)


def jobs(directory: Path, *arguments: str) -> dict[str, int]:
    """What a dry-run would do: rule -> number of jobs."""
    done = snakemake(directory, "--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    stats = re.search(r"Job stats:\n.*?\n-[- ]+\n(.*?)\ntotal", done.stderr + done.stdout, re.DOTALL)
    return {rule: int(count) for rule, count in map(str.split, stats[1].splitlines())} if stats else {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A copy of the repository in which the whole workflow has run."""
    directory = copy_repository(tmp_path_factory.mktemp("repository"), SMALL)
    done = snakemake(directory, "all")
    assert done.returncode == 0, done.stderr
    return directory


# What is measured anew where a model changes, and shown
COSTS = {"efficiency": 1, "table": 1, "summary": 1, "plot": len(PLOTS), "all": 1}


def cell(directory: Path, variant: str) -> dict:
    return json.loads((directory / f"results/shapes_{variant}.json").read_text())


METRICS = ("text_to_video", "video_to_text", "n_texts", "n_videos", "n_videos_left_out")


def test_every_cell_is_complete(finished):
    for variant in SMALL["run"]["variants"]:
        result = cell(finished, variant)
        assert (result["n_texts"], result["n_videos"], result["n_videos_left_out"]) == (48, 12, 0)
        assert result["n_texts_cut"] == 0
        for direction in ("text_to_video", "video_to_text"):
            assert list(result[direction]) == [*(f"R@{k}" for k in RECALLED), "MdR", "MnR"]
            assert 0 <= result[direction]["R@1"] <= result[direction]["R@10"] <= result[direction]["R@20"] == 100
        assert result["provenance"]["versions"]["torch"] and result["settings"]["variant"] == variant
        if variant == "zeroshot":
            assert result["training"] is None
        else:
            assert result["training"]["train_texts_cut"] == 0
            epochs = result["training"]["epochs"]
            chosen = epochs[result["training"]["selected_epoch"] - 1]
            assert len(epochs) == 2
            assert {key: chosen[key] for key in METRICS[:4]} == {key: result[key] for key in METRICS[:4]}


def test_clustering_costs_less(finished):
    """By hand, 6 frames of 49 patches, width 64, 4 blocks, 2 segments of 147 tokens that keep 49."""
    width, embedding = 64, 6 * 49 * 2 * 3 * 8 * 8 * 64

    def blocks(sequences, count):
        return sequences * count * 2 * (12 * width**2 * 50 + 2 * width * 50**2)

    baseline = embedding + blocks(6, 4) + 6 * 2 * width * 64
    products = 73 * 147 + 74 * 74  # of 147 tokens, but those below the diagonal that are copied
    clustered = embedding + blocks(6, 2) + 2 * 2 * products * width + blocks(2, 2) + 2 * 2 * width * 64
    costs = {variant: cell(finished, variant)["cost"] for variant in SMALL["run"]["variants"]}
    ratio = costs["kmedoids"]["gflops_per_video"] / costs["baseline"]["gflops_per_video"]
    assert ratio == pytest.approx(clustered / baseline, rel=1e-6)
    assert costs["spectral"]["saved_bytes_per_video"] < 0.75 * costs["baseline"]["saved_bytes_per_video"]
    assert costs["zeroshot"]["gflops_per_video"] == costs["baseline"]["gflops_per_video"]


def test_efficiency_is_measured_beside_nothing_else(finished):
    found = json.loads((finished / "results/shapes/efficiency.json").read_text())
    assert found["threads"] == 2  # all of --cores
    assert [one["variant"] for one in found["rows"]] == SMALL["run"]["variants"]
    for one in found["rows"]:
        assert one["gflops"] == pytest.approx(cell(finished, one["variant"])["cost"]["gflops_per_video"])
        assert 0 < one["ms_low"] <= one["ms"] <= one["ms_high"] and one["batch_ms"] <= one["ms"]


def test_tables_and_plots(finished):
    table = pd.read_csv(finished / "results/tables/shapes.csv").set_index("variant")
    assert list(table.index) == SMALL["run"]["variants"]
    assert table.loc["kmedoids", "v2t MdR"] == cell(finished, "kmedoids")["video_to_text"]["MdR"]
    text = (finished / "results/tables/shapes.md").read_text()
    assert f"{table.loc['spectral', 't2v R@5']:.1f}" in text and "48 captions and 12 videos" in text
    for suffix, end in (("html", "</table>"), ("tex", r"\end{tabular}")):
        assert end in (finished / f"results/tables/shapes.{suffix}").read_text()
    assert "| shapes      | tiny " in (finished / "results/tables/summary.md").read_text()
    for plot in PLOTS:
        assert (finished / f"results/plots/shapes_{plot}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (finished / f"results/plots/shapes_{plot}.svg").read_text()
    for picture in PICTURES:
        assert Image.open(finished / f"results/plots/shapes_{picture}.png").width > 500


def test_the_summary_is_of_the_tables_of_earlier_runs_too(finished):
    done = snakemake(finished, "results/tables/summary.md", "--forcerun", "summary", "--dry-run", "--printshellcmds")
    assert re.search(r"centerclip.summary .*--tables .*shapes.csv .*msvd.csv .*didemo.csv ", done.stdout + done.stderr)


def test_report_opens_offline_with_every_table_and_plot(finished, tmp_path):
    done = snakemake(finished, "--report", "report.html")
    assert done.returncode == 0, done.stderr
    found = read_report(finished / "report.html", tmp_path)
    assert found["errors"] == found["loaded"] == []
    results = {(result["category"], result["subcategory"], result["name"]): result for result in found["results"]}
    pictures = {key: result["picture"] for key, result in results.items() if "picture" in result}
    plots = {("shapes", "plots", plot.replace("_", " ")) for plot in PLOTS}
    assert pictures.keys() == plots | {("shapes", "pictures", f"results/plots/shapes_{name}.png") for name in PICTURES}
    assert all(width > 500 and height > 300 for width, height in pictures.values())
    (table,) = [result.get("page") or result["file"] for key, result in results.items() if key[1] == "tables"]
    for variant in SMALL["run"]["variants"]:
        recall = f"{cell(finished, variant)['text_to_video']['R@1']:.1f}"
        assert re.search(rf"\b{variant}\b.*?\b{recall}\b", table, re.DOTALL)
    captions = {result["caption"]: result["category"] for result in found["results"]}
    assert len(captions) == len(results)
    assert all(category == "summary" or re.search(r"\b(on|of) shapes\b", text) for text, category in captions.items())


def test_ablations_are_plotted_for_the_grids_asked_for(finished):
    rules = jobs(finished, "all", "--config", "run={grids: [clusters]}")
    assert rules == {"train": 7, "evaluate": 7} | COSTS | {"plot": len(PLOTS) + 1}


def test_what_would_come_out_empty_is_not_drawn(tmp_path):
    """Of untrained variants no training and no recall beside the baseline's; of sampling no clusters."""
    repository = copy_repository(tmp_path, SMALL)
    for variants, plots in (("zeroshot", len(PLOTS) - 2), ("baseline, pooling, sparse_sampling", len(PLOTS))):
        rules = jobs(repository, "all", "--config", f"run={{variants: [{variants}]}}")
        assert (rules["plot"], rules["picture"]) == (plots, 1)


def test_another_seed_trains_no_other_again(finished):
    (finished / "seeds.yaml").write_text("seeds: [42, 7]")
    rules = jobs(finished, "all", "--configfile", "config/demo.yaml", "small.yaml", "seeds.yaml")
    assert rules == {"train": 3, "evaluate": 3} | {rule: COSTS[rule] for rule in COSTS if rule != "efficiency"}


def test_nothing_is_done_twice(finished):
    assert jobs(finished, "all") == {}


def test_how_jobs_go_about_their_work_makes_none_of_it_again(finished):
    conduct = {"training": {"workers": 3, "checkpoint_minutes": 7}, "evaluation": {"batch_size": 3, "workers": 3}}
    (finished / "conduct.yaml").write_text(yaml.safe_dump(conduct))
    assert jobs(finished, "all", "--configfile", "config/demo.yaml", "small.yaml", "conduct.yaml") == {}


@pytest.mark.parametrize(
    ("edited", "rules"),
    [
        ("small.yaml", {"train": 1, "evaluate": 1, "picture": 2} | COSTS),
        ("centerclip/clustering/__init__.py", {"train": 3, "evaluate": 4, "picture": 2} | COSTS),
        ("centerclip/training.py", {"train": 3, "evaluate": 3, "picture": 2} | COSTS),
        ("centerclip/clustering/spectral.py", {"train": 1, "evaluate": 1, "picture": 1} | COSTS),
        ("centerclip/efficiency.py", COSTS),
        ("centerclip/summary.py", {"summary": 1, "all": 1}),
        ("centerclip/plots.py", {"plot": len(PLOTS), "all": 1}),
        ("centerclip/pictures.py", {"picture": 2, "all": 1}),
    ],
)
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(finished, edited, rules):
    file = finished / edited
    before, times = file.read_text(), (file.stat().st_atime, file.stat().st_mtime)
    if edited == "small.yaml":
        file.write_text(yaml.safe_dump(SMALL | {"variants": {"kmedoids": {"training": {"lr": 0.002}}}}))
    else:
        file.write_text(before + "\n# edited\n")
    try:
        assert jobs(finished, "all") == rules
    finally:
        file.write_text(before)
        os.utime(file, times)


def test_one_cell_again_from_scratch_has_the_same_metrics(finished, tmp_path):
    again = copy_repository(tmp_path, SMALL)
    done = snakemake(again, "results/shapes_kmedoids.json")
    assert done.returncode == 0, done.stderr
    assert not (again / "results/shapes_baseline.json").exists()
    first, second = (json.dumps({key: cell(place, "kmedoids")[key] for key in METRICS}) for place in (finished, again))
    assert first == second
    weights = "results/shapes/kmedoids/weights.safetensors"
    assert (again / weights).read_bytes() == (finished / weights).read_bytes()


def test_training_killed_again_and_again_ends_at_the_same_weights(finished, tmp_path):
    settings = cell(finished, "baseline")["settings"]
    settings["training"]["checkpoint_minutes"] = 1e-9  # after each step
    command, checkpoint = (
        training_command(finished / "results", settings, tmp_path),
        tmp_path / "checkpoints/checkpoint.pt",
    )
    for _ in range(3):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT)
        while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0) == before:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "training ended before it could be killed"
    assert not (tmp_path / "w").exists()
    subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True)
    assert "resuming after" in (tmp_path / "train.log").read_text()
    assert (tmp_path / "w").read_bytes() == (finished / "results/shapes/baseline/weights.safetensors").read_bytes()
    assert not checkpoint.exists()


def test_captions_to_evaluate_are_missed_before_training(finished, tmp_path):
    """The one video of split val has no frames."""
    settings = cell(finished, "baseline")["settings"] | {"select": "val"}
    report = pd.read_csv(finished / "results/shapes/frames/56px/report.csv")
    manifest = read_manifest(finished / "results/shapes/manifest.csv").set_index("video_id")
    report[report["video_id"].map(lambda video: manifest.loc[[video], "split"].iloc[0]) != "val"].to_csv(
        finished / "results/shapes/frames/56px/without.csv", index=False
    )
    command = training_command(finished / "results", settings, tmp_path)
    command[command.index("--frames") + 1] = str(finished / "results/shapes/frames/56px/without.csv")
    done = subprocess.run(command, cwd=finished, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: no captioned video of split 'val' has frames"
    assert "epoch 1" not in (tmp_path / "train.log").read_text()


def family(process: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children = [
        int(child) for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [process, *(one for child in children for one in family(child))]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_that_its_cluster_ends_goes_on_from_the_step_it_was_at(finished, tmp_path, processes):
    """SLURM's time limit: SIGTERM to the launcher, the trainers and their loaders. Two trainers do what one does."""
    settings = cell(finished, "kmedoids")["settings"]
    settings["training"] |= {"gpus": processes, "workers": 1, "checkpoint_minutes": 99}
    command, log = training_command(finished / "results", settings, tmp_path), tmp_path / "train.log"
    training = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not (log.exists() and re.search(r"\| [1-4]/4 \[", log.read_text())):
        assert training.poll() is None, log.read_text()
        time.sleep(0.01)
    for one in family(training.pid):
        os.kill(one, signal.SIGTERM)
    assert "stopped by" in training.communicate(timeout=60)[1] and training.returncode == 1
    progress = torch.load(tmp_path / "checkpoints/checkpoint.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) > (0, 0)
    subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True)
    assert f"resuming after {progress['epoch']} epochs and {progress['step']} steps" in log.read_text()

    alone = load_file(finished / "results/shapes/kmedoids/weights.safetensors")
    for name, tensor in load_file(tmp_path / "w").items():
        most = 1e-3 * alone[name].abs().max() + 1e-5 if processes > 1 else 0
        assert (tensor - alone[name]).abs().max() <= most, name
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(2 * 32 // 8))
    history = json.loads((tmp_path / "h.json").read_text())
    assert [event.value for event in events.Scalars("R@1/text_to_video")] == pytest.approx(
        [epoch["text_to_video"]["R@1"] for epoch in history["epochs"]]
    )


def test_the_loader_benchmark(finished, tmp_path):
    command = [sys.executable, "-m", "centerclip.loader_benchmark", "--cell", "results/shapes_kmedoids.json"]
    arguments = ["--workers", "0", "1", "--out", str(tmp_path / "rates.json")]
    subprocess.run([*command, *arguments], cwd=finished, env=ENVIRONMENT, check=True)
    rows = json.loads((tmp_path / "rates.json").read_text())["rows"]
    assert [row["workers"] for row in rows] == [0, 1] and all(row["samples a second"] > 0 for row in rows)
    done = subprocess.run([*command, "--workers", "2"], cwd=finished, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "error: 4 batches are too few to measure 2 workers; 5 is the least"


def trainings(directory: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """The processes that train in `directory` now: variant -> process and its environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if command[1:3] == ["-m", "centerclip.training"] and (process / "cwd").readlink() == directory:
                lines = (process / "environ").read_text().split("\0")
                variant = Path(command[command.index("--checkpoints") + 1]).parent.name
                found[variant] = int(process.name), dict(line.split("=", 1) for line in lines if line)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            pass
    return found


def test_a_failed_variant_is_missing_from_the_table_with_the_reason(finished, tmp_path):
    """Its training fails where a result of before is left; the next run makes the table as usual."""
    repository = tmp_path / "repository"
    shutil.copytree(finished, repository)
    checkpoints = repository / "results/shapes/kmedoids/checkpoints"
    table, summary = (repository / f"results/tables/{name}.md" for name in ("shapes", "summary"))
    shutil.rmtree(checkpoints)
    checkpoints.touch()
    done = snakemake(repository, "all", "--keep-going", "--forcerun", "results/shapes/kmedoids/weights.safetensors")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    text = table.read_text()
    assert "| kmedoids (not made) |" in text
    assert "kmedoids is not made: results/shapes/kmedoids/checkpoints: File exists." in text
    recall = f"{cell(finished, 'spectral')['text_to_video']['R@5']:.1f}"
    assert re.search(rf"^\| spectral .*\b{recall}\b", text, re.MULTILINE)
    assert re.search(r"^\| shapes .*-> [\d.]+, spectral", summary.read_text(), re.MULTILINE)
    checkpoints.unlink()
    assert jobs(repository, "all") == {rule: COSTS[rule] for rule in COSTS if rule != "efficiency"}


def test_three_trainings_on_two_gpus(finished, tmp_path):
    """Two at a time run side by side, each on a GPU of its own, and nobody has to say so."""
    repository, environment = tmp_path / "repository", machine(tmp_path / "machine", 2)
    shutil.copytree(finished, repository)
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/demo.yaml", "small.yaml", "--cores", "4"]
    command += ["--forcerun", "train", "--until", "train"]
    seen = set()
    with subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None:
            seen.add(tuple(sorted(now["CUDA_VISIBLE_DEVICES"] for _, now in trainings(repository).values())))
            time.sleep(0.02)
        assert run.returncode == 0, run.stderr.read()
    assert ("0", "1") in seen and seen <= {(), ("0",), ("1",), ("0", "1")}


def test_a_machine_without_a_gpu_says_so_once(finished, tmp_path):
    done = snakemake(finished, "--dry-run", "all", env=machine(tmp_path, 0))
    assert (done.stdout + done.stderr).count("no GPU: training and evaluation run on the CPU") == 1


class TestMistakes:
    """Each is one clear line on the terminal, and no traceback."""

    def line(self, done: subprocess.CompletedProcess, expected: str) -> None:
        assert done.returncode != 0
        assert expected in done.stderr + done.stdout
        assert "Traceback" not in done.stderr + done.stdout

    def test_in_the_config(self, tmp_path):
        for overlay, expected in (
            ({"trainig": {}}, "small.yaml: trainig: unknown key; allowed are run, seed"),
            ({"run": {"variants": ["kmean"]}}, "small.yaml: run.variants: 'kmean' is not one of zeroshot, baseline"),
            ({"benchmarks": {"shapes": {"frames": 7}}}, "segments 2 does not divide the 7 frames"),
        ):
            directory = copy_repository(tmp_path / str(len(list(tmp_path.iterdir()))), overlay)
            self.line(snakemake(directory, "--dry-run", "all"), expected)

    def test_in_the_target(self, finished):
        done = snakemake(finished, "--dry-run", "results/shapes_kmean.json")
        self.line(done, "unknown variant 'kmean'; the config has zeroshot, baseline")
        done = snakemake(finished, "--dry-run", "results/shape_kmedoids.json")
        self.line(done, "unknown benchmark 'shape'; the config has shapes")

    def test_weights(self, finished, tmp_path):
        overlay = SMALL | {"weights": {"tiny": "broken.safetensors"}}
        (finished / "broken.safetensors").write_bytes(b"no weights")
        (finished / "other.yaml").write_text(yaml.safe_dump(overlay))
        done = snakemake(
            finished, "--configfile", "config/demo.yaml", "other.yaml", "--cores", "1", "results/shapes_zeroshot.json"
        )
        self.line(done, "error: weights broken.safetensors: not a whole weights file")


def folder_overlay(videos: Path, captions: Path, max_bad: float, **source) -> dict:
    block = {
        "source": {"reader": "folder", "videos": str(videos), "captions": str(captions)} | source,
        **{"fps": 3, "shards": 2, "max_bad": max_bad, "frames": 6, "words": 32},
        "stage": {"block": 2, "segments": 2, "clusters": 49},
    }
    run = {"benchmarks": ["mine"], "variants": ["zeroshot"]}
    return {"run": run, "benchmarks": {"mine": block}}


def test_a_folder_of_ones_own_videos(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        make_video(videos / f"{number}.mp4", count=10 + 10 * number)
    (videos / "broken.mp4").write_text("not a video")
    captions = tmp_path / "captions.csv"
    captions.write_text(f"video,caption\n0.mp4,grey\n1.mp4,{'grey ' * 31}\n2.mp4,\nbroken.mp4,lost\n")
    repository = copy_repository(tmp_path / "repository", folder_overlay(videos, captions, 0.01))
    done = snakemake(repository, "results/mine_zeroshot.json")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "1 of 4 videos (25.0%) gave no frame, more than the 1.0% that max_bad allows" in done.stderr
    assert "broken.mp4: not a video: " in done.stderr
    (repository / "small.yaml").write_text(yaml.safe_dump(folder_overlay(videos, captions, 0.3)))
    done = snakemake(repository, "results/mine_zeroshot.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((repository / "results/mine_zeroshot.json").read_text())
    assert (result["n_texts"], result["n_videos"]) == (2, 3)  # the third video has no caption: a candidate only
    assert (result["n_texts_left_out"], result["n_videos_left_out"]) == (1, 1)
    assert result["n_texts_cut"] == 1  # of 33 tokens with the start and end marks, where 32 are read


def test_a_video_repaired_replaced_or_deleted_after_a_run_is_noticed(tmp_path):
    """By the command that made the results, and only by what sees that video. Braces in a path change nothing."""
    videos = tmp_path / "{x}"
    videos.mkdir()
    names = [f"{number}.mp4" for number in range(6)]
    for number, name in enumerate(names):
        make_video(videos / name, count=10 + 2 * number)
    (videos / names[0]).write_text("not a video")
    captions = videos / "captions.csv"
    captions.write_text("video,caption\n" + "".join(f"{name},grey {name}\n" for name in names))
    repository = copy_repository(tmp_path / "repository", folder_overlay(videos, captions, 0.01))
    target = "results/mine_zeroshot.json"
    assert "1 of 6 videos (16.7%) gave no frame" in snakemake(repository, target).stderr
    make_video(videos / names[0], count=10)
    assert snakemake(repository, target).returncode == 0
    assert jobs(repository, target) == {}
    shown = {"frames": 1, "frames_report": 1, "evaluate": 1}
    for change, frames in ((lambda path: make_video(path, count=40), 12), (lambda path: make_video(path, count=10), 3)):
        change(videos / names[3])
        os.utime(videos / names[3], (1, 1))  # older than all that was made of it
        assert jobs(repository, target) == shown
        assert snakemake(repository, target).returncode == 0
        report = pd.read_csv(repository / "results/mine/frames/56px/report.csv").set_index("video_id")
        assert report["frames"][names[3]] == frames and (report["frames"] > 0).all()
        assert jobs(repository, target) == {}
    (videos / names[5]).unlink()
    assert jobs(repository, target) == shown
    assert f"{names[5]}: no such file" in snakemake(repository, target).stderr
    captions.write_text(captions.read_text().replace("grey 1", "greyer 1"))
    os.utime(captions, (1, 1))
    assert jobs(repository, target)["manifest"] == 1


def test_a_folder_of_real_clips_good_and_broken(shared_clips, tmp_path):
    overlay = folder_overlay(shared_clips, shared_clips / "manifest.csv", 0.2, columns={"video": "file"})
    repository = copy_repository(tmp_path, overlay)
    done = snakemake(repository, "all")
    assert done.returncode == 0, done.stderr
    report = pd.read_csv(repository / "results/mine/frames/56px/report.csv", keep_default_na=False)
    bad = report[report["frames"] == 0].set_index("video_id")["reason"].to_dict()
    assert bad == {
        "moviepy__result.webm": "empty file (0 bytes)",
        "exoplayer__invalid-bitstream.webm": "no frame decodes",
        "exoplayer__sample_opus.mp4": "no video stream",
    }
    result = json.loads((repository / "results/mine_zeroshot.json").read_text())
    assert (result["n_videos"], result["n_videos_left_out"]) == (len(report) - 3, 3)
    assert result["n_texts"] == (pd.read_csv(shared_clips / "manifest.csv")["caption"].notna()).sum()


def tiny_msvd(videos: int) -> dict[str, bytes]:
    """The archives of an MSVD of a few short videos, by their paths on a server: one is missing, one no video."""
    names = [f"v{number}_0_1" for number in range(videos)]
    annotations, archive = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(annotations, "w") as file:
        file.writestr("raw-captions.pkl", pickle.dumps({name: [["grey", name], ["red"]] for name in names}, protocol=2))
        file.writestr("train_list.txt", "\n".join(names[:-3]))
        file.writestr("val_list.txt", names[-3])
        file.writestr("test_list.txt", "\n".join(names[-2:]))
    with tempfile.TemporaryDirectory() as directory, tarfile.open(fileobj=archive, mode="w") as tar:
        for number, name in enumerate(names[1:]):
            video = make_video(Path(directory) / "v.avi", count=10 + number, codec="mpeg4")
            tar.add(video, f"YouTubeClips/{name}.avi")
        (Path(directory) / "v.avi").write_text("not a video")
        tar.add(Path(directory) / "v.avi", f"YouTubeClips/{names[0]}.avi")
    return {"/msvd_data.zip": annotations.getvalue(), "/YouTubeClips.tar": archive.getvalue()}


def test_a_published_benchmark_from_its_servers_and_one_that_cannot_be_had(tmp_path):
    counts = {split: {"videos": n, "captions": 2 * n} for split, n in (("train", 5), ("val", 1), ("test", 2))}
    overlay = {
        "run": {"benchmarks": ["lsmdc", "msvd"], "variants": ["zeroshot"]},
        "benchmarks": {
            "msvd": {
                "counts": counts, "frames": 6, "shards": 2, "max_bad": 0.2,
                "stage": {"block": 2, "segments": 2, "clusters": 49},
            },
            "lsmdc": {"stage": {"block": 2}},
        },
    }  # fmt: skip
    repository = copy_repository(tmp_path, overlay)
    with serving(tiny_msvd(8)) as server:
        table = (repository / "config/sources.csv").read_text()
        urls = r"https://\S*?/(YouTubeClips.tar|msvd_data.zip),[^,]*"
        table = re.sub(urls, rf"{server.url}/gone,{server.url}/\1", table)
        table = re.sub("7811915,git:[0-9a-f]*", ",", table)  # of the real captions
        (repository / "config/sources.csv").write_text(table)
        without = ENVIRONMENT | {"LSMDC_USER": "", "LSMDC_PASSWORD": ""}
        done = snakemake(repository, "--keep-going", "all", env=without)
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert "lsmdc: set LSMDC_USER and LSMDC_PASSWORD, or name local" in done.stderr.split("Job stats")[0]
        result = json.loads((repository / "results/msvd_zeroshot.json").read_text())
        assert (result["n_texts"], result["n_videos"], result["n_videos_left_out"]) == (4, 2, 0)
        report = pd.read_csv(repository / "results/msvd/frames/56px/report.csv")
        assert report.loc[report["frames"] == 0, "video_id"].tolist() == ["v0_0_1"]
        assert (repository / "results/tables/msvd.md").exists()
        assert "| msvd        | tiny " in (repository / "results/tables/summary.md").read_text()
        assert not (repository / "results/lsmdc/source").exists()
        asked = len(server.requests)
        assert jobs(repository, "results/tables/msvd.md") == {}
        overlay["benchmarks"]["msvd"]["counts"]["test"]["captions"] = 5
        (repository / "small.yaml").write_text(yaml.safe_dump(overlay))
        done = snakemake(repository, "results/msvd_zeroshot.json")
        assert "error: benchmark msvd: 4 captions in split test, where 5 are expected" in done.stderr
        assert len(server.requests) == asked


def test_the_whole_paper_is_planned_quickly(tmp_path):
    """Every benchmark and variant of config.yaml, without the demo's overlay."""
    repository = copy_repository(tmp_path, {})
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "--dry-run", "--quiet", "all"]
    done = subprocess.run(command, cwd=repository, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = int(re.search(r"^total +(\d+)$", done.stdout + done.stderr, re.MULTILINE)[1])
    assert 100 < total < 1500


def test_a_killed_extraction_loses_no_more_than_its_shard(finished, tmp_path):
    """kill -9 while a shard is written: what is half made has no name, and the same command makes it whole."""
    command = [sys.executable, "-m", "centerclip.frames", "shard", "--manifest", "results/shapes/manifest.csv"]
    command += ["--size", "56", "--fps", "3", "--shard", "0", "--shards", "1", "--out", str(tmp_path / "0000.lmdb")]
    process = subprocess.Popen(command, cwd=finished, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".0000.lmdb.*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "0000.lmdb").exists() and not (tmp_path / "0000.csv").exists()
    subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True, capture_output=True)
    assert (pd.read_csv(tmp_path / "0000.csv")["frames"] > 0).all()
