"""What the workflow's jobs depend on, and the files that they read."""

import copy

import pytest
from support.workflow import folder_overlay

from centerclip.command import UserError, write_json
from centerclip.plan import Plan
from centerclip.settings import layout
from centerclip.settings.cell import check_current
from centerclip.settings.config import BASE, merged, read_yaml


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function: the plan of two benchmarks, videos of one's own and `shapes`, under changes of the config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text("video,split,caption\na.mp4,train,grey\nb.mp4,test,red\n")
    config = merged(read_yaml([BASE])[str(BASE)], folder_overlay(tmp_path, tmp_path / "c.csv", 0.2))
    config = merged(config, {"backbone": "tiny", "weights": {"tiny": "own.safetensors"}})
    return lambda change=None, prefix="": Plan(merged(copy.deepcopy(config), change or {}), prefix)


def test_of_a_cell_nothing_depends_on_another_split_or_on_the_precision_but_its_metrics(plan, tmp_path):
    def digests(change=None):
        made = plan(change)
        cells = made.cell("mine", "zeroshot"), made.cell("mine", "baseline")
        return [made.weights_from(cells[1]), *map(made.metrics_from, cells)]

    def moved(change=None):
        return [one != other for one, other in zip(before, digests(change), strict=True)]

    before = digests()
    assert moved({"evaluation": {"precision": "bfloat16"}}) == [False, True, True]
    assert moved({"training": {"lr": 0.5}}) == [True, False, True]
    (tmp_path / "own.safetensors").write_text("other")
    assert moved() == [True, True, True]
    (tmp_path / "own.safetensors").unlink()
    for old, new, expected in (("red", "blue", [False, True, True]), ("grey", "gray", [True, False, True])):
        file = tmp_path / "c.csv"
        text = file.read_text()
        file.write_text(text.replace(old, new))
        assert moved() == expected
        file.write_text(text)


def test_captions_of_ones_own_are_read_by_the_jobs_themselves(plan):
    made = plan()
    assert made.manifests("mine") == made.raw_files("mine") == []
    assert made.manifests("shapes") == ["results/shapes/manifest.csv"]
    assert made.source("mine")["captions"] in made.frames_options("mine")


def test_only_splits_that_a_run_has_read_are_stored_all_before_any(plan, tmp_path):
    made = plan()
    assert made.splits("mine") == ["train", "val", "test"]
    made.read["mine"] = {"test"}
    assert made.splits("mine") == ["test"]
    stored = tmp_path / layout.SPLITS.format(dataset="mine")
    stored.parent.mkdir(parents=True)
    stored.write_text('{"splits": ["train"]}')
    assert made.splits("mine") == ["train", "test"]


def test_a_prefix_does_not_move_weights_of_ones_own(plan):
    model = [plan(prefix=prefix).settings(plan().cell("mine", "baseline"))["model"] for prefix in ("", "made/")]
    assert [settings["weights"] for settings in model] == ["own.safetensors", "../own.safetensors"]


def test_the_longest_training_and_what_needs_no_download_come_first(plan):
    made = plan({"benchmarks": {"own": {**plan().config["benchmarks"]["shapes"], "source": {"reader": "msvd"}}}})
    epochs, few = ({"training": {"epochs": count}} for count in (6, 5))
    longest, baseline = (plan(change).cell("shapes", "baseline") for change in (epochs, few))
    order = [longest, baseline, plan(few).cell("shapes", "kmedoids")]
    priorities = list(map(made.training_priority, order))
    assert priorities == sorted(priorities, reverse=True) and 2 > priorities[0] > priorities[2] > 1
    assert made.fetch_priority("shapes") == 1 > made.fetch_priority("own") > 0
    nothing_told = plan({"benchmarks": {"mine": {"source": {"captions": "missing.csv"}}}})
    assert nothing_told.training_priority(nothing_told.cell("mine", "baseline")) == 1


@pytest.mark.parametrize("prefix", ["", "of/a-module/"])
def test_a_cells_jobs_take_a_file_of_its_settings_and_no_other(plan, tmp_path, prefix):
    made, file = plan(prefix=prefix), tmp_path / "cell.json"
    cells = made.cell("mine", "baseline"), made.cell("mine", "kmedoids")
    digests = [made.options(cell, "training_options").partition("--settings ")[2].split()[0] for cell in cells]
    write_json(file, made.settings(cells[0]))
    check_current(file, digests[0])
    with pytest.raises(UserError, match="its settings are not the config's"):
        check_current(file, digests[1])


def test_a_video_that_arrives_is_noticed_where_a_part_is_there(plan, tmp_path):
    (tmp_path / "videos/below").mkdir(parents=True)

    def captions(partial):
        block = {"source": {"local": {"videos": "videos"}}, "partial": partial}
        return plan({"benchmarks": {"msvd": block}}).captions("msvd")

    before = captions(True)
    for name, noticed in (("a.avi", True), ("a.avi", False), (".centerclip-1.npz", False), ("below/b.avi", True)):
        (tmp_path / "videos" / name).touch()
        assert (captions(True) != before) == noticed and captions(False) == ""
        before = captions(True)
