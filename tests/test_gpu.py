"""The benchmark of a GPU, as far as it goes without one; and training on a GPU, where there is one."""

import json
import sys
from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
import torch
from support.cells import STAGE, tiny_cell
from support.gpu import on_a_gpu
from support.training import CELL, Twelve, batch, run_in

from centerclip.backbones.device import pick_device
from centerclip.bench import gpu
from centerclip.command import UserError
from centerclip.train import loop
from centerclip.train.loop import Run

MEASURED = pd.DataFrame(
    [
        {"benchmark": "msvd", "variant": "baseline", "ms, batch 1": 5, "ms, batch 16": 2.0, "training_gb": 20.8},
        {"benchmark": "msvd", "variant": "kmedoids-s4", "ms, batch 1": 6, "ms, batch 16": 1.0, "training_gb": None},
    ]
)
PUBLISHED = pd.DataFrame(
    [
        {"benchmark": "msvd", "variant": "baseline", "ms": 24.4, "training_gb": 20.8},
        {"benchmark": "msvd", "variant": "kmedoids-s4", "ms": 18.3, "training_gb": 15.6},
        {"benchmark": "msvd", "variant": None, "ms": 1.0, "training_gb": 1.0},
    ]
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path, mistake):
    said = mistake(gpu.main, "--out", tmp_path / "gpu")
    assert said == f"error: PyTorch {torch.__version__} finds no GPU here: nothing was measured"
    assert list(tmp_path.iterdir()) == []


def test_claims_are_ratios_to_the_baseline_beside_the_papers():
    """Published: 0.75 of the time and of the memory. Memory that a GPU held only in part compares with nothing."""
    alone, together, memory = gpu.claims(MEASURED, PUBLISHED).to_dict("records")
    assert (alone["of"], alone["paper"], alone["here"]) == ("ms, batch 1", pytest.approx(0.75), 1.2)
    assert (together["of"], together["here"]) == ("ms, batch 16", 0.5)
    assert (memory["of"], memory["paper"]) == ("training_gb", pytest.approx(0.75)) and pd.isna(memory["here"])
    assert [line["at least as good"] for line in (alone, together, memory)] == [False, True, False]


def test_a_gpu_that_holds_no_whole_step_has_claims_on_time():
    claims = gpu.claims(MEASURED.assign(training_gb=[None, None]), PUBLISHED)
    assert claims["here"].isna().tolist() == [False, False, True]


def test_every_headline_setting_is_published():
    names = {(cell.benchmark, cell.variant) for cell in gpu.headline()}
    paper = pd.read_csv(gpu.PUBLISHED)
    assert names <= set(zip(paper["benchmark"], paper["variant"], strict=True))


@pytest.mark.parametrize(("major", "name"), [(7, "float16"), (8, "bfloat16"), (9, "bfloat16")])
def test_a_gpu_encodes_in_bfloat16_if_it_has_it(monkeypatch, major, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: mock.Mock(major=major))
    assert gpu.precision(torch.device("cuda")) == name


def test_encoding_is_measured_at_both_batches():
    baseline, kmedoids = gpu.encoding([tiny_cell(), tiny_cell(STAGE)], torch.device("cpu"), repeats=1)
    for number in (1, 16):
        assert baseline[f"clustering, batch {number}"] == 0 < kmedoids[f"clustering, batch {number}"] < 1
        assert baseline[f"ms, batch {number}"] > 0


def test_a_step_and_the_algorithms_alone_are_timed():
    assert gpu.step_seconds(tiny_cell(STAGE), torch.device("cpu")) > 0
    row = gpu.alone((2, 70, 9), 1, torch.device("cpu"))
    assert row["tokens"] == 70 and row["kmedoids, ms"] > 0 and row["spectral, ms"] > 0


def test_all_is_measured_and_written(tmp_path, monkeypatch, capsys):
    """On a pretended GPU, of which each part says something."""
    monkeypatch.setattr(gpu, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu, "device_name", lambda device: "Some GPU")
    costs = {f"{what}, batch {number}": 0.5 for what in ("ms", "clustering") for number in gpu.BATCHES}
    monkeypatch.setattr(
        gpu, "encoding", lambda cells, *_: [{"benchmark": c.benchmark, "variant": c.variant} | costs for c in cells]
    )
    monkeypatch.setattr(gpu, "training", lambda *_: {"training_gb": 2.0, "step_s": 0.5, "step_pairs": 8})
    monkeypatch.setattr(gpu, "alone", lambda shape, *_: {"tokens": shape[1]})
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "gpu-1.5")])
    gpu.main()
    text, found = (tmp_path / "gpu-1.5.md").read_text(), json.loads((tmp_path / "gpu-1.5.json").read_text())
    assert text in capsys.readouterr().out and "- device: Some GPU\n" in text and "- encoding in: bfloat16\n" in text
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert [title for title in found if isinstance(found[title], list)] == titles and len(titles) == 3
    assert all(found[title] for title in titles)


@on_a_gpu
class TestTrainingOnAGPU:
    @pytest.mark.parametrize(("precision", "close"), [("float32", 1e-4), ("bfloat16", 0.05), ("float16", 0.02)])
    def test_a_step_has_the_cpus_loss_in_every_precision(self, precision, close):
        cell = replace(CELL, training=replace(CELL.training, precision=precision))
        expected = loop.train_step(Run(cell, torch.device("cpu")), batch(0), 1.0)
        run = Run(cell, pick_device())
        assert run.scaler.is_enabled() == (precision == "float16")
        assert loop.train_step(run, batch(0), 1.0) == pytest.approx(expected, rel=close)

    def test_a_stopped_training_goes_on_to_the_same_weights(self, tmp_path):
        straight = run_in(tmp_path / "straight", device="cuda")
        straight.train_epoch(Twelve())
        first = run_in(tmp_path / "resumed", device="cuda")
        first.stop()
        with pytest.raises(UserError, match="stopped"):
            first.train_epoch(Twelve())
        second = run_in(tmp_path / "resumed", device="cuda")
        second.resume()
        second.train_epoch(Twelve())
        for name, tensor in straight.model.state_dict().items():
            assert (second.model.state_dict()[name] - tensor).abs().max() < 0.02 * CELL.training.lr, name

    def test_a_gpu_that_is_really_full_takes_the_batch_in_chunks(self):
        """Of so many videos that their activations are most of what a step holds; then half of that is allowed."""
        many = [part.repeat(64, *[1] * (part.ndim - 1)) for part in batch(0)]
        cell = replace(CELL, training=replace(CELL.training, batch_size=256))
        run = Run(cell, pick_device())
        loss, total = loop.backward(run, [part.cuda() for part in many], 0), torch.cuda.mem_get_info()[1]
        fraction = 0.5 * torch.cuda.max_memory_allocated() / total
        run = Run(cell, pick_device())
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            assert loop.train_step(run, many, 1.0) == pytest.approx(loss, rel=1e-2) and run.chunk < 256
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
