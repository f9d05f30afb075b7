"""What is measured of a model, and the commands that print it, on the tiny backbone."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY

from centerclip import clustering, clustering_benchmark, efficiency
from centerclip.clustering.kmedoids import kmedoids
from centerclip.clustering.spectral import spectral
from centerclip.model import build

STAGE = {"algorithm": "kmedoids", "block": 2, "segments": 2, "clusters": 49}


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )


def test_tokens_per_block():
    """6 frames of 1 + 49 tokens, then 2 segments of 1 + 49."""
    frames = efficiency.smooth_video(6, 56)
    assert efficiency.tokens_per_block(build("tiny", [STAGE]).eval(), frames) == [300, 300, 100, 100]
    assert efficiency.tokens_per_block(build("tiny").eval(), frames) == [300] * 4


def test_a_smooth_videos_frames_resemble_their_neighbours():
    video = efficiency.smooth_video(12, 56)
    assert video.shape == (1, 12, 3, 56, 56)
    near, far = (video[:, 1:] - video[:, :-1]).abs().mean(), (video[:, 6:] - video[:, :-6]).abs().mean()
    assert 0 < near < far / 2


def test_time_in_clustering_is_counted_and_only_there():
    models = [build("tiny").eval(), build("tiny", [STAGE]).eval()]
    untouched = clustering.cluster
    plain, clustered = efficiency.milliseconds(models, efficiency.smooth_video(6, 56), 3)
    assert [inside for _, inside in plain] == [0, 0, 0]
    assert all(0 < inside < whole for whole, inside in clustered)
    assert clustering.cluster is untouched


def test_the_command_measures_variants_of_a_config(tmp_path):
    config = (REPOSITORY / "config/config.yaml").read_text().replace("backbone: ViT-B-32 #", "backbone: tiny #")
    config = config.replace("stage: {block: 6,", "stage: {block: 2,")
    (tmp_path / "c.yaml").write_text(config)
    common = ["centerclip.efficiency", "--config", tmp_path / "c.yaml", "--repeats", 1, "--threads", 1]
    done = command(*common, "--benchmark", "shapes", "--variants", "baseline", "pooling", "--out", tmp_path / "o.json")
    assert done.returncode == 0, done.stderr
    baseline, pooling = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert baseline["ms_ratio"] == baseline["gflops_ratio"] == baseline["saved_mb_ratio"] == 1
    assert pooling["gflops_ratio"] < 1 and pooling["saved_mb_ratio"] < 1 and pooling["variant"] == "pooling"
    assert "pooling" in done.stdout
    wrong = command(*common, "--benchmark", "shapes", "--variants", "baseline", "poolin")
    assert wrong.returncode == 1 and wrong.stderr.splitlines()[-1].startswith("error: unknown variant 'poolin'")
    mixed = command(*common, "--benchmark", "shapes", "--variants", "baseline", "baseline-b16")
    assert mixed.stderr.splitlines()[-1] == "error: variants to compare must share their backbone and frames"


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
