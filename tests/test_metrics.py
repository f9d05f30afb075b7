"""Metrics against hand-worked ranks and against plain Python loops."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centerclip.command import UserError
from centerclip.evaluate import metrics
from centerclip.evaluate.metrics import authors_counts, better_and_equal, ranks, retrieval_metrics, summary


def test_hand_worked_ranks_in_both_counts():
    """The authors' code counts every tied position: 1; 2; 1, 2 and 3; 2 and 3 after a better one."""
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.9, 0.3, 0.3]])
    truth = torch.tensor([0, 1, 1, 2])
    better, equal = better_and_equal(similarity, truth)
    assert authors_counts(better + 1, better + equal, 3).tolist() == [2, 3, 2]
    assert ranks(similarity, truth).tolist() == [1, 2, 3, 3]


def test_where_a_video_has_several_captions_each_is_published_with_one_rank():
    """Videos 0 and 1 are equal, and video 2 is another. Of two captions of video 1, one of 0 and one of 2, all found:
    the lower index goes first, so video 1's are second. Against the query video 0's is second too."""
    videos = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    truth = torch.tensor([1, 1, 0, 2])
    result = retrieval_metrics(videos[truth], videos, truth)
    assert result["text_to_video"]["R@1"] == 25
    assert result["published"]["text_to_video"]["R@1"] == 50 and result["published"]["text_to_video"]["MnR"] == 1.5
    # video to text every tied place counts: the sets of 0 and 1 at 1 and 2 of both, that of 2 at 1
    assert result["published"]["video_to_text"]["R@1"] == pytest.approx(100 * 3 / 5)


def small_integers(generator, n_texts, n_videos, width):
    """Texts, videos and truth with many ties, every sum exact."""
    vectors = [torch.randint(1 - width, width, (n, width), generator=generator).float() for n in (n_texts, n_videos)]
    return *vectors, torch.randint(n_videos, (n_texts,), generator=generator)


def by_double_argsort(similarity: np.ndarray, truth: list[int]) -> list[int]:
    """The rank, from 1, of candidate truth[q] in row q, by sorting twice: one a query."""
    order = np.argsort(-similarity, axis=1, kind="stable")
    return [int(np.argsort(row)[right]) + 1 for row, right in zip(order, truth, strict=True)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 30))
