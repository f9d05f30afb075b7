"""The real workflow, as a user runs it, under a small config in a copy of the repository."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from support.browser import read_report
from support.gpus import machine
from support.server import serving
from support.videos import make_video
from support.workflow import (
    CENTERCLIP,
    ENVIRONMENT,
    METRICS,
    SMALL,
    SNAKEMAKE,
    copy_repository,
    folder_overlay,
    jobs,
    result,
    snakemake,
    trainings,
    typed,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from centerclip.backbones import TINY
from centerclip.backbones.clip import build
from centerclip.data.datasets.manifest import read_manifest
from centerclip.evaluate.metrics import RECALLED
from centerclip.method.stage import Model
from centerclip.report.pictures import PICTURES
from centerclip.report.plots import PLOTS
from centerclip.settings.cell import read_cell

# What is shown again where a cell changes, and where costs do
SHOWN = {"table": 1, "summary": 1, "plot": len(PLOTS), "all": 1}
CHECKED = {"result": 4, "picture": 2} | SHOWN
COSTS = {"efficiency": 1} | SHOWN
FULL_SIZE = {"efficiency": 2, "full_size": 1}
FRAMES = {"frames": 2, "frames_report": 1}


def made(train: int, evaluate: int, **jobs: int) -> dict[str, int]:
    """The jobs that run again where so many cells are trained and evaluated again."""
    return jobs | ({"train": train} if train else {}) | {"evaluate": evaluate, "result": evaluate}


EVERY_CELL = made(train=3, evaluate=4, picture=2) | SHOWN
ALGORITHM = made(train=2, evaluate=2, picture=2) | COSTS | FULL_SIZE  # spectral imports kmedoids


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A copy of the repository in which the whole workflow has run."""
    overlay = SMALL | {"run": SMALL["run"] | {"full_size": True}}
    directory = copy_repository(tmp_path_factory.mktemp("repository"), overlay)
    done = snakemake(directory, "all")
    assert done.returncode == 0, done.stderr
    return directory


def test_every_cell_is_complete(finished):
    for variant in SMALL["run"]["variants"]:
        cell = result(finished, variant)
        assert (cell["n_texts"], cell["n_videos"], cell["n_videos_left_out"]) == (48, 12, 0)
        assert cell["n_texts_cut"] == 0
        for direction in ("text_to_video", "video_to_text"):
            assert list(cell[direction]) == [*(f"R@{k}" for k in RECALLED), "MdR", "MnR"]
            assert 0 <= cell[direction]["R@1"] <= cell[direction]["R@10"] <= cell[direction]["R@20"] == 100
        assert cell["provenance"]["versions"]["torch"] and cell["settings"]["variant"] == variant
        if variant == "zeroshot":
            assert cell["training"] is None
        else:
            assert cell["training"]["train_texts_cut"] == 0
            epochs = cell["training"]["epochs"]
            chosen = epochs[cell["training"]["selected_epoch"] - 1]
            assert len(epochs) == 2
            assert {key: chosen[key] for key in METRICS[:4]} == {key: cell[key] for key in METRICS[:4]}


def costs(directory: Path) -> pd.DataFrame:
    """The rows of what the variants of `shapes` cost."""
    return pd.DataFrame(json.loads((directory / "results/shapes/costs.json").read_text())["rows"]).set_index("variant")


def test_clustering_costs_less(finished):
    """By hand, 6 frames of 49 patches, width 64, 4 blocks, 2 segments of 147 tokens that keep 49."""
    width, embedding = 64, 6 * 49 * 2 * 3 * 8 * 8 * 64

    def blocks(sequences, count):
        return sequences * count * 2 * (12 * width**2 * 50 + 2 * width * 50**2)

    baseline = embedding + blocks(6, 4) + 6 * 2 * width * 64
    products = 73 * 147 + 74 * 74  # of 147 tokens, but those below the diagonal that are copied
    clustered = embedding + blocks(6, 2) + 2 * 2 * products * width + blocks(2, 2) + 2 * 2 * width * 64
    table = costs(finished)
    assert table.loc["kmedoids", "gflops"] / table.loc["baseline", "gflops"] == pytest.approx(clustered / baseline)
    assert table.loc["spectral", "saved_mb"] < 0.75 * table.loc["baseline", "saved_mb"]
    assert table.loc["zeroshot", "gflops"] == table.loc["baseline", "gflops"]


