"""`centerclip plan`: what a run takes, before anything of it runs."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from support.cells import STAGE, TRAINING, tiny_cell
from torch.utils.flop_counter import FlopCounterMode

from centerclip.command import UserError
from centerclip.evaluate import operations
from centerclip.evaluate.costs import plain_attention
from centerclip.evaluate.efficiency import training_steps
from centerclip.report import forecast
from centerclip.settings import layout
from centerclip.settings.config import read_config
from centerclip.settings.schema import Runtime

COUNTS = {"train.videos": 10, "train.captions": 30, "val.videos": 0, "val.captions": 0, "test.videos": 5}
COUNTS |= {"test.captions": 20}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("stages", "recipe", "error"),
    [
        ((), {}, 0.02),
        ((STAGE,), {}, 0.02),
        ((), {"frozen": "none"}, 0.02),
        ((), {"frozen": "backbone"}, 0.02),
        ((), {"tune": "lora"}, 0.05),
    ],
)
def test_a_training_step_takes_the_operations_that_pytorch_counts(stages, recipe, error):
    cell = tiny_cell(*stages, training=replace(TRAINING, **recipe))
    with FlopCounterMode(display=False) as counter, plain_attention():
        next(training_steps(cell, torch.device("cpu")))
    # PyTorch counts attention's products a third time in its backward pass
    assert forecast.pair(cell) * cell.costs.batch_size == pytest.approx(counter.get_total_flops(), rel=error)


def test_a_chunk_and_checkpointed_activations_are_a_further_forward_pass_each():
    cell = tiny_cell()
    forward = operations.of_video(cell.model, 6) + operations.of_text("tiny", 32)
    for runtime in (Runtime(chunk=2), Runtime(grad_checkpointing=True)):
        assert forecast.pair(replace(cell, runtime=runtime)) - forecast.pair(cell) == pytest.approx(forward)
    assert forecast.pair(replace(cell, runtime=Runtime(chunk=2, gpus=2))) == forecast.pair(cell)


def test_an_epoch_has_whole_batches_and_an_evaluation():
    cell = tiny_cell()  # 2 epochs, batches of 4
    once = 5 * operations.of_video(cell.model, 6) + 20 * operations.of_text("tiny", 32)
    work = forecast.work(cell, COUNTS)
    assert (work.steps, work.evaluation) == (2 * 7, 3 * once)
    assert work.training == 14 * 4 * forecast.pair(cell)
    assert forecast.work(replace(cell, training=None), COUNTS) == forecast.Work(
        replace(cell, training=None), 0, 0, once
    )


def test_what_is_done_with_the_same_settings_is_left_out():
    cell = tiny_cell()
    cell.path(layout.CELL).parent.mkdir(parents=True)
    cell.path(layout.CELL).write_text(json.dumps(cell.settings()))
    cell.path(layout.WEIGHTS).touch()
    assert forecast.work(cell, COUNTS).steps == 0 and forecast.work(cell, COUNTS).left
    cell.path(layout.RESULT).write_text(json.dumps({"settings": cell.settings()}))
    assert not forecast.work(cell, COUNTS).left
    assert forecast.work(replace(cell, seed=7), COUNTS).steps == 14


def test_counts_come_from_the_config_until_the_manifest_is_made():
    config = read_config([])
    assert forecast.counts(config, "msrvtt")["train.captions"] == 180_000
    assert forecast.counts(config, "lsmdc")["train.videos"] == 101_079  # a caption each
    assert forecast.counts(config, "shapes")["test.captions"] == 480
    for unknown in (None, {"test": {}}):
        config["benchmarks"]["msvd"]["counts"] = unknown
        with pytest.raises(UserError, match=r"^benchmarks.msvd.counts.test: give the expected videos or captions"):
            forecast.counts(config, "msvd")
    config["benchmarks"]["msvd"]["counts"] = {"test": {"videos": 5}}
    with pytest.raises(UserError, match=r"^benchmarks.msvd.counts.train: give the expected captions"):
        forecast.steps_of(forecast.cells(config, "msvd")[1], forecast.counts(config, "msvd"))
    header, row = "split,video_id,path,start_s,end_s,caption_id,caption", "test,{0},{0}.mp4,0,,{0},one"
    Path("results/msvd").mkdir(parents=True)
    Path("results/msvd/manifest.csv").write_text("\n".join([header, row.format("a"), row.format("b")]))
    assert forecast.counts(config, "msvd")["test.videos"] == 2


def test_captions_of_your_own_are_counted():
    Path("mine.csv").write_text("video,caption\na.mp4,one\na.mp4,two\nb.mp4,three\n")
    source = {"reader": "folder", "videos": ".", "captions": "mine.csv"}
    counted = forecast.counts({"benchmarks": {"mine": {"source": source}}}, "mine")
    assert (counted["test.videos"], counted["test.captions"], counted["train.videos"]) == (2, 3, 0)


def test_frames_of_a_dataset_count_once_and_only_where_shards_are_missing():
    """MSR-VTT's two protocols share frames: 10,000 videos of 15 s at 3 a second."""
    config = read_config([])
    cells = [*forecast.cells(config, "msrvtt"), *forecast.cells(config, "msrvtt7k")]
    stored = forecast.storage(config, "msrvtt", cells)
    assert (stored.videos, stored.frames, stored.frames_bytes) == (10_000, 450_000, 450_000 * forecast.FRAME_BYTES)
    assert [file.file for file in stored.downloads] == ["MSRVTT.zip", "msrvtt_data.zip"]
    for number in range(8):  # of 32 shards
        report = Path(layout.SHARD_REPORT.format(dataset="msrvtt", size=224, shard=f"{number:04d}"))
        report.parent.mkdir(parents=True, exist_ok=True)
        report.touch()
    assert forecast.storage(config, "msrvtt", cells).frames == 337_500
    assert forecast.storage(config, "msrvtt", cells[:1]).videos == 1_000  # zero-shot reads the test split alone


