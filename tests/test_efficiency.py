"""What is measured of a model, and the commands that print it, on the tiny backbone."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from support.cells import STAGE, TRAINING, tiny_cell

from centerclip import cli
from centerclip.backbones import device
from centerclip.backbones.clip import CenterCLIP, build
from centerclip.evaluate import costs, efficiency
from centerclip.method.stage import Model
from centerclip.settings.cell import Cell, Costs, Runtime
from centerclip.train.loop import train_step

PLAIN, STAGED = Model("tiny"), Model("tiny", stages=(STAGE,))


def cells(*names: str, **changes) -> list[Cell]:
    """Variants of the tiny backbone."""
    variants = {
        "baseline": tiny_cell(),
        "zeroshot": tiny_cell(training=None),
        "kmedoids": tiny_cell(STAGE),
        "token_shift": tiny_cell(model=Model("tiny", shift="token_shift")),
        "baseline-b16": tiny_cell(model=Model("ViT-B-16")),
    }
    return [replace(variants[name], variant=name, name=name, **changes) for name in names]


def test_time_in_clustering_is_counted_and_only_there():
    models = [build(PLAIN, 0).eval(), build(STAGED, 0).eval()]
    plain, clustered = costs.milliseconds(models, [costs.smooth_videos(1, 6, 56)] * 2, 3)
    assert [inside for _, inside in plain] == [0, 0, 0]
    assert all(0 < inside < whole for whole, inside in clustered)
    reduction = models[1].stages["2"].reduction
    assert not reduction._forward_hooks and not reduction._forward_pre_hooks  # nothing stays behind


def test_cells_are_grouped_by_what_can_be_compared_and_know_their_baseline():
    compared = cells("token_shift", "kmedoids", "zeroshot", "baseline")
    longer = cells("kmedoids", data=replace(compared[0].data, frames=24))
    groups = efficiency.groups([*compared[:2], *cells("baseline-b16"), *compared[2:], *longer])
    assert groups == [compared, cells("baseline-b16"), longer]
    assert efficiency.baseline(compared) == 3  # rather than zeroshot, which does not train
    assert efficiency.baseline(compared[:3]) == 2 and efficiency.baseline(compared[:2]) == 0


def test_costs_are_ratios_to_the_baseline_wherever_it_stands():
    rows = efficiency.measure(cells("kmedoids", "baseline", "token_shift"), torch.device("cpu"), repeats=1)
    kmedoids, baseline, shift = rows
    assert [row["variant"] for row in rows] == ["kmedoids", "baseline", "token_shift"]
    assert baseline["ms_ratio"] == baseline["gflops_ratio"] == baseline["saved_mb_ratio"] == 1
    assert kmedoids["gflops_ratio"] < 1 and kmedoids["saved_mb_ratio"] < 1 and shift["gflops_ratio"] == 1
    assert sum(kmedoids["tokens_per_block"]) == 2 * 6 * 50 + 2 * 2 * 50
    assert kmedoids["clustering_share"] > 0 == baseline["clustering_share"]
    for row in rows:
        assert {row[name] for name in ("training_gb", "training_chunk", "step_ms", "inference_gb")} == {None}
        assert row["batch"] == 1 and row["batch_ms"] == row["ms"]


@pytest.mark.slow
def test_a_control_is_measured_on_its_own_frames_and_pixels_beside_the_whole_baseline():
    (whole,) = cells("baseline")
    fewer, smaller = (
        replace(whole, variant=name, data=replace(whole.data, **change), against=whole.kind)
        for name, change in (("frames-3", {"frames": 3}), ("pixels-48", {"image_size": 48}))
    )
    assert efficiency.groups([fewer, smaller, whole]) == [[fewer, smaller, whole]]
    rows = efficiency.measure([fewer, smaller, whole], torch.device("cpu"), repeats=1, largest=2)
    assert [sum(row["tokens_per_block"]) for row in rows] == [4 * 3 * 50, 4 * 6 * 37, 4 * 6 * 50]
    assert rows[0]["gflops_ratio"] == 0.5 and 0.7 < rows[1]["gflops_ratio"] < 0.75 and rows[2]["ms_ratio"] == 1
    assert rows[0]["saved_mb_ratio"] == pytest.approx(0.5, abs=0.01) and not efficiency.busy([fewer, whole], [[1], [2]])


def test_bytes_are_those_of_what_trains():
    """A frozen stem keeps less than a free one, and its parameters do not train: in 64 channels 49,408 words and 77
    positions of captions, and of frames 3 x 8^2 pixels a patch, 50 positions, a [CLASS] and the 2 of LayerNorm. What is
    not trained keeps nothing that is worth a number."""
    free = replace(TRAINING, frozen="none")
    low = replace(TRAINING, tune="lora", rank=2)
    measured = [*cells("baseline"), *cells("kmedoids", training=low), *cells("kmedoids", training=free)]
    measured += [*cells("zeroshot"), *cells("kmedoids")]
    baseline, few, loose, zeroshot, frozen = efficiency.measure(measured, torch.device("cpu"), repeats=1)
    assert 1e6 * few["trainable_m"] == pytest.approx(6 * 2 * (64 + 3 * 64)) and few["saved_mb"] < frozen["saved_mb"]
    assert few["gflops"] == loose["gflops"] == frozen["gflops"]
    assert zeroshot["saved_mb"] is zeroshot["saved_mb_ratio"] is None
    assert frozen["saved_mb"] < loose["saved_mb"] and frozen["saved_mb"] < baseline["saved_mb"]
    assert zeroshot["trainable_m"] is None and baseline["trainable_m"] == frozen["trainable_m"]  # no learned vectors
    stem = 64 * (49408 + 77 + 3 * 8**2 + 50 + 1 + 2)
    assert 1e6 * (loose["trainable_m"] - frozen["trainable_m"]) == pytest.approx(stem)


@pytest.mark.parametrize(
    ("zeroshot", "baseline", "expected"),
    [
        ((10, 10, 10), (11, 11, 9.5), False),
        ((10, 10, 10), (11, 30, 11), False),  # one slow moment
        ((112, 112, 112), (3.7, 3.7, 3.7), True),
        ((4000, 3000, 5000), (3000, 4000, 4000), True),  # medians that are equal by chance
    ],
)
def test_one_network_with_two_times_tells_of_a_busy_machine(zeroshot, baseline, expected, capsys):
    compared = cells("zeroshot", "kmedoids", "baseline")
    assert efficiency.busy(compared, [zeroshot, (1, 1, 1), baseline]) is expected
    told = capsys.readouterr().err
    assert ("zeroshot and baseline are one network and took times that differ by" in told) == expected
    assert not efficiency.busy(cells("kmedoids", "baseline"), [zeroshot, baseline])  # two networks


def test_the_baseline_is_timed_twice_without_another_of_its_network(monkeypatch, capsys):
    """Between the two times of a turn something else began to run. The 95th percentile of 1 to 11 ms lies half a step
    below the last."""
    times = iter([[(float(ms), 0) for ms in range(11, 0, -1)], [(9.0, 0)] * 11, [(20.0, 0)] * 11])
    monkeypatch.setattr(efficiency, "milliseconds", lambda models, *_: [next(times) for _ in models])
    rows = efficiency.encoding(cells("baseline", "kmedoids"), torch.device("cpu"), repeats=11, largest=1)
    assert [(row["ms"], row["ms_high"], row["busy"], row["turns"]) for row in rows] == [
        (6, 11, True, 11),
        (9, 9, True, 11),
    ]
    assert rows[0]["ms_p95"] == pytest.approx(10.5)
    assert "baseline was timed twice and took times that differ by" in capsys.readouterr().err


def test_no_turn_and_no_batch_starts_that_would_end_after_the_deadline(monkeypatch):
    """By a clock on which each video takes 10 s: a warm-up and one turn are the least, more if there is time."""
    clock = SimpleNamespace(now=0.0)

    def encode(frames):
        clock.now += 10 * len(frames)

    model = SimpleNamespace(video_vectors=encode, stages={}, logit_scale=torch.zeros(()))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: clock.now)
    for deadline, turns in ((0, 1), (44, 1), (65, 2), (1e9, 5)):
        clock.now = 0.0
        both = costs.milliseconds([model, model], [torch.zeros(1, 1, 3, 8, 8)] * 2, 5, deadline=deadline)
        assert [len(of_model) for of_model in both] == [turns, turns], deadline
    clock.now = 0.0
    assert efficiency.best_batches([model], [(1, 8)], [10000], repeats=5, largest=64, deadline=119) == [(1, 10000)]
    assert clock.now == 0
    efficiency.best_batches([model], [(1, 8)], [10000], repeats=5, largest=64, deadline=121)
    assert clock.now == 120


def test_costs_depend_neither_on_weights_nor_on_how_a_cell_is_run():
    (cell,) = cells("kmedoids", runtime=Runtime(gpus=2, chunk=1, grad_checkpointing=True))
    cell = replace(cell, model=replace(cell.model, weights="nowhere.pt"))
    with mock.patch.object(efficiency, "training_memory", return_value={}) as memory:
        efficiency.measure([cell], torch.device("cpu"), repeats=1)
    assert memory.call_args.args[0] == cells("kmedoids")[0]


def test_the_best_batch_is_the_last_that_gained_noticeably(monkeypatch):
    """Models of known times: one gains until 8, one never, one runs out of memory beyond 16."""
    times = {"a": {1: 10, 2: 8, 4: 6, 8: 5, 16: 4.9}, "b": {1: 10, 2: 9.8}, "c": dict.fromkeys((1,), 100)}
    times["c"] |= {batch: 100 / batch for batch in (2, 4, 8, 16)}
    asked = []

    def milliseconds(models, videos, repeats, seconds):
        batch = len(videos[0])
        asked.append((batch, [model.name for model in models]))
        if batch == 32:
            raise torch.OutOfMemoryError
        return [[(times[model.name][batch], 0.0)] * repeats for model in models]

    monkeypatch.setattr(efficiency, "milliseconds", milliseconds)
    models = [SimpleNamespace(name=name, logit_scale=torch.zeros(())) for name in "abc"]
    best = efficiency.best_batches(models, [(2, 8)] * 3, [10, 10, 100], repeats=3, largest=1000)
    assert best == [(8, 5), (1, 10), (16, 100 / 16)]
    assert asked == [(2, ["a", "b", "c"]), (4, ["a", "c"]), (8, ["a", "c"]), (16, ["a", "c"]), (32, ["c"])]
    best = efficiency.best_batches(models, [(2, 8)] * 3, [10, 10, 100], repeats=3, largest=4)
    assert best == [(4, 6), (1, 10), (4, 25)]


def test_a_training_step_is_the_real_one_on_the_whole_batch():
    """As many videos, frames and tokens as training has; the second step meets AdamW's moments."""
    (cell,) = cells("kmedoids", costs=Costs(batch_size=3))
    encode = mock.patch.object(CenterCLIP, "encode_video", autospec=True, side_effect=CenterCLIP.encode_video)
    before = build(cell.model, cell.seed).state_dict()
    with encode as encoded, mock.patch.object(efficiency, "train_step", side_effect=train_step) as step:
        steps = efficiency.training_steps(cell, torch.device("cpu"))
        for number in (1, 2):
            run = next(steps)
            assert {int(state["step"]) for state in run.optimizer.state.values()} == {number}
    assert [call.args[1].shape for call in encoded.call_args_list] == [(3, 6, 3, 56, 56)] * 2
    assert step.call_args.args[1][2].shape == (3, 32)
    assert run.chunk == 3 and not torch.equal(run.model.state_dict()["visual.proj"], before["visual.proj"])


