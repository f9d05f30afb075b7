"""Several vectors a video: encoding, similarity, metrics, search, settings."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from support.cells import STAGE, tiny_cell
from support.videos import make_video
from torch.nn.functional import normalize

from centerclip.backbones.clip import build
from centerclip.bench import recall
from centerclip.command import UserError
from centerclip.evaluate import costs, metrics, operations, vector_file
from centerclip.evaluate.metrics import retrieval_metrics
from centerclip.method.errors import Misfit
from centerclip.method.maxsim import maxsim, maxsim_in_parts
from centerclip.method.stage import Model, Stage
from centerclip.search.index import Searcher, index_file, read_index, up_to_date
from centerclip.search.models import cell_of_weights
from centerclip.search.retriever import Retriever
from centerclip.settings import resolve
from centerclip.settings.cell import check_cell, from_settings
from centerclip.settings.config import read_config
from centerclip.train.loop import contrastive_loss


@torch.no_grad()
def test_segments_are_what_the_mean_is_of():
    model, frames = build(Model("tiny", stages=(STAGE,)), 0).eval(), costs.smooth_videos(2, 6, 56)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])  # whose second segment ends in padding
    vectors, counts = model.encode_video(frames, mask, "segments")
    assert counts.tolist() == [[True, True], [True, False]] and vectors.shape == (2, 2, 64)
    for place, video in ((0, 0), (1, 0), (0, 1)):
        alone = frames[video : video + 1, 3 * place : 3 * place + 3]
        (expected,) = build(Model("tiny", stages=(replace(STAGE, segments=1),)), 0).eval().encode_video(alone)
        assert torch.allclose(vectors[video, place], expected, atol=1e-6)
    assert not vectors[1, 1].any()
    assert torch.equal(normalize(vectors.sum(1), dim=-1), model.encode_video(frames, mask))


@torch.no_grad()
def test_medoids_are_the_last_blocks_tokens_projected():
    stage = replace(STAGE, clusters=9)
    model, frames, last = build(Model("tiny", stages=(stage,)), 0).eval(), costs.smooth_videos(2, 6, 56), []
    model.visual.transformer.resblocks[-1].register_forward_hook(lambda _, __, output: last.append(output))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    vectors, counts = model.encode_video(frames, mask, "medoids")
    assert counts.tolist() == [[True] * 18, [True] * 9 + [False] * 9] and not vectors[1, 9:].any()
    tokens = last[0].view(2, 2, 10, 64)[:, :, 1:].flatten(1, 2)
    for video, place in counts.nonzero().tolist():
        expected = normalize(model.visual.ln_post(tokens[video, place]) @ model.visual.proj, dim=-1)
        assert torch.allclose(vectors[video, place], expected, atol=1e-6)


def some(videos: int, k: int, texts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of videos [V, k, 8], the last of every second video zero, and of texts [T, 8]."""
    generator = torch.Generator().manual_seed(0)
    several = normalize(torch.randn(videos, k, 8, generator=generator), dim=-1)
    several[::2, 1:][:, -1:] = 0
    return several, normalize(torch.randn(texts, 8, generator=generator), dim=-1)


