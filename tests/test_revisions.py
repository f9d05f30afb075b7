"""What each stage gives on tiny data. A test that fails names the revision to raise."""

import hashlib
import io
import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from support.cells import STAGE, TRAINING, tiny_cell
from support.training import write_cell
from support.videos import make_video

from centerclip.backbones.clip import build
from centerclip.data.datasets import readers, shapes
from centerclip.data.video.extraction import extract
from centerclip.evaluate import efficiency
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.method import reduction
from centerclip.method.stage import Model, Stage
from centerclip.settings import revisions
from centerclip.settings.cell import read_cell
from centerclip.train import loop

NAN = float("nan")
SHAPES = {"reader": "shapes", "seed": 3, "videos": {"train": 2, "val": 1, "test": 1}, "resolution": 32}


def hold(found: object, held: object, revision: str) -> None:
    """Fail, and name the revision to raise, if a stage gives something else than it did."""
    assert found == held, f"raise {revision}, if results should become others, and hold what it gives now: {found}"


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def near(numbers: list[float], relative: float = 1e-3) -> object:
    return pytest.approx(numbers, rel=relative, abs=1e-6)


def test_frames(tmp_path):
    """Which frames of a video are kept, by their grey levels, their size, and how they are compressed."""
    video = make_video(tmp_path / "v.mp4")
    clips = extract(video, [(0, NAN), (0.5, 1.2)], 3, 32) + extract(video, [(1.0, 1.3)], None, 32)
    pictures = [Image.open(io.BytesIO(frame)) for clip in clips for frame in clip.frames]
    levels = [round(float(np.asarray(picture)[24:].mean()) / 10) for picture in pictures]
    compressed = [picture.format for picture in pictures if picture.size == (32, 32)]
    tables = [sum(table) for table in pictures[0].quantization.values()]
    expected = [1, 5, 8, 11, 15, 18, 6, 10, 10, 11, 12, 13], ["JPEG"] * 8 + ["PNG"] * 4, [1109, 1666]
    hold((levels, compressed, tables), expected, "FRAMES in centerclip/settings/revisions.py")


def test_manifest(tmp_path):
    """Captions, and the brightness of a rendered video. Readers of published files: test_readers.py."""
    shapes.fetch(SHAPES, tmp_path / "source")
    rows = readers.read(SHAPES, tmp_path / "source")
    (clip,) = extract(rows["path"][0], [(0, NAN)], None, 32)
    brightness = round(float(np.mean([np.asarray(Image.open(io.BytesIO(frame))) for frame in clip.frames])))
    captions = digest(rows.drop(columns="path").fillna("").values.tolist())
    hold((captions, len(clip.frames), brightness), ("0d9cc6ed", 24, 28), "MANIFEST in centerclip/settings/revisions.py")


def test_training(tmp_path):
    """The losses of a training, how far it moves each kind of weights, and the choice of the epoch."""
    recipe = replace(TRAINING, weight_decay=20.0, select="val")
    cell = read_cell(write_cell(tmp_path / "results", tiny_cell(replace(STAGE, embedding=True), training=recipe)))
    weights, history = loop.train(cell, tmp_path / "checkpoints", tmp_path / "tensorboard")
    start = build(cell.model, cell.seed).state_dict()
    moved = {}
    for name, tensor in weights.items():
        kind = name.rpartition(".")[0].split(".")[0], tensor.ndim
        moved[kind] = moved.get(kind, 0.0) + (tensor - start[name]).abs().sum().item()
    losses = [epoch["loss"] for epoch in history["epochs"]]
    distances = [13.8211, 0.0910337, 21.9585, 416.004, 0, 9.80327, 242.881, 0, 2.21596, 99.3237]  # stem and buffer: 0
    held = near([1.58824, 1.40092, *distances], 0.01)
    hold(
        (history["selected_epoch"], losses + list(moved.values())),
        (2, held),
        "TRAINING in centerclip/settings/revisions.py",
    )


