"""Vectors as files: those of a folder of videos, for other programs, and the metrics of those that others made."""

import json

import numpy as np
import pytest
import torch
from support.ranks import metrics_of
from support.videos import make_video
from torch.testing import assert_close

import centerclip
from centerclip import cli
from centerclip.backbones.clip import build
from centerclip.backbones.weights import save_weights
from centerclip.evaluate import metrics, ranks, vector_file
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.method.stage import Model, Stage
from centerclip.search.models import cell_of_weights, in_fast_precision
from centerclip.search.retriever import Retriever


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(build(Model("tiny"), 0).state_dict(), "tiny", file)
    return file


@pytest.fixture
def folder(tmp_path):
    """Five videos, more than are encoded together, and one that is broken."""
    (tmp_path / "videos").mkdir()
    for number in range(5):
        make_video(tmp_path / f"videos/{number}.mp4", count=8 + number)
    (tmp_path / "videos/broken.mp4").write_text("not a video")
    return tmp_path / "videos"


def test_features_of_a_stage_are_of_reduced_tokens(run, folder, weights, tmp_path):
    asked = ("--backbone", "tiny", "--weights", weights, "--frames", 4, "--stage", 2, 2, 9)
    run("features", folder, "--out", tmp_path / "f.npz", *asked)
    stage = Stage("kmedoids", block=2, segments=2, clusters=9)
    expected = Retriever(in_fast_precision(cell_of_weights("tiny", str(weights), 4, [stage]))).encode_videos(
        [folder / "0.mp4"]
    )
    with np.load(tmp_path / "f.npz") as stored:
        assert np.allclose(stored["vectors"][0], expected[0], atol=1e-5)
        assert json.loads(stored["settings"].item())["model"]["stages"][0]["clusters"] == 9


def test_a_block_beyond_the_backbone_is_a_mistake(folder, tmp_path, mistake):
    asked = ("--backbone", "tiny", "--weights", "null", "--stage", 6, 4, 49)
    line = mistake(cli.main, "features", folder, "--out", tmp_path / "f.npz", *asked)
    assert line == "error: block 6: stages need different blocks from 0 to 3: tiny has 4 blocks"


def test_weights_of_a_reduced_model_want_its_stage(folder, tmp_path, mistake):
    reduced = centerclip.reduce(build(Model("tiny"), 0), "kmedoids", segments=2, clusters=9, frames=4)
    torch.save(reduced.state_dict(), tmp_path / "reduced.pt")
    asked = ("--backbone", "tiny", "--weights", tmp_path / "reduced.pt", "--frames", 4)
    line = mistake(cli.main, "features", folder, "--out", tmp_path / "f.npz", *asked)
    assert f"weights {tmp_path / 'reduced.pt'}: of a model of centerclip.reduce, by kmedoids after block 2" in line
    assert "(--stage 2 2 9)" in line


def test_the_file_has_the_vectors_and_what_was_left_out(run, folder, weights, tmp_path, monkeypatch):
    """A second time nothing is encoded again."""
    asked = ("features", folder, "--backbone", "tiny", "--weights", weights, "--frames", 4, "--out")
    run(*asked, tmp_path / "features.npz")
    made = dict(np.load(tmp_path / "features.npz"))
    retriever = Retriever(in_fast_precision(cell_of_weights("tiny", str(weights), 4)))
    expected = retriever.encode_videos([folder / f"{number}.mp4" for number in range(5)])
    assert made["ids"].tolist() == [f"{number}.mp4" for number in range(5)]
    assert made["vectors"].dtype == np.float32 and np.allclose(made["vectors"], expected, atol=1e-6)
    assert made["left_out"].tolist() == ["broken.mp4"] and made["reasons"][0].startswith("not a video")
    assert made["model"] == retriever.fingerprint()
    assert json.loads(str(made["settings"])) == retriever.cell.settings()
    monkeypatch.setattr(Retriever, "encode_frames", None)
    run(*asked, tmp_path / "second.npz")
    assert all(np.array_equal(array, made[name]) for name, array in np.load(tmp_path / "second.npz").items())


def test_mistakes_are_told_before_anything_is_computed(folder, mistake, tmp_path):
    line = mistake(cli.main, "features", folder, "--out", tmp_path / "features.csv")
    assert line.endswith("features.csv: features are written as .npz")
    line = mistake(cli.main, "features", tmp_path / "none", "--out", tmp_path / "features.npz")
    assert line.endswith("none: no such folder")
    assert not list(tmp_path.glob("*features*"))


def unit_vectors(texts=6, videos=4, width=3):
    generator = np.random.default_rng(0)
    vectors = [generator.normal(size=(count, width)) for count in (texts, videos)]
    given = dict(zip(("texts", "videos"), (one / np.linalg.norm(one, axis=1)[:, None] for one in vectors), strict=True))
    return given | {"video_of_text": np.arange(texts) % videos}