def test_published_text_to_video_of_several_captions_is_the_double_argsort_and_of_one_every_tied_place(
    seed, n_videos, n_texts
):
    generator = torch.Generator().manual_seed(seed)
    texts, videos, truth = small_integers(generator, n_texts, n_videos, 2)
    similarity = (texts @ videos.T).numpy()
    expected = by_double_argsort(similarity, truth.tolist())
    if n_texts == len(truth.unique()):
        places = [enumerate(sorted(row, reverse=True), 1) for row in similarity]
        expected = [place for q, row in enumerate(places) for place, value in row if value == similarity[q][truth[q]]]
    published = retrieval_metrics(texts, videos, truth)["published"]["text_to_video"]
    assert published["MnR"] == pytest.approx(np.mean(expected))
    assert published["MdR"] == sorted(expected)[(len(expected) - 1) // 2]  # the lower of the middle two
    assert published["R@1"] == pytest.approx(100 * np.mean([rank == 1 for rank in expected]))


def test_hand_worked_summary():
    recalls = {"R@1": 25.0, "R@2": 50.0, "R@5": 50.0, "R@10": 75.0, "R@20": 100.0, "R@50": 100.0, "R@100": 100.0}
    counts = torch.bincount(torch.tensor([1, 2, 6, 11]) - 1)
    assert summary(counts) == recalls | {"MdR": 4.0, "MnR": 5.0}
    assert summary(counts, lower_median=True) == recalls | {"MdR": 2.0, "MnR": 5.0}


@pytest.mark.parametrize("count", [20, 5000])  # as published 5,000 queries have 25 million ranks
def test_a_model_that_tells_nothing_apart_scores_nothing(count):
    same = torch.ones(count, 4) / 2
    result = retrieval_metrics(same, same, torch.arange(count))
    for direction in ("text_to_video", "video_to_text"):
        recalls = {f"R@{k}": 100.0 if k >= count else 0.0 for k in (1, 2, 5, 10, 20, 50, 100)}
        assert result[direction] == recalls | {"MdR": count, "MnR": count}
        published = result["published"][direction]
        assert (published["MdR"], published["MnR"]) == (count / 2, (count + 1) / 2)  # of the ranks 1 to `count`


def test_several_captions_a_video_hand_worked():
    """Three videos; video 0 has two captions, one good and one that looks like video 1; video 2 has none."""
    videos = torch.eye(3)
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    result = retrieval_metrics(texts, videos, torch.tensor([0, 0, 1]))
    # texts: caption 0 finds video 0 first, caption 1 second, caption 2 finds video 1 second (behind video 2)
    assert result["text_to_video"]["MnR"] == pytest.approx((1 + 2 + 2) / 3)
    # video 0: its best caption 1.0 beats video 1's 0.0; video 1: video 0's caption (0.8) beats its own (0.6)
    assert result["video_to_text"]["MnR"] == pytest.approx((1 + 2) / 2)
    assert (result["n_texts"], result["n_videos"]) == (3, 3)


def by_loops(texts, videos, truth):
    similarity = [[float(t @ v) for v in videos] for t in texts]
    found = [sum(row[v] >= row[truth[t]] for v in range(len(videos))) for t, row in enumerate(similarity)]
    described = []
    for video in sorted(set(truth)):
        best = {}
        for t, owner in enumerate(truth):
            best[owner] = max(best.get(owner, -9.0), similarity[t][video])
        described.append(sum(value >= best[video] for value in best.values()))
    return sum(found) / len(found), sum(described) / len(described)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 30))
def test_means_are_the_loops_whatever_the_chunk(seed, n_videos, n_texts):
    generator = torch.Generator().manual_seed(seed)
    texts, videos, truth = small_integers(generator, n_texts, n_videos, 3)
    expected = by_loops(texts, videos, truth.tolist())
    with pytest.MonkeyPatch.context() as patch:
        for chunk in (1, 5, 256):
            patch.setattr(metrics, "CHUNK", chunk)
            result = retrieval_metrics(texts, videos, truth)
            means = result["text_to_video"]["MnR"], result["video_to_text"]["MnR"]
            assert means == pytest.approx(expected)


@pytest.mark.slow
def test_similarities_are_never_all_in_memory():
    """12,000 x 12,000 of them are 576 MB; a process of its own has taken less than half of that for its metrics."""
    code = """
        import resource, torch
        from centerclip.evaluate.metrics import retrieval_metrics
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        retrieval_metrics(torch.eye(300), torch.eye(300), torch.arange(300))
        vectors, before = torch.nn.functional.normalize(torch.randn(12000, 4)), peak()
        retrieval_metrics(vectors, vectors, torch.arange(12000))
        print(peak() - before)"""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0 and float(done.stdout) < 250, done


@pytest.mark.parametrize(("which", "name"), [(0, "captions"), (1, "videos")])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_vectors_that_are_not_finite_are_refused(which, name, bad):
    features = [torch.randn(4, 3), torch.randn(4, 3)]
    features[which][1, 1] = bad
    with pytest.raises(UserError, match=f"vectors of {name} are not finite"):
        retrieval_metrics(*features, torch.arange(4))


def test_a_single_query_is_answered_by_one_video():
    texts, videos, truth = torch.eye(2)[:1], torch.eye(2), torch.tensor([0])
    named = metrics.numbered(metrics.answers(texts, videos, truth), truth, 2)
    assert {direction: found.answer.tolist() for direction, found in named.items()} == {
        "text_to_video": ["0"], "video_to_text": ["0"],
    }  # fmt: skip