@pytest.mark.slow
def test_the_command_measures_variants_of_a_config_or_given_cells_from_any_directory(
    tmp_path, monkeypatch, mistake, capfd
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "run: {benchmarks: [shapes], variants: [baseline]}\nbackbone: tiny\nbenchmarks: {shapes: {stage: {block: 2}}}"
    )
    compared = [cell.cost_settings() for cell in cells("baseline", "kmedoids")]
    (tmp_path / "compared.json").write_text(json.dumps(compared))
    common = ["--config", "c.yaml", "--repeats", 1, "--threads", 1, "--benchmark", "shapes", "--variants"]
    given = ["--repeats", 1, "--threads", 1, "--cells", "compared.json"]
    for arguments, names in (([*common, "baseline", "pooling"], ["baseline", "pooling"]),
                             (given, ["baseline", "kmedoids"])):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["centerclip", "efficiency", *map(str, arguments), "--out", "o.json"])
        cli.main()
        measured = json.loads((tmp_path / "o.json").read_text())
        assert (measured["threads"], measured["repeats"]) == (1, 1)
        assert all(row["measured_on"].endswith("CPU") for row in measured["rows"])
        assert [row["variant"] for row in measured["rows"]] == names
        assert names[1] in capfd.readouterr().out
    wrong = mistake(cli.main, "efficiency", *common, "baseline", "poolin")
    assert wrong.startswith("error: unknown variant 'poolin'")
    wrong = mistake(cli.main, "efficiency", "--config", tmp_path / "none.yaml")
    assert wrong.endswith("none.yaml: No such file or directory")
    wrong = mistake(cli.main, "efficiency", *given, "--out", tmp_path)
    assert wrong == f"error: {tmp_path}: cannot be written: Is a directory"
    wrong = mistake(cli.main, "efficiency", "--threads", 0, status=2)
    assert "argument --threads: '0' is not a whole number from 1 up" in wrong


def test_a_gpus_energy_is_that_of_its_uuid_and_unknown_where_nothing_tells(monkeypatch):
    counted = {b"GPU-12-ab": 5000}

    def handle(uuid, gpu):
        gpu._obj.value = len(uuid)
        return 0 if uuid in counted else 2

    def consumption(gpu, millijoules):
        millijoules._obj.value = counted[b"GPU-12-ab"]
        return 0 if gpu.value == 9 else 3

    library = SimpleNamespace(nvmlDeviceGetHandleByUUID=handle, nvmlDeviceGetTotalEnergyConsumption=consumption)
    for uuid, there, expected in (("12-ab", library, 5), ("34", library, None), ("12-ab", None, None)):
        monkeypatch.setattr(device, "nvml", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, uuid=uuid: SimpleNamespace(uuid=uuid))
        assert device.joules(torch.device("cuda")) == pytest.approx(expected or math.nan, nan_ok=True)
    assert math.isnan(device.joules(torch.device("cpu")))