def test_costs_are_measured_beside_nothing_else(finished):
    measured = json.loads((finished / "results/shapes/costs.json").read_text())
    assert measured["threads"] == 2  # all of --cores
    assert [row["variant"] for row in measured["rows"]] == SMALL["run"]["variants"]
    for row in measured["rows"]:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"] and row["batch_ms"] <= row["ms"]


def test_the_papers_models_are_measured_beside_nothing_else_and_shown_first(finished):
    measured = json.loads((finished / "results/full_size/costs.json").read_text())
    rows = pd.DataFrame(measured["rows"]).set_index("variant")
    assert measured["threads"] == 2 and rows["tokens_per_block"].map(sum).tolist() == [7200, 7200, 4800, 4800]
    table = pd.read_csv(finished / "results/tables/full_size.csv").set_index("variant")
    assert table["ms"].tolist() == rows.loc[table.index, "ms"].tolist()
    assert (finished / "results/plots/full_size.png").read_bytes().startswith(b"\x89PNG")
    found = (finished / "results/tables/findings.md").read_text()
    assert "kmedoids-s4 takes" in found and "0.67 of the baseline's memory (0.72 in the paper)" in found
    assert (finished / "results/tables/summary.md").read_text().startswith(found)


def test_tables_and_plots(finished):
    table = pd.read_csv(finished / "results/tables/shapes.csv").set_index("variant")
    assert list(table.index) == SMALL["run"]["variants"]
    assert table.loc["kmedoids", "v2t MdR"] == result(finished, "kmedoids")["video_to_text"]["MdR"]
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


def test_long_jobs_leave_their_time_and_memory(finished):
    for job in ("fetch", "frames/56px_0000", "kmedoids/train", "kmedoids/evaluate", "efficiency"):
        assert pd.read_csv(finished / f"results/benchmarks/shapes/{job}.tsv", sep="\t")["s"].iloc[0] > 0


def test_report_opens_offline_with_every_table_and_plot(finished, tmp_path):
    done = snakemake(finished, "--report", "report.html")
    assert done.returncode == 0, done.stderr
    found = read_report(finished / "report.html", tmp_path)
    assert found["errors"] == found["loaded"] == []
    sentences = (finished / "results/tables/findings.md").read_text().split("\n\n")
    assert len(sentences) == 3 and found["first"]["pictures"] == 1
    assert all(" ".join(sentence.split()) in found["first"]["text"] for sentence in sentences)
    results = {(shown["category"], shown["subcategory"], shown["name"]): shown for shown in found["results"]}
    figures = {key: shown["picture"] for key, shown in results.items() if "picture" in shown}
    drawn = {("shapes", "plots", plot.replace("_", " ")) for plot in PLOTS}
    drawn |= {("full size", "plots", "costs")}
    assert figures.keys() == drawn | {("shapes", "pictures", f"results/plots/shapes_{name}.png") for name in PICTURES}
    assert all(width > 500 and height > 300 for width, height in figures.values())
    (table,) = [shown.get("page") or shown["file"] for key, shown in results.items() if key[:2] == ("shapes", "tables")]
    for variant in SMALL["run"]["variants"]:
        recall = f"{result(finished, variant)['text_to_video']['R@1']:.1f}"
        assert re.search(rf"\b{variant}\b.*?\b{recall}\b", table, re.DOTALL)
    captions = {shown["caption"]: shown["category"] for shown in found["results"]}
    assert len(captions) == len(results)
    of_shapes = {text for text, category in captions.items() if category == "shapes"}
    assert all(re.search(r"\b(on|of) shapes\b", text) for text in of_shapes)


