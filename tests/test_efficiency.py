"""What is measured of a model, and the commands that print it, on the tiny backbone."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import yaml
from conftest import REPOSITORY

from centerclip import clustering, clustering_benchmark, costs, efficiency
from centerclip.clustering.kmedoids import kmedoids
from centerclip.clustering.spectral import spectral
from centerclip.config import cell
from centerclip.model import CenterCLIP, build

CONFIG = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text()) | {"backbone": "tiny"}
CONFIG["benchmarks"]["shapes"]["stage"]["block"] = 2  # tiny has 4
STAGE = {"algorithm": "kmedoids", "block": 2, "segments": 2, "clusters": 49}


def command(*arguments):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def test_tokens_per_block():
    """6 frames of 1 + 49 tokens, then 2 segments of 1 + 49."""
    frames = costs.smooth_videos(1, 6, 56)
    assert costs.tokens_per_block(build("tiny", [STAGE]).eval(), frames) == [300, 300, 100, 100]
    assert costs.tokens_per_block(build("tiny").eval(), frames) == [300] * 4


def test_a_smooth_videos_frames_resemble_their_neighbours():
    video = costs.smooth_videos(1, 12, 56)
    assert video.shape == (1, 12, 3, 56, 56)
    near, far = (video[:, 1:] - video[:, :-1]).abs().mean(), (video[:, 6:] - video[:, :-6]).abs().mean()
    assert 0 < near < far / 2


def test_time_in_clustering_is_counted_and_only_there():
    models = [build("tiny").eval(), build("tiny", [STAGE]).eval()]
    untouched = clustering.cluster
    plain, clustered = costs.milliseconds(models, costs.smooth_videos(1, 6, 56), 3)
    assert [inside for _, inside in plain] == [0, 0, 0]
    assert all(0 < inside < whole for whole, inside in clustered)
    assert clustering.cluster is untouched


def settings(variant, **changes):
    return cell(CONFIG, "shapes", variant) | changes


def test_variants_are_grouped_by_what_can_be_compared_and_know_their_baseline():
    cells = [settings(name) for name in ("token_shift", "kmedoids", "baseline-b16", "zeroshot", "baseline")]
    first, second = efficiency.groups([*cells, settings("kmedoids", frames=24)])[:2]
    assert [one["variant"] for one in first] == ["token_shift", "kmedoids", "zeroshot", "baseline"]
    assert [one["variant"] for one in second] == ["baseline-b16"]
    assert efficiency.baseline(first) == 2
    assert efficiency.baseline(first[:2]) == 0


def test_costs_are_ratios_to_the_baseline_wherever_it_stands():
    cells = [settings(name) for name in ("kmedoids", "baseline", "token_shift")]
    rows = efficiency.measure(cells, torch.device("cpu"), repeats=1)
    kmedoids, baseline, shift = rows
    assert [row["variant"] for row in rows] == ["kmedoids", "baseline", "token_shift"]
    assert baseline["ms_ratio"] == baseline["gflops_ratio"] == baseline["saved_mb_ratio"] == 1
    assert kmedoids["gflops_ratio"] < 1 and kmedoids["saved_mb_ratio"] < 1 and shift["gflops_ratio"] == 1
    assert sum(kmedoids["tokens_per_block"]) == 2 * 12 * 50 + 2 * 4 * 50
    assert kmedoids["clustering_share"] > 0 == baseline["clustering_share"]
    assert all(row["train_memory_gb"] is None and row["batch"] == 1 and row["batch_ms"] == row["ms"] for row in rows)


def test_the_best_batch_is_the_last_that_gained_noticeably(monkeypatch):
    """Models of known times: one gains until 8, one never, one runs out of memory beyond 16."""
    times = {"a": {1: 10, 2: 8, 4: 6, 8: 5, 16: 4.9}, "b": {1: 10, 2: 9.8}, "c": dict.fromkeys((1,), 100)}
    times["c"] |= {batch: 100 / batch for batch in (2, 4, 8, 16)}
    asked = []

    def milliseconds(models, videos, repeats, seconds):
        asked.append((len(videos), [model.name for model in models]))
        if len(videos) == 32:
            raise torch.OutOfMemoryError
        return [[(times[model.name][len(videos)], 0.0)] * repeats for model in models]

    monkeypatch.setattr(efficiency, "milliseconds", milliseconds)
    models = [SimpleNamespace(name=name, logit_scale=torch.zeros(())) for name in "abc"]
    found = efficiency.best_batches(models, (2, 8), [10, 10, 100], repeats=3, largest=1000)
    assert found == [(8, 5), (1, 10), (16, 100 / 16)]
    assert asked == [(2, ["a", "b", "c"]), (4, ["a", "c"]), (8, ["a", "c"]), (16, ["a", "c"]), (32, ["c"])]
    assert efficiency.best_batches(models, (2, 8), [10, 10, 100], repeats=3, largest=4) == [(4, 6), (1, 10), (4, 25)]


def test_a_training_step_is_the_real_one_on_the_whole_batch():
    """As many videos, frames and words as training has; the second step meets AdamW's moments."""
    one = settings("kmedoids")
    one["training"] |= {"batch_size": 3}
    encode = mock.patch.object(CenterCLIP, "encode_video", autospec=True, side_effect=CenterCLIP.encode_video)
    before = build("tiny", one["stages"], seed=one["seed"]).state_dict()
    with encode as encoded:
        steps = efficiency.training_steps(one, torch.device("cpu"))
        for number in (1, 2):
            done = next(steps)
            assert {int(state["step"]) for state in done.optimizer.state.values()} == {number}
    assert [call.args[1].shape for call in encoded.call_args_list] == [(3, 12, 3, 56, 56)] * 2
    assert done.chunk == 3 and not torch.equal(done.model.state_dict()["visual.proj"], before["visual.proj"])