def by_loops(videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return torch.stack([
        torch.stack([max(vector @ text for vector in video if vector.any()) for text in texts]) for video in videos
    ])  # fmt: skip


@pytest.mark.parametrize("k", [1, 3])
def test_similarity_is_the_loops_whatever_the_parts(k):
    videos, texts = some(5, k, 4)
    expected = by_loops(videos, texts)
    assert torch.allclose(maxsim(videos, texts), expected, atol=1e-6)
    for numbers in (1, 60, 10**6):
        assert torch.allclose(maxsim_in_parts(videos, texts, videos.any(-1), numbers), expected, atol=1e-6)
    halves = maxsim_in_parts(videos.half(), texts, videos.any(-1), 60)
    assert halves.dtype == torch.float32 and torch.allclose(halves, expected, atol=1e-3)


def test_of_one_vector_a_video_losses_and_metrics_are_equal_to_the_bit():
    videos, texts = some(300, 1, 300)
    truth, scale = torch.arange(300), torch.tensor(3.0)
    assert torch.equal(contrastive_loss(videos, texts, scale), contrastive_loss(videos[:, 0], texts, scale))
    ours, before = (metrics.answers(texts, given, truth) for given in (videos, videos[:, 0]))
    for direction, found in before.items():
        assert all(map(torch.equal, found, ours[direction]))


def test_the_gradient_goes_to_the_most_similar_vector_alone():
    videos, texts = some(3, 3, 3)
    videos.requires_grad_()
    contrastive_loss(videos, texts, torch.tensor(1.0)).backward()
    best = (videos @ texts.T).masked_fill(~videos.any(-1)[..., None], -torch.inf).argmax(1)  # [V, T]
    for video in range(3):
        assert set(videos.grad[video].any(-1).nonzero()[:, 0].tolist()) == set(best[video].tolist())
    assert not videos.grad[0, 2].any()  # which is padding


def test_metrics_are_those_of_the_loops_similarities(monkeypatch):
    """As of videos whose vectors are rows of the loops' similarities, and texts that are rows of the identity."""
    videos, texts = some(7, 3, 20)
    truth = torch.arange(20) % 6
    expected = retrieval_metrics(torch.eye(20), by_loops(videos, texts), truth)
    for numbers in (1, 300, 10**6):
        monkeypatch.setattr(metrics, "AT_A_TIME", numbers)
        assert retrieval_metrics(texts, videos, truth) == expected


def test_a_file_of_several_vectors_is_read_with_its_mask(tmp_path, run):
    videos, texts = some(4, 3, 6)
    truth, mask = np.arange(6) % 4, videos.any(-1).numpy()
    garbage = np.where(mask[..., None], videos, np.nan)
    file = tmp_path / "mine.npz"
    np.savez(file, texts=texts, videos=garbage, mask=mask, video_of_text=truth)
    run("metrics", file, "--out", tmp_path / "metrics.json")
    expected = retrieval_metrics(texts, videos, torch.from_numpy(truth))
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert {key: found[key] for key in expected} == expected
    np.savez(file, texts=texts, videos=videos[[0, 1, 1, 3]], video_of_text=truth)
    assert vector_file.read(file, group_equal_videos=True)[1].shape == (3, 3, 8)
    for change, line in (
        ({"mask": mask[:, :2]}, "mask must have true or false for each of videos [V, k, E], not bool [4, 2]"),
        ({"mask": np.zeros_like(mask)}, "videos has a video whose vectors are all masked or zero"),
        ({"videos": np.ones((4, 3, 2))}, "texts have 8 numbers each and videos 2"),
        ({"texts": np.ones((6, 1, 8))}, "texts must be a 2-D array of numbers, not float64 [6, 1, 8]"),
    ):
        np.savez(file, **{"texts": texts, "videos": videos, "video_of_text": truth} | change)
        with pytest.raises(UserError, match=re.escape(f"{file}: {line}")):
            vector_file.read(file)


def test_search_answers_by_the_most_similar_vector(tmp_path, run):
    """The second video is so short that one of its segments does not count."""
    (tmp_path / "videos").mkdir()
    for number, count in enumerate((20, 3, 9)):
        make_video(tmp_path / f"videos/{number}.mp4", count=count)
    retriever = Retriever(cell_of_weights("tiny", None, 4, [Stage("kmedoids", 2, 2, 49)], "segments"))
    assert retriever.fingerprint() != Retriever(replace(retriever.cell, model=replace(
        retriever.cell.model, vectors="mean"))).fingerprint()  # fmt: skip
    index, _ = up_to_date(tmp_path / "videos", retriever)
    again = read_index(index_file(tmp_path / "videos", retriever), 64)
    assert again.keys() == index.keys() and read_index(index_file(tmp_path / "videos", retriever), 32) == {}
    for name, entry in index.items():
        assert entry.vector.dtype == np.float16 and np.array_equal(entry.vector, again[name].vector)
    vectors = retriever.encode_videos([tmp_path / "videos" / name for name in index])
    similarities = by_loops(vectors, retriever.encode_sentences(["grey"]))[:, 0]
    (found,) = Searcher(index, retriever).answers(["grey"], 3)
    order = similarities.argsort(descending=True)
    assert [one.place for one in found] == order.tolist()
    assert [one.similarity for one in found] == pytest.approx(similarities[order].tolist(), abs=1e-3)
    asked = ("--backbone", "tiny", "--weights", "null", "--frames", 4, "--stage", 2, 2, 49, "--vectors", "segments")
    run("features", tmp_path / "videos", "--out", tmp_path / "f.npz", *asked)
    with np.load(tmp_path / "f.npz") as stored:
        assert stored["vectors"].shape == (3, 2, 64)
        assert stored["mask"].tolist() == [[True, True], [True, False], [True, True]]


def test_settings_hold_vectors_if_there_are_several():
    """So that the settings, and the digests, of all other cells stay."""
    mean, medoids = (tiny_cell(model=Model("tiny", stages=(STAGE,), vectors=name)) for name in ("mean", "medoids"))
    assert "vectors" not in mean.settings()["model"] and from_settings(mean.settings()).model == mean.model
    assert from_settings(medoids.settings()).model.vectors == "medoids"
    assert tiny_cell().baseline and not tiny_cell(model=Model("tiny", vectors="segments")).baseline
    for stages in ((), (Stage("rlt", 0, options={"threshold": 0.1}),)):
        with pytest.raises(Misfit, match="vectors medoids: needs a stage"):
            check_cell(tiny_cell(model=Model("tiny", stages=stages, vectors="medoids")))


def test_bytes_of_an_index_and_operations_are_those_of_the_vectors():
    stage, frames = replace(STAGE, clusters=9), costs.smooth_videos(1, 6, 56)
    for stages, several, count in (
        ((stage,), "mean", 1), ((stage,), "segments", 2), ((stage,), "medoids", 18), ((), "segments", 6),
    ):  # fmt: skip
        model = Model("tiny", stages=stages, vectors=several)
        built = build(model, 0).eval()
        vectors = built.video_vectors(frames)
        assert vectors.half().nbytes == operations.index_bytes(model, 6) == count * 2 * 64
    assert operations.of_video(model, 6) == pytest.approx(1e9 * costs.gflops(built, frames), rel=0.01)


def test_the_overlay_has_three_seeds_of_each_way():
    config = read_config([*recall.OVERLAYS, REPOSITORY / "config/vectors.yaml"])
    cells = [resolve.cell(config, "shapes", name) for name in resolve.cell_names(config, "shapes")]
    for cell in cells:
        check_cell(cell)
    found = {cell.variant: (cell.model.vectors, operations.index_bytes(cell.model, 6) // 128) for cell in cells}
    assert len(cells) == 15 and found == {
        "baseline": ("mean", 1),
        "baseline-segments": ("segments", 6),
        "kmedoids": ("mean", 1),
        "kmedoids-segments": ("segments", 2),
        "kmedoids-medoids": ("medoids", 98),
    }