def test_metrics_of_a_file_are_those_of_results(run, tmp_path):
    """Of numbers of any kind: half precision, whole numbers."""
    given = unit_vectors()
    given |= {"texts": given["texts"].astype(np.float16), "video_of_text": given["video_of_text"].astype(np.uint8)}
    np.savez(tmp_path / "mine.npz", **given)
    printed = run("metrics", tmp_path / "mine.npz", "--out", tmp_path / "metrics.json")
    expected = retrieval_metrics(*(torch.tensor(one).float() for one in (given["texts"], given["videos"])),
                                 torch.tensor(given["video_of_text"]).long())  # fmt: skip
    found = json.loads((tmp_path / "metrics.json").read_text())
    low, high = found["intervals"]["t2v R@1"]
    assert low <= expected["text_to_video"]["R@1"] <= high and found == expected | {"intervals": found["intervals"]}
    assert printed.startswith("6 texts, 4 videos; a tie counts against the query")
    cells = [cell.strip() for cell in printed.splitlines()[-2].split("|")]
    names = ("R@1", "R@5", "R@10", "MdR", "MnR")
    values = [cell.partition(" [")[0] for cell in cells[2:-1]]
    assert cells[2].endswith(f" [{low:.1f}, {high:.1f}]")
    assert [cells[1], *values] == ["text to video", *(f"{expected['text_to_video'][name]:.1f}" for name in names)]


def test_metrics_are_those_of_the_file_of_ranks(tmp_path):
    """In both counts, with many ties, one and several texts a video, and videos without a text."""
    generator = torch.Generator().manual_seed(0)
    for texts in (6, 40):
        vectors = [torch.randint(-1, 2, (count, 2), generator=generator).float() for count in (texts, 9)]
        truth = torch.randperm(8, generator=generator).repeat(5)[:texts]
        answers = metrics.answers(*vectors, truth)
        ranks.write(tmp_path / "a.ranks.npz", metrics.numbered(answers, truth, 9))
        expected = metrics_of(ranks.read(tmp_path / "a.ranks.npz")) | {"n_texts": texts, "n_videos": 9}
        assert_close(metrics.metrics(answers, 9), expected)


def test_equal_videos_and_other_lengths_are_noted(tmp_path, capsys):
    """A row a caption: the right answer to each perfect vector ties with wrong ones. Rows that differ by rounding
    stay apart, and -0 equals 0."""
    texts, videos = np.repeat(np.eye(4), 3, axis=0), np.repeat(np.eye(4), 3, axis=0)
    videos[1] *= [1, -1, 1, 1]
    near = videos * (1 + 1e-6 * np.arange(12))[:, None]
    once = {"texts": texts, "videos": np.eye(4), "video_of_text": np.repeat(range(4), 3)}
    pairs = {"texts": texts, "videos": videos, "video_of_text": np.arange(12)}
    for name, vectors in {"once": once, "pairs": pairs, "near": pairs | {"videos": near}}.items():
        np.savez(tmp_path / f"{name}.npz", **vectors)

    _, *arguments = vector_file.read(tmp_path / "pairs.npz", group_equal_videos=True)
    assert [argument.tolist() for argument in arguments] == [np.eye(4).tolist(), np.repeat(range(4), 3).tolist()]
    for name in ("once", "near"):
        vector_file.read(tmp_path / f"{name}.npz")
    assert not capsys.readouterr().err
    apart = retrieval_metrics(*vector_file.read(tmp_path / "pairs.npz"))
    assert apart["text_to_video"]["R@1"] == 0
    line = f"note: {tmp_path}/pairs.npz: the 12 rows of videos are 4 different ones, and an equal row counts as"
    told = capsys.readouterr().err
    assert told.startswith(line) and "--group-equal-videos" in told and told.count("\n") == 1
    np.savez(tmp_path / "long.npz", **once | {"texts": 2 * texts})
    vector_file.read(tmp_path / "long.npz")
    assert (
        capsys.readouterr().err == "note: texts are not of unit length: similarities are inner products, no cosines\n"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"videos": np.full((4, 3), 1e39)}, "videos has numbers that are too large or not finite"),
        ({"texts": np.ones(3)}, "texts must be a 2-D array of numbers, not float64 [3]"),
        ({"videos": np.full((4, 3), "a")}, "videos must be a 2-D or 3-D array of numbers, not <U1 [4, 3]"),
        ({"videos": np.ones((4, 2))}, "texts have 3 numbers each and videos 2"),
        ({"video_of_text": np.arange(5)}, "video_of_text must be one whole number a text, not int64 [5]"),
        ({"video_of_text": np.zeros(6)}, "video_of_text must be one whole number a text, not float64 [6]"),
        ({"video_of_text": np.arange(6) - 1}, "video_of_text has -1 to 4 for videos 0 to 3"),
        ({"texts": np.full((6, 3), None)}, "not a whole .npz of numbers"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_mistakes(change, expected, mistake, tmp_path):
    np.savez(tmp_path / "mine.npz", **unit_vectors() | change)
    assert mistake(cli.main, "metrics", tmp_path / "mine.npz").endswith(f"mine.npz: {expected}")


def test_other_files_are_mistakes(mistake, tmp_path):
    file = tmp_path / "mine.npz"
    assert mistake(cli.main, "metrics", file) == f"error: {file}: No such file or directory"
    told = mistake(cli.main, "metrics", file, "--out", tmp_path)
    assert told == f"error: {tmp_path}: cannot be written: Is a directory"
    np.savez(file, texts=np.ones((1, 1)))
    assert mistake(cli.main, "metrics", file).endswith("it needs texts, videos and video_of_text")
    whole = file.read_bytes()
    np.save(tmp_path / "one.npy", np.ones((1, 1)))
    for content in (b"", b"no arrays", whole[: len(whole) // 2], (tmp_path / "one.npy").read_bytes()):
        file.write_bytes(content)
        assert mistake(cli.main, "metrics", file).endswith("not a whole .npz of numbers")