def test_ablations_are_plotted_for_the_grids_asked_for(finished):
    rules = jobs(finished, "all", "--config", "run={grids: [clusters]}")
    assert rules == made(7, 7, cell_settings=7, compared_settings=1) | COSTS | {"plot": len(PLOTS) + 1}


def test_what_would_come_out_empty_is_not_drawn(tmp_path):
    """Of untrained variants no training and no recall beside the baseline's; of sampling no clusters."""
    repository = copy_repository(tmp_path, SMALL)
    for variants, plots in (("zeroshot", len(PLOTS) - 2), ("baseline, pooling, sparse_sampling", len(PLOTS))):
        rules = jobs(repository, "all", "--config", f"run={{variants: [{variants}]}}")
        assert (rules["plot"], rules["picture"]) == (plots, 1)


class TestWhatTheUserTypes:
    """The three commands of the project, literally: dry where data, conda or a cluster are missing."""

    def test_one_cell_of_the_paper(self, tmp_path):
        done = typed(copy_repository(tmp_path, {}), "snakemake results/msrvtt_kmedoids.json --dry-run")
        assert done.returncode == 0, done.stderr
        told = done.stdout + done.stderr
        assert "results/msrvtt/frames/224px/0031.lmdb" in told and "LSMDC" not in told

    def test_all_of_the_paper_is_planned_quickly(self, tmp_path):
        done = typed(copy_repository(tmp_path, {}), "snakemake --cores 8 all --dry-run")
        assert done.returncode == 0, done.stderr
        told = done.stdout + done.stderr
        assert 100 < int(re.search(r"^total +(\d+)$", told, re.MULTILINE)[1]) < 1500
        assert "lsmdc: set LSMDC_USER and LSMDC_PASSWORD" in told
        assert re.search(r"^frames +488$", told, re.MULTILINE)  # those of MSR-VTT once, for 9k and 7k

    def test_a_cluster(self, tmp_path):
        """For real: test_slurm.py."""
        done = typed(copy_repository(tmp_path, {}), "snakemake --workflow-profile profiles/slurm all --dry-run")
        assert done.returncode == 0, done.stderr

    def test_one_cell_for_real_from_scratch_has_the_same_metrics(self, finished, tmp_path):
        again = copy_repository(tmp_path, SMALL)
        line = "snakemake results/shapes_kmedoids.json --configfile config/demo.yaml small.yaml"
        done = typed(again, line, machine(tmp_path / "machine", 0))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("no GPU on this machine: what runs here trains and evaluates on the CPU") == 1
        assert not (again / "results/shapes_baseline.json").exists()
        first, second = (
            json.dumps({key: result(place, "kmedoids")[key] for key in METRICS}) for place in (finished, again)
        )
        assert first == second
        weights = "results/shapes/kmedoids/weights.safetensors"
        assert (again / weights).read_bytes() == (finished / weights).read_bytes()


REPORT = "results/shapes/frames/56px/report.csv"


def test_in_another_directory(tmp_path):
    repository = copy_repository(tmp_path / "repository", SMALL)
    done = snakemake(repository, "--directory", str(tmp_path / "elsewhere"), REPORT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / REPORT).exists() and not (repository / "results").exists()