def test_evaluation():
    """Metrics of vectors with ties, and a model's own vectors."""
    rng = np.random.default_rng(0)
    texts, videos = (torch.from_numpy(rng.integers(-2, 3, (count, 3))).float() for count in (30, 12))
    metrics = retrieval_metrics(texts, videos, torch.arange(30) % 12)
    model = build(Model("tiny", stages=(STAGE,)), 0).eval()
    frames = torch.from_numpy(rng.normal(size=(1, 6, 3, 56, 56))).float()
    with torch.no_grad():
        video = model.encode_video(frames, torch.tensor([[True] * 5 + [False]]))
        text = model.encode_text(torch.tensor([[49406, 320, 49407, 0]]))
    found = [*video[0, :3].tolist(), *text[0, :3].tolist()]
    held = near([0.0229441, -0.116735, -0.102526, 0.0365943, 0.0501791, -0.212021])
    hold((digest(metrics), found), ("d708feee", held), "EVALUATION, and TRAINING, in centerclip/settings/revisions.py")


def test_costs():
    """The columns of a measurement, and all of it but times."""
    cells = [tiny_cell(*stages, variant=f"v{number}") for number, stages in enumerate([(), (STAGE,)])]
    rows = efficiency.measure(cells, torch.device("cpu"), repeats=1)
    counted = list(chain.from_iterable([row["gflops"], row["saved_mb"], *row["tokens_per_block"]] for row in rows))
    held = near([0.140599, 6.34025, 300, 300, 300, 300, 0.100274, 4.25047, 300, 300, 100, 100])
    hold((digest(*rows[0]), counted), ("4489931b", held), "COSTS in centerclip/settings/revisions.py")


TOKENS = torch.from_numpy(np.random.default_rng(2).integers(-99, 100, (2, 40, 8))).float()
ALGORITHMS = {
    "dpc_knn": "84bde296",
    "evit": "69556ccd",
    "first_tokens": "0a4bba49",
    "hpool": "16be22f4",
    "kmedoids": "84652824",
    "norm": "93a1638f",
    "pitome": "45de5fd9",
    "pooling": "26f2778a",
    "random_tokens": "8b45f946",
    "rlt": "f57ad4c1",
    "sparse_sampling": "daac7504",
    "spectral": "e741da24",
    "tome": "eb8c716c",
}


def kept(name: str, tokens: torch.Tensor = TOKENS) -> str:
    """A digest of the tokens that an algorithm keeps."""
    if reduction.sees_pixels(name):
        frames = tokens.view(1, 2, 1, 16, 20).expand(-1, -1, 3, -1, -1) / 650
        return digest(reduction.algorithm(name)(frames, 4).tolist())
    about = {"frames": 4, "segments": 2, "classes": 1, "scores": tokens[..., 0], "training": False}
    clusters = 30 if reduction.keeps(name) == reduction.HALF else 10
    made = reduction.algorithm(name)(tokens, clusters, **{key: about[key] for key in reduction.context(name)})
    return digest(*(part.tolist() for part in made))


def test_algorithms():
    """All that state a REVISION; one of a user's own counts by its file."""
    found = {name: kept(name) for name in reduction.names() if isinstance(reduction.revision(name), int)}
    moved = [name for name in found if found[name] != ALGORITHMS.get(name)]
    hold(found, ALGORITHMS, f"REVISION in centerclip/method/reduction/ of {', '.join(moved)}")


def test_an_algorithm_without_a_revision_counts_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reduction, "DIRECTORY", tmp_path)
    seen = []
    for text in ("REVISION = 7\n", "", "# a comment\n", ""):
        (tmp_path / "mine.py").write_text(f"{text}def mine(tokens, clusters): ...\n")
        reduction.syntax.cache_clear()
        seen.append(revisions.of_algorithms([tiny_cell(Stage("mine", 2, 2, 49))])["mine"])
    reduction.syntax.cache_clear()
    assert seen[0] == 7 and seen[1] == seen[3] != seen[2]


def test_a_trained_cells_metrics_depend_on_more_stages_than_an_untrained_cells(monkeypatch):
    trained, untrained = tiny_cell(STAGE), tiny_cell(STAGE, training=None)
    before = [revisions.of_evaluation(cell) for cell in (trained, untrained)] + [revisions.of_training(trained)]
    for stage, expected in (("TRAINING", [True, False, True]), ("EVALUATION", [True, True, False])):
        with monkeypatch.context() as patch:
            patch.setattr(revisions, stage, 99)
            after = [revisions.of_evaluation(cell) for cell in (trained, untrained)] + [revisions.of_training(trained)]
        assert [one != other for one, other in zip(before, after, strict=True)] == expected
