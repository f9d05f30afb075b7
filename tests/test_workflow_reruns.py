"""An edit makes exactly those jobs of the workflow again whose result could be another."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.hashed import SPLITS
from support.workflow import (
    SMALL,
    copy_repository,
    folder_overlay,
    hashed_jobs,
    jobs,
    result,
    snakemake,
    typed,
)

from centerclip.report.plots import PLOTS

# What is shown again where a cell changes, and where costs do
SHOWN = {"table": 1, "summary": 1, "plot": len(PLOTS), "all": 1}
CHECKED = {"result": 4, "picture": 3} | SHOWN
COSTS = {"efficiency": 1} | SHOWN
FULL_SIZE = {"efficiency": 2, "full_size": 1}
FRAMES = {"frames": 2, "frames_report": 1}


def made(train: int, evaluate: int, **jobs: int) -> dict[str, int]:
    """The jobs that run again where so many cells are trained and evaluated again."""
    return jobs | ({"train": train} if train else {}) | {"evaluate": evaluate, "result": evaluate}


EVERY_CELL = made(train=3, evaluate=4, picture=3) | SHOWN
ALGORITHM = made(train=2, evaluate=2, picture=3) | COSTS | FULL_SIZE  # spectral imports kmedoids


def test_ablations_are_plotted_for_the_grids_asked_for(finished):
    rules = jobs(finished, "all", "--config", "run={grids: [clusters]}")
    assert rules == made(7, 7, cell_settings=7, compared_settings=1, picture=1) | COSTS | {"plot": len(PLOTS) + 1}


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

    def test_an_edit_of_code_that_raises_no_revision(self, finished, edited):
        for file in (finished / "centerclip").rglob("*.py"):
            edited(str(file.relative_to(finished)), lambda text: text + "\nEDITED = True\n")
        assert jobs(finished, "all") == {}

    @pytest.mark.parametrize(
        ("name", "rules"),
        [
            ("MANIFEST", {"fetch": 1, "manifest": 1} | FRAMES | EVERY_CELL),
            ("FRAMES", FRAMES | EVERY_CELL),
            ("TRAINING", made(train=3, evaluate=3, picture=3) | SHOWN),
            ("EVALUATION", made(train=0, evaluate=4, picture=3) | SHOWN),
            ("COSTS", COSTS | FULL_SIZE),
            ("REVISION", ALGORITHM),  # that of k-medoids
        ],
    )
    def test_a_revision(self, finished, edited, name, rules):
        file = "method/reduction/kmedoids.py" if name == "REVISION" else "settings/revisions.py"
        edited(f"centerclip/{file}", lambda text: re.sub(f"(?m)^{name} = ", f"{name} = 1", text))
        assert jobs(finished, "all") == rules

    def test_the_precision_of_evaluation(self, finished):
        rules = made(train=0, evaluate=4, compared_settings=1, picture=3) | COSTS
        assert self.overlaid(finished, {"evaluation": {"precision": "bfloat16"}}) == rules

    def test_what_is_checked(self, finished):
        """Results are checked and shown again; nothing is trained or evaluated."""
        limits = {"counts": {"test": {"captions": 48}}, "max_unreadable_share": 0.5}
        assert self.overlaid(finished, {"benchmarks": {"shapes": limits}}) == CHECKED

    def test_a_check_that_fails_keeps_all_earlier_files_and_is_seen_by_whatever_target(self, finished, tmp_path):
        repository = tmp_path / "repository"
        shutil.copytree(finished, repository)
        before = {path: path.read_bytes() for path in repository.glob("results/**/*.*") if "logs" not in path.parts}
        more = ["results/shapes_kmedoids.json", "--configfile", "config/demo.yaml", "small.yaml", "more.yaml"]
        for captions, failed in ((49, True), (48, False)):
            counts = {"benchmarks": {"shapes": {"counts": {"test": {"captions": captions}}}}}
            (repository / "more.yaml").write_text(yaml.safe_dump(counts))
            done = snakemake(repository, *more)
            assert not failed or jobs(repository, *more) == {"result": 1}
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
        """A trained cell and what follows; not costs."""
        rules = made(train=1, evaluate=1, cell_settings=1, picture=3) | SHOWN
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
    """The same for captions and videos that are edited and replaced, and for weights that are a file. The jobs are
    `support.hashed`, which read text in place of videos."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory) -> Path:
        directory = tmp_path_factory.mktemp("folder") / "{videos}"  # braces are letters like others
        directory.mkdir()
        rows = [(f"{split}{number}.mp4", split, f"{split} {number}") for split in SPLITS for number in range(4)]
        for name, _, text in rows:
            (directory / name).write_text(text)
        lines = "".join(f"{','.join(row)}\n" for row in rows)
        (directory / "captions.csv").write_text(f"video,split,caption\n{lines}")
        (directory / "start.safetensors").touch()
        return directory

    @pytest.fixture(scope="class")
    def rules(self, folder) -> Callable[[], dict[str, int]]:
        """A function: the jobs that would run again after a run has made the results."""
        overlay = folder_overlay(folder, folder / "captions.csv", 0.01)
        overlay |= {"weights": {"tiny": str(folder / "start.safetensors")}}
        repository = copy_repository(folder.parent / "repository", overlay)
        targets, env = ("results/mine_zeroshot.json", "results/mine_baseline.json"), hashed_jobs(repository)
        done = snakemake(repository, *targets, env=env)
        assert done.returncode == 0, done.stderr
        return lambda: jobs(repository, *targets)

    @pytest.mark.parametrize(("split", "expected"), [("test", {"evaluate": 2}), ("train", {"train": 1, "evaluate": 1})])
    def test_one_caption(self, folder, rules, split, expected):
        """Whose file then has a date before those of all files that were made of it."""
        captions = folder / "captions.csv"
        before = captions.read_text()
        captions.write_text(before.replace(f"{split} 2", "something else"))
        os.utime(captions, (1, 1))
        assert rules() == {"manifest": 1, "result": 2} | expected
        captions.write_text(before)
        os.utime(captions, (1, 1))

    def test_a_video(self, folder, rules):
        video = folder / "train1.mp4"
        times = video.stat().st_atime_ns, video.stat().st_mtime_ns
        os.utime(video, (1, 1))
        assert rules() == {"frames": 1, "frames_report": 1, "train": 1, "evaluate": 2, "result": 2}
        os.utime(video, ns=times)
        assert rules() == {}

    def test_weights(self, folder, rules):
        os.utime(folder / "start.safetensors", (1, 1))
        assert rules()["train"] == 1


