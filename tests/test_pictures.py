"""The paper's pictures: that what they show is what the model does, and which queries are the best and the worst."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from safetensors.torch import save_file
from support.cells import tiny_cell
from support.methods import METHODS
from support.videos import make_video

from centerclip.backbones.clip import CenterCLIP
from centerclip.command import UserError
from centerclip.evaluate.ranks import Flip
from centerclip.method.reduction.kmedoids import kmedoids
from centerclip.method.stage import Stage
from centerclip.report import figures
from centerclip.report.pictures import drawing, flips, pictures_of, queries, tokens
from centerclip.report.pictures.queries import Query, draw_queries
from centerclip.report.pictures.tokens import Clusters, clusters, draw_clusters, positions
from centerclip.search.models import cell_of_weights
from centerclip.search.retriever import Retriever

STAGE = Stage("kmedoids", block=2, segments=2, clusters=20)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4")


def test_kept_tokens_are_those_that_the_model_keeps(video):
    """Against the algorithm itself on what comes out of the second block of the same model without a stage."""
    retriever = Retriever(cell_of_weights("tiny", None, 4, [STAGE]))
    frames, mask = retriever.read(video)
    row = clusters(retriever, frames, mask)
    whole, seen = Retriever(cell_of_weights("tiny", None, 4)), []
    whole.model.visual.transformer.resblocks[1].register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    whole.encode_frames([(frames, mask)])
    medoids, assignment = kmedoids(seen[0][:, 1:].reshape(2, 2 * 49, -1), 20)
    assert torch.equal(row.kept, medoids) and torch.equal(row.assignment, assignment)
    assert torch.equal(row.frames, frames) and row.label == "kmedoids\n20 of 98\ntokens go on\nrandom weights"


def test_each_kept_token_is_outlined_where_it_lies():
    """Two segments of two frames of 2 x 2 patches; kept are tokens 0 and 7 of the first, 3 and 4 of the second."""
    medoids = torch.tensor([[0, 7], [3, 4]])
    frames = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    row = Clusters("mine", frames, medoids, torch.tensor([[0] * 4 + [1] * 4] * 2))
    plain_strip, tinted = draw_clusters([row], "title").axes
    outlines = [part for part in tinted.collections if isinstance(part, PatchCollection)]
    corners = {tuple(path.vertices[0]) for part in outlines for path in part.get_paths()}
    places = positions(row)
    assert corners == {
        (places[0], 0), (places[1] + 0.5, 0.5), (places[2] + 0.5, 0.5), (places[3], 0),
    }  # fmt: skip
    assert not plain_strip.collections and len(plain_strip.images) == 4
    overlays = [image.get_array() for image in tinted.images[1::2]]
    assert [(overlay[..., 3] == 0).sum() for overlay in overlays] == [1, 1, 1, 1]


@pytest.mark.parametrize("keep", ["mean", "weighted"])
def test_no_token_is_outlined_where_means_go_on(video, keep):
    retriever = Retriever(cell_of_weights("tiny", None, 4, [replace(STAGE, keep=keep)]))
    row = clusters(retriever, *retriever.read(video))
    assert row.label.startswith("kmedoids\n20 means of 98\ntokens go on\n") and len(positions(row)) == 4
    _, tinted = draw_clusters([row], "title").axes
    assert not [path for part in tinted.collections for path in part.get_paths() if len(path.vertices) > 2]
    assert all((image.get_array()[..., 3] > 0).all() for image in tinted.images[1::2])


def test_tokens_that_merge_inside_a_block_are_clusters(video):
    """Of ToMe, frame by frame in the first block: 5 of 49 join others."""
    retriever = Retriever(tiny_cell(model=METHODS["tome"], training=None))
    row = clusters(retriever, *retriever.read(video))
    assert row.label.startswith("tome\n44 means of 49\n") and row.assignment.shape == (6, 49)
    assert len(positions(row)) == 6 and (row.assignment.amax(1) == 43).all()


def test_lines_are_between_clusters_only():
    patches = np.array([[0, 0, 1], [0, 2, 1], [2, 2, 2]])
    assert tokens.edges(patches).tolist() == [[0, 2], [1, 1], [1, 2]]


@pytest.mark.parametrize(
    ("frames", "segments", "shown"), [(12, 4, 12), (60, 15, 12), (60, 12, 10), (12, 12, 12), (24, 1, 24), (6, 2, 6)]
)
def test_a_long_video_shows_its_first_segments_whole(frames, segments, shown):
    row = Clusters("", torch.zeros(frames, 1), torch.zeros(segments, 1), torch.zeros(segments, 1))
    places = positions(row)
    assert len(places) == shown and (np.diff(places) > 1).all()


@pytest.mark.parametrize(
    ("stages", "name", "weights", "line"),
    [
        ([], "v.mp4", None, "the model: without a clustering stage every token goes on"),
        ([replace(STAGE, clusters=0)], "v.mp4", None, "segments 2, clusters 0: neither may be less than 1"),
        ([STAGE], "none.mp4", "none either", r"none\.mp4: no such file"),
        ([Stage("rlt", 0)], "v.mp4", None, "the model: rlt leaves patches out, which form no clusters"),
    ],
)
def test_a_model_without_clusters_and_a_missing_video_are_mistakes(video, stages, name, weights, line):
    with pytest.raises(UserError, match=line):
        tokens.draw_file(video.with_name(name), [cell_of_weights("tiny", weights, 4, stages)])


def test_flips_of_one_model_are_a_mistake():
    with pytest.raises(UserError, match="flips: give the results of a baseline and of at least one other model"):
        flips.draw([tiny_cell()])


@pytest.mark.slow
def test_the_command_draws_a_file(video, tmp_path):
    save_file(CenterCLIP("tiny").state_dict(), tmp_path / "w.safetensors")
    model = ("--backbone", "tiny", "--frames", "4", "--stage", "2", "2", "20", "--weights", tmp_path / "w.safetensors")
    words = [sys.executable, "-m", "centerclip", "tokens", video, *model, "--out", tmp_path / "p.png"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "p.png").width > 500


def names(*cells) -> dict[str, list[str]]:
    return {picture: [cell.name for cell in shown] for picture, shown in pictures_of(list(cells)).items()}


def clustered(name, algorithm="kmedoids", segments=2, clusters=20):
    return tiny_cell(Stage(algorithm, 2, segments, clusters), variant=name)


def test_pictures_show_the_first_of_each_algorithm_in_the_size_of_the_first_where_there_is_one():
    first, again = clustered("k2"), clustered("k2-again")
    other, same = clustered("s3", "spectral", 3), clustered("s2", "spectral")
    assert names(tiny_cell(variant="baseline"), first, again, other, same) == {
        "tokens": ["k2", "s2"],
        "queries": ["k2"],
        "flips": ["baseline", "k2", "k2-again", "s3", "s2"],
    }
    assert names(first, other)["tokens"] == ["k2", "s3"]
    pooled = clustered("pooled", "pooling", clusters=49)  # sampling forms no clusters
    assert names(pooled, first) == {"tokens": ["k2"], "queries": ["k2"]}
    assert names(pooled, tiny_cell(variant="baseline")) == {"queries": ["pooled"]}


def test_flips_are_of_trained_clustering_cells_in_the_group_of_the_baseline():
    untrained, longer = (replace(clustered(name), **{key: value}) for name, key, value in (
        ("untrained", "training", None), ("longer", "data", replace(tiny_cell().data, frames=8))))  # fmt: skip
    baseline = tiny_cell(variant="baseline")
    assert names(baseline, untrained, longer, clustered("k2"))["flips"] == ["baseline", "k2"]
    assert "flips" not in names(baseline, untrained, longer)


def test_flips_show_what_each_model_finds_and_frame_the_right_video():
    gains = [Flip(f"c{number}", f"v{number // 2}", 9 - number, 1, "w") for number in range(3)]
    shown, asked = flips.largest(gains), []
    assert [flip.query for flip in shown] == ["c0", "c2"]  # one a video

    def frames(video):
        asked.append(video)
        return torch.zeros(3, 3, 8, 8, dtype=torch.uint8)

    captions = {"c0": "a star", "c2": "a cross", "c9": "a ring"}
    figure = flips.draw_flips([shown, [Flip("c9", "v9", 1, 4, "x")]], ["old", "new"], captions, frames, "title")
    assert asked == ["w", "v0", "w", "v1", "v9", "x"]
    (first, lost, _, empty) = figure.axes
    assert first.get_title(loc="left") == "gained, rank 9 → 1: “a star”"
    assert [text.get_text() for text in first.texts] == ["old finds another", "new finds the right one"]
    assert [text.get_text() for text in lost.texts] == ["old finds the right one", "new finds another"]
    assert [patch.get_x() for patch in lost.patches] == [0] and not empty.texts


def test_best_and_worst_queries_against_brute_force():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(60, 9, generator=generator)
    truth = torch.arange(60) % 9

    def standing(query):
        right = similarity[query, truth[query]].item()
        wrong = [similarity[query, video].item() for video in range(9) if video != truth[query]]
        return sum(value >= right for value in wrong), max(wrong) - right

    def first_of_each_video(asked):
        return [q for i, q in enumerate(asked) if truth[q] not in [truth[before] for before in asked[:i]]]

    order = sorted(range(60), key=standing)
    best, worst = queries.extremes(similarity, truth, 3)
    assert best == first_of_each_video(order)[:3] and worst == first_of_each_video(order[::-1])[:3]
    assert len({int(truth[query]) for query in best}) == 3


def test_a_query_has_its_rank_and_answers():
    similarity = torch.tensor([[0.8, 0.6, 1.0], [0.6, 0.8, 0.0]])
    (best,), (worst,) = queries.best_and_worst(similarity, torch.tensor([2, 0]), ["up", "right"], 1)
    assert (best.caption, best.rank, best.candidates, best.right, best.answers) == ("up", 1, 3, 2, [2, 0, 1])
    assert best.similarity == pytest.approx([1, 0.8, 0.6])
    assert (worst.caption, worst.rank, worst.right, worst.answers) == ("right", 2, 0, [1, 0, 2])


def test_queries_of_a_model_with_several_vectors_a_video(monkeypatch):
    """Of "right" the second vector of its video, b, is nearest; of "up" the first one, not a vector of its video."""
    rows = pd.DataFrame({"video_id": ["a", "b"], "caption": ["up", "right"]})
    videos = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.8], [1.0, 0.0]]])
    vectors = torch.tensor([[0.6, 0.8], [1.0, 0.0]]), videos, torch.tensor([0, 1])
    monkeypatch.setattr(queries, "stored", lambda cell, splits: (None, None, {"test": rows}))
    monkeypatch.setattr(queries, "Videos", lambda *_: torch.zeros(2, 1, 3, 3, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr(queries, "features", lambda *_: vectors)
    monkeypatch.setattr(queries, "Retriever", mock.Mock())
    figure = queries.draw([tiny_cell()])
    assert "the right video comes first for 1 of 2 sentences" in " ".join(figure.get_suptitle().split())
    assert [text.get_text() for text in figure.axes[0].texts] == ["1: 1.00 the right one", "2: 0.00"]


def test_the_right_video_is_framed_and_stands_apart_where_it_was_not_found(tmp_path):
    answered = Query("costs $5 and $6 " + "very " * 99, 2, 30, 4, [3, 4, 5, 6, 7], [0.5, 0.4, 0.3, 0.2, 0.1])
    lost = answered._replace(caption="short", rank=17, right=9)
    asked = []

    def frames(video):
        asked.append(video)
        return torch.zeros(3, 3, 8, 8, dtype=torch.uint8)

    figure = draw_queries([answered], [lost], frames, "title")
    assert asked == [3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 9]
    for axes, label, left in zip(figure.axes, ("2: 0.40", "17:"), (3.45, 5 * 3.45 + 0.5), strict=True):
        (frame,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
        assert frame.get_x() == pytest.approx(left)
        assert [text.get_text() for text in axes.texts if "right" in text.get_text()] == [f"{label} the right one"]
    assert "number 17 of 30" in figure.axes[1].get_title(loc="left")
    for name in ("p.png", "p.gif"):
        figures.save(figure, tmp_path / name)
        assert Image.open(tmp_path / name).width > 500
    with pytest.raises(UserError, match=r"p\.mp4: no format of figures ends in '.mp4'"):
        figures.check_path(tmp_path / "p.mp4")


def test_other_scripts_are_in_a_font_of_the_machine_or_told(tmp_path, monkeypatch, capsys):
    """In a font, made up here, that came after matplotlib listed the machine's; a dollar is a dollar."""
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.name == figures.OWN])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path) for path in tmp_path.glob("*.ttf")])

    def draw(path: Path) -> tuple[Figure, str]:
        answered = Query("\u4e00\u661f costs $5 or $6", 1, 2, 0, [0, 1], [0.9, 0.8])
        figure = draw_queries([answered], [], lambda video: torch.zeros(3, 3, 8, 8, dtype=torch.uint8), "$t$")
        figures.save(figure, path)
        return figure, capsys.readouterr().err

    _, told = draw(tmp_path / "boxes.png")
    assert told.startswith(f"note: {tmp_path}/boxes.png: no font of this machine has '\u4e00\u661f'")
    assert told.count("\n") == 1
    made = TTFont(font_manager.findfont(figures.OWN))
    for table in made["cmap"].tables:
        table.cmap = {0x4E00: "A", 0x661F: "B"} if table.isUnicode() else {}
    for name in made["name"].names:
        name.string = "Made Up" if name.nameID in (1, 4, 16) else name.toUnicode()
    made.save(tmp_path / "made.ttf")
    figure, told = draw(tmp_path / "made.png")
    assert not told and (tmp_path / "made.png").read_bytes() != (tmp_path / "boxes.png").read_bytes()
    title = figure.axes[0]._left_title
    assert "Made Up" in title.get_fontfamily() and not title.get_parse_math()


def test_a_sentence_without_spaces_is_cut(tmp_path):
    assert drawing.shortened("\u661f" * 400, 330) == "\u661f" * 326 + " ..."
    assert drawing.shortened(" a\n b ", 330) == "a b"