def test_as_a_module_of_another_workflow(tmp_path):
    repository, other = copy_repository(tmp_path / "repository", SMALL), tmp_path / "other"
    (other / "workflow").mkdir(parents=True)
    (other / "workflow/Snakefile").write_text(
        "configfile: 'config.yaml'\n"
        f"module centerclip:\n    snakefile: '{repository}/Snakefile'\n    config: config\n"
        "use rule * from centerclip as centerclip_*\n"
        f"rule mine:\n    default_target: True\n    input: '{REPORT}'\n    output: 'mine.txt'\n"
        "    shell: 'cp {input} {output}'\n"
    )
    files = [yaml.safe_load((repository / name).read_text()) for name in ("config/config.yaml", "config/demo.yaml")]
    (other / "config.yaml").write_text(yaml.safe_dump(files[0]))
    (other / "demo.yaml").write_text(yaml.safe_dump(files[1]))
    (other / "small.yaml").write_text(yaml.safe_dump(SMALL))
    command = [*SNAKEMAKE, "--cores", "2", "--configfile", "config.yaml", "demo.yaml", "small.yaml"]
    done = subprocess.run(command, cwd=other, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (other / "mine.txt").read_text() == (other / REPORT).read_text()


def test_a_damaged_shard_is_made_again_as_its_error_says_and_nothing_else(finished, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(finished, repository)
    shard = repository / "results/shapes/frames/56px/0001.lmdb"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2 :] = b""
    shard.write_bytes(content)
    evaluate = "python -m centerclip evaluate results/shapes/kmedoids/cell.json --gpus 0"
    said = typed(repository, evaluate).stderr.splitlines()[-1]
    target = re.fullmatch(r"error: .*/0001.lmdb: .*; delete 0001.lmdb, then .* with (\S+) as its only target", said)[1]
    shard.unlink()
    assert jobs(repository, target) == {"frames": 1}
    done = snakemake(repository, target)
    assert done.returncode == 0, done.stderr
    assert jobs(repository, "all") == {}
    assert typed(repository, f"{evaluate} --out again.json").returncode == 0


REVISIONS = "settings/revisions.py"


class TestWhatRunsAgain:
    """An edit makes exactly those jobs again whose result could be another."""

    @pytest.fixture
    def edited(self, finished):
        """A function that edits files of the finished repository until the test ends: path -> new text."""
        before = {}

        def edit(path: str, change) -> None:
            file = finished / path
            before.setdefault(file, (file.read_text(), (file.stat().st_atime, file.stat().st_mtime)))
            file.write_text(change(file.read_text()))

        yield edit
        for file, (text, times) in before.items():
            file.write_text(text)
            os.utime(file, times)

    def overlaid(self, finished, overlay, *targets) -> dict[str, int]:
        """What would run with a further config file."""
        (finished / "more.yaml").write_text(yaml.safe_dump(overlay))
        return jobs(finished, *(targets or ["all"]), "--configfile", "config/demo.yaml", "small.yaml", "more.yaml")

    def test_nothing_is_done_twice(self, finished):
        assert jobs(finished, "all") == {}

    def test_an_edit_of_code_that_raises_no_revision(self, finished, edited):
        for file in (finished / "centerclip").rglob("*.py"):
            edited(str(file.relative_to(finished)), lambda text: text + "\nEDITED = True\n")
        assert jobs(finished, "all") == {}

    @pytest.mark.parametrize(
        ("path", "before", "after", "rules"),
        [
            (
                "settings/revisions.py",
                "MANIFEST = 1",
                "MANIFEST = 2",
                {"fetch": 1, "manifest": 1} | FRAMES | EVERY_CELL,
            ),
            (REVISIONS, "FRAMES = 1", "FRAMES = 2", FRAMES | EVERY_CELL),
            (REVISIONS, "TRAINING = 1", "TRAINING = 2", made(train=3, evaluate=3, picture=2) | SHOWN),
            (REVISIONS, "EVALUATION = 1", "EVALUATION = 2", made(train=0, evaluate=4, picture=2) | SHOWN),
            (REVISIONS, "COSTS = 2", "COSTS = 3", COSTS | FULL_SIZE),
            # An algorithm's own number, and the file of one without, as of a user's own.
            ("method/reduction/kmedoids.py", "REVISION = 1", "REVISION = 2", ALGORITHM),
            ("method/reduction/kmedoids.py", "REVISION = 1", "", ALGORITHM),
        ],
    )
    def test_a_revision(self, finished, edited, path, before, after, rules):
        edited(f"centerclip/{path}", lambda text: text.replace(before, after))
        assert jobs(finished, "all") == rules

    def test_the_precision_of_evaluation(self, finished):
        rules = made(train=0, evaluate=4, compared_settings=1, picture=2) | COSTS
        assert self.overlaid(finished, {"evaluation": {"precision": "bfloat16"}}) == rules

    def test_what_is_checked(self, finished):
        """Results are checked and shown again; nothing is trained or evaluated."""
        for limit in ({"counts": {"test": {"captions": 48}}}, {"max_unreadable_share": 0.5}):
            assert self.overlaid(finished, {"benchmarks": {"shapes": limit}}) == CHECKED

    def test_a_check_that_fails_keeps_all_earlier_files_and_is_seen_by_whatever_target(self, finished, tmp_path):
        repository = tmp_path / "repository"
        shutil.copytree(finished, repository)
        before = {path: path.read_bytes() for path in repository.glob("results/**/*.*") if "logs" not in path.parts}
        more = ["results/shapes_kmedoids.json", "--configfile", "config/demo.yaml", "small.yaml", "more.yaml"]
        for captions, failed in ((49, True), (49, True), (48, False)):
            counts = {"benchmarks": {"shapes": {"counts": {"test": {"captions": captions}}}}}
            (repository / "more.yaml").write_text(yaml.safe_dump(counts))
            assert jobs(repository, *more) == {"result": 1}
            done = snakemake(repository, *more)
            said = "error: benchmark shapes: 48 captions in split test, where 49 are expected" in done.stderr
            assert (done.returncode != 0, said) == (failed, failed)
            assert all(path.read_bytes() == content for path, content in before.items() if path.suffix != ".md")

    def test_a_changed_limit_hides_no_missing_result(self, finished, tmp_path):
        repository = tmp_path / "repository"
        shutil.copytree(finished, repository)
        for path in repository.glob("results/shapes_*.json"):
            path.unlink()
        limits = {"benchmarks": {"shapes": {"max_unreadable_share": 0.5, "counts": {"test": {"captions": 48}}}}}
        targets = [f"results/shapes_{variant}.json" for variant in SMALL["run"]["variants"]]
        assert self.overlaid(repository, limits, *targets) == {"result": 4}

    def test_the_recipe(self, finished):
        """Trained cells and what follows; neither zeroshot nor costs."""
        rules = made(train=3, evaluate=3, cell_settings=3, picture=2) | SHOWN
        assert self.overlaid(finished, {"training": {"lr": 0.002}}) == rules
        rules = made(train=1, evaluate=1, cell_settings=1, picture=2) | SHOWN
        assert self.overlaid(finished, {"variants": {"kmedoids": {"training": {"lr": 0.002}}}}) == rules

    def test_the_batch_that_costs_are_measured_on(self, finished):
        assert self.overlaid(finished, {"training": {"gpu_batch": 4}}) == {"compared_settings": 1} | COSTS

    def test_another_seed_trains_no_other_again(self, finished):
        rules = {"cell_settings": 3} | made(train=3, evaluate=3) | SHOWN
        assert self.overlaid(finished, {"seeds": [42, 7]}) == rules

    def test_costs_that_are_switched_off(self, finished):
        without = self.overlaid(finished, {"run": {"costs": False}})
        assert without == SHOWN | {"plot": len(PLOTS) - 2}

    def test_how_jobs_go_about_their_work(self, finished):
        training = {"workers": 3, "threads": 2, "gpus": 2, "chunk": 3, "grad_checkpointing": True}
        evaluation = {"batch_size": 3, "workers": 3, "threads": 2}
        overlay = {"training": training | {"checkpoint_minutes": 7}, "evaluation": evaluation, "stall_seconds": 7}
        overlay |= {"run": {"costs_minutes": 7}}
        assert self.overlaid(finished, overlay) == {}


class TestWhatRunsAgainOfAFolder:
    """The same for captions and videos that are edited and replaced, and for weights that are a file."""

    TARGETS = ("results/mine_zeroshot.json", "results/mine_baseline.json")

    @pytest.fixture(scope="class")
    def repository(self, finished, tmp_path_factory) -> Path:
        directory = tmp_path_factory.mktemp("folder")
        shutil.copytree(finished / "results/shapes/source", directory / "{videos}")  # braces are letters like others
        captions = directory / "{videos}/captions.csv"
        overlay = folder_overlay(directory / "{videos}", captions, 0.01) | {"training": {"epochs": 1, "batch_size": 8}}
        start = shutil.copy(finished / "results/shapes/kmedoids/weights.safetensors", directory / "start.safetensors")
        repository = copy_repository(directory / "repository", overlay | {"weights": {"tiny": str(start)}})
        done = snakemake(repository, *self.TARGETS)
        assert done.returncode == 0, done.stderr
        assert jobs(repository, *self.TARGETS) == {}
        return repository

    def edit(self, file: Path, old: str, new: str) -> None:
        """Edit a file, whose date then is before those of all that was made of it."""
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
        os.utime(file, (1, 1))

    def caption(self, repository: Path, split: str) -> str:
        rows = pd.read_csv(repository.parent / "{videos}/captions.csv")
        return rows.loc[rows["split"] == split, "caption"].iloc[0]

    @pytest.mark.parametrize(
        ("split", "rules"),
        [
            ("test", {"evaluate": 2}),
            ("train", {"train": 1, "evaluate": 1}),
        ],
    )
    def test_one_caption(self, repository, split, rules):
        captions, caption = repository.parent / "{videos}/captions.csv", self.caption(repository, split)
        self.edit(captions, caption, "something else")
        assert jobs(repository, *self.TARGETS) == {"manifest": 1, "result": 2} | rules
        self.edit(captions, "something else", caption)
        assert jobs(repository, *self.TARGETS) == {}

    def test_a_video(self, repository):
        video = next((repository.parent / "{videos}/videos").glob("train*"))
        times = video.stat().st_atime_ns, video.stat().st_mtime_ns
        os.utime(video, (1, 1))
        seen = {"frames": 1, "frames_report": 1, "train": 1, "evaluate": 2, "result": 2}
        assert jobs(repository, *self.TARGETS) == seen
        os.utime(video, ns=times)
        assert jobs(repository, *self.TARGETS) == {}

    def test_weights(self, repository):
        file = repository.parent / "start.safetensors"
        file.touch()
        assert jobs(repository, *self.TARGETS)["train"] == 1


def training_command(directory: Path, cell: str, out: Path, *options: str) -> list[str]:
    """What trains a cell of a finished repository again, with all its files in `out`."""
    path = directory / f"results/shapes/{cell}/cell.json"
    return [*CENTERCLIP, "train", str(path), "--out", str(out), "--log", str(out / "train.log"), *options]


class TestTraining:
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

    @pytest.mark.parametrize("processes", [1, 2])
    def test_one_that_its_cluster_ends_goes_on_from_the_step_it_was_at(self, finished, tmp_path, processes):
        """SLURM's time limit: SIGTERM to the launcher, the trainers and their loaders. Two trainers do as one."""
        options = ["--gpus", str(processes), "--workers", "1", "--checkpoint-minutes", "99"]
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
        # How it goes on changes nothing: with another number of processes, and in chunks.
        command = training_command(finished, "kmedoids", tmp_path, *(["--chunk", "3"] if processes > 1 else options))
        subprocess.run(command, cwd=finished, env=ENVIRONMENT, check=True)
        assert f"resuming after {progress['epoch']} epochs and {progress['step']} steps" in log.read_text()

        alone = load_file(finished / "results/shapes/kmedoids/weights.safetensors")
        for name, tensor in load_file(tmp_path / "weights.safetensors").items():
            most = 1e-3 * alone[name].abs().max() + 1e-5 if processes > 1 else 0
            assert (tensor - alone[name]).abs().max() <= most, name
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


def test_the_loader_benchmark(finished, tmp_path):
    command = [*CENTERCLIP[:2], "centerclip.bench.loader", "--cell", "results/shapes_kmedoids.json"]
    arguments = ["--workers", "0", "1", "--out", str(tmp_path / "rates.json")]
    subprocess.run([*command, *arguments], cwd=finished, env=ENVIRONMENT, check=True)
    rows = json.loads((tmp_path / "rates.json").read_text())["rows"]
    assert [row["workers"] for row in rows] == [0, 1] and all(row["samples a second"] > 0 for row in rows)
    done = subprocess.run([*command, "--workers", "2"], cwd=finished, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "error: 4 batches are too few to measure 2 workers; 5 is the least"


def test_a_failed_variant_is_missing_from_the_partial_table_with_the_reason(finished, tmp_path):
    """Its training fails where a result of before is left. The complete table stays as it was until it can be made."""
    repository = tmp_path / "repository"
    shutil.copytree(finished, repository)
    checkpoints, tables = repository / "results/shapes/kmedoids/checkpoints", repository / "results/tables"
    shutil.rmtree(checkpoints)
    checkpoints.touch()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tables.iterdir()}
    done = snakemake(repository, "all", "--keep-going", "--forcerun", "results/shapes/kmedoids/weights.safetensors")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    text = (tables / "shapes.partial.md").read_text()
    assert re.search(r"^\| kmedoids \(not made\) +\|", text, re.MULTILINE)
    assert "kmedoids is not made: results/shapes/kmedoids/checkpoints: File exists." in text
    recall = f"{result(finished, 'spectral')['text_to_video']['R@5']:.1f}"
    assert re.search(rf"^\| spectral .*\b{recall}\b", text, re.MULTILINE)
    summary = (tables / "summary.partial.md").read_text()
    assert re.search(r"^\| shapes .*-> [\d.]+, spectral", summary, re.MULTILINE)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tables.iterdir()}
    assert after.keys() - before.keys() == {"shapes.partial.md", "summary.partial.md"}
    assert after == after | before
    checkpoints.unlink()
    assert snakemake(repository, "all", "--forcerun", "results/shapes/kmedoids/weights.safetensors").returncode == 0
    assert not list(tables.glob("*.partial.md"))


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