def test_a_copy_of_results_without_snakemakes_records_trains_nothing_with_the_settings_of_before(finished, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(finished, repository, ignore=shutil.ignore_patterns(".snakemake"))
    assert jobs(repository, "all") == {}
    (repository / "results/shapes/kmedoids/weights.safetensors").unlink()
    (repository / "results/shapes_kmedoids.json").unlink()
    (repository / "more.yaml").write_text(yaml.safe_dump({"variants": {"kmedoids": {"training": {"lr": 0.002}}}}))
    changed = ["results/shapes_kmedoids.json", "--configfile", "config/demo.yaml", "small.yaml", "more.yaml"]
    done = snakemake(repository, *changed, "--forcerun", "train")
    assert done.returncode != 0
    assert re.search(
        "error: results/shapes/kmedoids/cell.json: its settings are not the config's, .* delete", done.stderr
    )


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
    done = snakemake(repository, target)
    assert done.returncode == 0, done.stderr
    assert jobs(repository, "all") == {}


def test_a_failed_variant_is_missing_from_the_partial_table_with_the_reason(finished, tmp_path):
    """Its training fails where an earlier result is left. The complete table stays as it was."""
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
    assert re.search(r"^\| shapes .*-> [\d.]+ \(.+\), spectral", summary, re.MULTILINE)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tables.iterdir()}
    assert after.keys() - before.keys() == {"shapes.partial.md", "summary.partial.md"}
    assert after == after | before