def test_the_command_measures_variants_of_a_config_from_any_directory(tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "run: {benchmarks: [shapes], variants: [baseline]}\nbackbone: tiny\nbenchmarks: {shapes: {stage: {block: 2}}}"
    )
    common = ["--config", "c.yaml", "--repeats", 1, "--threads", 1, "--benchmark", "shapes", "--variants"]
    done = command("centerclip.efficiency", *common, "baseline", "pooling", "--out", "o.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "o.json").read_text())
    assert (found["threads"], found["repeats"]) == (1, 1) and found["device"].endswith("CPU")
    assert [row["variant"] for row in found["rows"]] == ["baseline", "pooling"]
    assert "pooling" in done.stdout
    wrong = mistake(efficiency.main, *common, "baseline", "poolin")
    assert wrong.startswith("error: unknown variant 'poolin'")
    wrong = mistake(efficiency.main, "--config", tmp_path / "none.yaml")
    assert wrong.endswith("none.yaml: No such file or directory")
    wrong = mistake(efficiency.main, "--threads", 0, status=2)
    assert "argument --threads: '0' is not a whole number from 1 up" in wrong


def test_the_naive_peers_do_the_same_work():
    """Three planted parts of 20 tokens: one medoid each, for k-medoids the very same."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(60) % 3
    tokens = (20 * torch.eye(3, 16)[label] + 0.1 * torch.randn(60, 16, generator=generator))[None]
    assert torch.equal(clustering_benchmark.naive_kmedoids(tokens, 3), kmedoids(tokens, 3)[0])
    for medoids in (clustering_benchmark.naive_spectral(tokens, 3), spectral(tokens, 3)[0]):
        assert sorted(label[medoids[0]].tolist()) == [0, 1, 2]


def test_the_benchmarks_rows():
    rows = clustering_benchmark.measure((2, 70, 9), 2)
    assert [row["algorithm"] for row in rows] == ["kmedoids", "spectral"]
    assert all(row["ratio"] == pytest.approx(row["naive_ms"] / row["ms"]) for row in rows)