class TestMistakes:
    """Each is one clear line on the terminal, and no traceback."""

    def line(self, done: subprocess.CompletedProcess, expected: str) -> None:
        assert done.returncode != 0
        assert expected in done.stderr + done.stdout
        assert "Traceback" not in done.stderr + done.stdout

    def test_in_the_config(self, tmp_path):
        for overlay, expected in (
            ({"trainig": {}}, "small.yaml: trainig: unknown key; allowed are run, seed"),
            ({"run": {"variants": ["kmean"]}}, "small.yaml: run.variants: 'kmean' is not one of "),
            ({"benchmarks": {"shapes": {"frames": 7}}}, "segments 2 does not divide the 7 frames"),
        ):
            directory = copy_repository(tmp_path / str(len(list(tmp_path.iterdir()))), overlay)
            self.line(snakemake(directory, "--dry-run", "all"), expected)
        done = snakemake(copy_repository(tmp_path / "right", {}), "--dry-run", "all", "--config", "select=middle")
        self.line(done, "--config: select: 'middle' should be 'best', 'val' or 'last'")
        done = snakemake(tmp_path / "right", "--dry-run", "all", "--config", "training={gpus: 2}")
        self.line(done, "--config: training.gpus: '2' should be a valid integer; Snakemake takes what is in brackets")

    def test_in_the_target(self, finished):
        done = snakemake(finished, "--dry-run", "results/shapes_kmean.json")
        self.line(done, "No rule to produce results/shapes_kmean.json")
        done = snakemake(finished, "--dry-run", "results/shapes_kmedoids-s4.json")
        self.line(done, "segments 4 does not divide the 6 frames")
        done = snakemake(finished, "--dry-run", "results/shapes/zeroshot/weights.safetensors")
        self.line(done, "zeroshot is evaluated as it starts, and not trained")
        done = snakemake(finished, "--dry-run", "results/plots/shapes_ablation-clusters.png")
        self.line(done, "clusters is not one of run.grids")

    def test_weights(self, finished):
        (finished / "broken.safetensors").write_bytes(b"no weights")
        for name, expected in (
            ("broken.safetensors", "broken.safetensors: not a whole weights file"),
            ("none.safetensors", "other.yaml: weights.tiny: none.safetensors (in "),
        ):
            (finished / "other.yaml").write_text(yaml.safe_dump(SMALL | {"weights": {"tiny": name}}))
            files = ["--configfile", "config/demo.yaml", "other.yaml", "--cores", "1"]
            self.line(snakemake(finished, *files, "results/shapes_zeroshot.json"), expected)