def test_the_longest_jobs_start_first():
    assert forecast.makespan([(1, 1), (1, 1), (2, 1)], 2) == 2
    assert forecast.makespan([(4, 1), (3, 1), (3, 1)], 2) == 6
    assert forecast.makespan([(8, 4), (1, 1)], 4) == 3  # four GPUs, two hours
    assert forecast.makespan([(8, 4)], 2) == 4 and forecast.makespan([], 3) == 0


def test_measuring_stops_in_time_and_the_rest_gets_the_last_rates(monkeypatch, capsys):
    works = [forecast.work(tiny_cell(*stages, training=training), COUNTS)
             for stages in ((), (STAGE,)) for training in (None, tiny_cell().training)]  # fmt: skip
    again = replace(works[0].cell, seed=5, name="again")
    asked = []
    monkeypatch.setattr(forecast, "measure", lambda cell, device: asked.append(cell) or (1e9, 2e9))
    name, rates = forecast.measured([*works, replace(works[0], cell=again)])
    assert len(asked) == 4 and rates(again) == (1e9, 2e9) and name.endswith("CPU")
    monkeypatch.setattr(forecast, "measure", lambda cell, device: (1.0, 2.0))  # so slow that none is tried after it
    assert forecast.measured(works)[1](works[3].cell) == (1.0, 2.0)
    assert "measured 1 of 4 models in the time" in capsys.readouterr().err


def test_a_real_step_is_measured():
    training, evaluation = forecast.measure(tiny_cell(STAGE), torch.device("cpu"))
    assert training > 1e6 and evaluation > 1e6
    assert forecast.measure(tiny_cell(training=None), torch.device("cpu"))[1] > 1e6


def test_the_command_says_what_a_first_run_takes(run):
    printed = run("plan", "--configfile", REPOSITORY / "config/first.yaml", "--gpus", "4", "--tflops", "100", "20")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "|" in line]
    rows = {row[0]: row for row in table}
    assert rows["all"][:5] == ["all", "6", "6", "6", "42,180"]
    assert rows["yours"][4:] == ["4.06", "1.35"]
    assert any(row[:3] == ["msrvtt", "MSRVTT.zip", "6.6"] and row[3].startswith("research use") for row in table)


def test_the_command_names_costly_clustering(run):
    """The demo's model is so small that clustering takes much of the time that it saves."""
    printed = run("plan", "--configfile", REPOSITORY / "config/demo.yaml")
    told = re.findall(r"^shapes (\w+): time is .*: clustering costs too much", printed, re.MULTILINE)
    assert told == ["kmedoids", "spectral"]


def test_the_readme_has_the_hours_of_the_paper(run):
    printed = run("plan")
    for name in ("msvd", "msrvtt", "msrvtt7k", "lsmdc", "activitynet", "didemo"):
        (hours,) = re.findall(rf"^\| `{name}` \| ([\d.]+) \|", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
        *_, computed = re.findall(rf"^\| {name} +\|.* ([\d.]+) \|$", printed, re.MULTILINE)
        assert hours == computed


def test_planning_imports_nothing_heavy():
    code = "import sys; sys.argv = ['centerclip', 'plan']; from centerclip.cli import main; main(); print(sorted("
    heavy = "{'torch', 'open_clip', 'pandas', 'matplotlib', 'av', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