def test_published_weights_are_made_once_and_others_make_a_cell_anew(tmp_path):
    """Out of a cache of Hugging Face's, without a network."""
    cache, model = tmp_path / "hub/models--org--name", build(Model("tiny"), 3).state_dict()
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0")
    (cache / "snapshots/0").mkdir(parents=True)
    (cache / "snapshots/0/open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    save_file(model, cache / "snapshots/0/open_clip_model.safetensors")
    repository = copy_repository(tmp_path / "repository", SMALL | {"weights": {"tiny": "hf-hub:org/name"}})
    assert jobs(repository, "results/shapes_zeroshot.json")["pretrained_weights"] == 1
    made, offline = (
        "results/weights/tiny/hf-hub:org/name.safetensors",
        {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    done = snakemake(repository, made, env=ENVIRONMENT | offline)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(load_file(repository / made)[name], tensor) for name, tensor in model.items())
    assert "pretrained_weights" not in jobs(repository, "results/shapes_zeroshot.json")
    (repository / "small.yaml").write_text(yaml.safe_dump(SMALL | {"weights": {"tiny": "hf-hub:org/other"}}))
    assert jobs(repository, "results/shapes_zeroshot.json")["pretrained_weights"] == 1
    done = snakemake(repository, "results/weights/tiny/hf-hub:org/other.safetensors", env=ENVIRONMENT | offline)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "error: weights hf-hub:org/other: HF_HUB_OFFLINE is set, and they are not in its cache; name" in done.stderr


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
    assert "1 of 4 videos (25.0%) gave no frame, more than the 1.0% that max_unreadable_share allows" in done.stderr
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
    shown = {"frames": 1, "frames_report": 1, "evaluate": 1, "result": 1}
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


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python unpacks no tar safely")
def test_a_published_benchmark_from_its_servers_and_one_that_cannot_be_had(tmp_path):
    counts = {split: {"videos": n, "captions": 2 * n} for split, n in (("train", 5), ("val", 1), ("test", 2))}
    overlay = {
        "run": {"benchmarks": ["lsmdc", "msvd"], "variants": ["zeroshot"]},
        "benchmarks": {
            "msvd": {
                "counts": counts, "frames": 6, "shards": 2, "max_unreadable_share": 0.2,
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
        assert report["video_id"].nunique() == 2  # nothing that runs reads the other splits
        assert (repository / "results/tables/msvd.md").exists()
        assert "| msvd        | tiny " in (repository / "results/tables/summary.partial.md").read_text()
        assert not (repository / "results/lsmdc/source").exists()
        asked = len(server.requests)
        told = snakemake(repository, "--dry-run", "results/tables/msvd.md", env=without)
        assert "Nothing to be done" in told.stdout + told.stderr
        assert "lsmdc" not in told.stdout + told.stderr  # which that target does not need
        overlay["benchmarks"]["msvd"]["counts"]["test"]["captions"] = 5
        (repository / "small.yaml").write_text(yaml.safe_dump(overlay))
        done = snakemake(repository, "results/msvd_zeroshot.json")
        assert "error: benchmark msvd: 4 captions in split test, where 5 are expected" in done.stderr
        assert len(server.requests) == asked


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
