"""Intervals and tests against closed forms, scipy and simulations; the file of ranks."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from support.ranks import answered

from centerclip.command import UserError
from centerclip.evaluate import ranks, statistics
from centerclip.evaluate.ranks import Ranks
from centerclip.evaluate.statistics import differences, estimates


def hits(generator, share, count=1000):
    """Ranks, 1 for a `share` of `count` queries and 20 for the others."""
    return np.where(generator.random(count) < share, 1, 20)


def test_values_are_the_metrics_themselves():
    model = answered([1, 2, 6, 11], backwards=[1, 3, 1, 12])
    values = {name: found.value for name, found in estimates([model]).items()}
    assert values == {
        **{"t2v R@1": 25, "t2v R@5": 50, "t2v R@10": 75, "t2v MdR": 4},
        **{"v2t R@1": 50, "v2t R@5": 75, "v2t R@10": 75, "v2t MdR": 2, "R-sum": 350},
    }


def test_recall_has_the_interval_of_a_binomial():
    found = estimates([answered(hits(np.random.default_rng(0), 0.44))])["t2v R@1"]
    half = 100 * norm.ppf(0.975) * np.sqrt(found.value / 100 * (1 - found.value / 100) / 1000)
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), abs=0.15)
    assert (found.queries, found.videos, found.seeds) == (1000, 1000, 1)


def test_a_difference_has_the_interval_and_the_p_value_of_mcnemar():
    """With b queries that only one model finds and c that only the other does, of n."""
    generator = np.random.default_rng(1)
    one, other = hits(generator, 0.45), hits(generator, 0.41)
    found = differences([answered(one)], [answered(other)])["t2v R@1"]
    b, c, n = ((one == 1) & (other != 1)).sum(), ((one != 1) & (other == 1)).sum(), 1000
    half = 100 * norm.ppf(0.975) * np.sqrt((b + c - (b - c) ** 2 / n) / n**2)
    assert found.value == pytest.approx(100 * (b - c) / n)
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=0.15)
    assert found.p == pytest.approx(binomtest(b, b + c).pvalue, abs=0.02)


@pytest.mark.slow
@pytest.mark.soak
def test_intervals_cover_the_truth_in_93_to_97_of_100_simulations(monkeypatch):
    """Of two captions a video, which are found together more often than apart."""
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    generator, share, covered = np.random.default_rng(3), 0.3, 0
    for _ in range(800):
        skills = [generator.beta(4 * share, 4 * (1 - share), (80, 1)) for _ in range(2)]
        one, other = (np.where(generator.random((80, 2)) < skill, 1, 20).ravel() for skill in skills)
        found = differences([answered(one, 2)], [answered(other, 2)])["t2v R@1"]
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 800 <= 0.97


def test_a_caption_given_20_times_tells_no_more_than_once():
    found = hits(np.random.default_rng(4), 0.3, 200)
    once, often = (estimates([answered(found.repeat(captions), captions)])["t2v R@1"] for captions in (1, 20))
    assert (often.value, often.low, often.high) == (once.value, once.low, once.high)


def test_medians_of_draws_are_numpys():
    generator = np.random.default_rng(5)
    model = answered(generator.integers(1, 9, 60), 3)
    draws = generator.multinomial(20, np.full(20, 1 / 20), 50).astype(np.float32)
    found = statistics.metrics(statistics.histograms([model]), draws)[0, :, statistics.SCORES.index("t2v MdR")]
    video = np.unique(model["text_to_video"].videos, return_inverse=True)[1]
    expected = [np.median(model["text_to_video"].rank.repeat(draw.astype(int)[video])) for draw in draws]
    assert found.tolist() == expected


def test_queries_are_paired_by_name_and_not_by_order():
    generator = np.random.default_rng(6)
    one, other = (answered(hits(generator, 0.4, 90), 3) for _ in range(2))
    order = generator.permutation(90)
    mixed = one | {"text_to_video": Ranks(*(array[order] for array in one["text_to_video"]))}
    found, expected = (differences([model], [other]) for model in (mixed, one))
    assert [estimate[:4] for estimate in found.values()] == [estimate[:4] for estimate in expected.values()]


def test_other_queries_do_not_compare():
    with pytest.raises(UserError, match="text_to_video: the queries are not the same"):
        differences([answered([1, 2])], [answered([1, 2, 3])])


def test_the_noise_of_seeds_stands_apart():
    trainings = [answered(np.repeat([1, 20], [found, 100 - found])) for found in (40, 44, 48)]
    found = estimates(trainings)["t2v R@1"]
    assert (found.value, found.seeds, found.seeds_std) == (44, 3, 4)
    over_seeds = 4.3027 * 4 / np.sqrt(3)  # Student's t of 2 degrees
    assert found.half == pytest.approx(np.hypot((found.high - found.low) / 2, over_seeds), rel=1e-4)
    one = estimates(trainings[:1])["t2v R@1"]
    assert np.isnan(one.seeds_std) and one.half == (one.high - one.low) / 2


def test_a_quarter_of_the_difference_needs_16_times_as_many_queries_and_seeds():
    found = statistics.Estimate(1.0, -3.0, 5.0, 0.5, 1, np.nan, 1000, 1000)
    assert found.enough() == (16_000, 16) and not found.told
    assert found._replace(value=0.0).enough() is None
    assert found._replace(value=8.0).enough() == (1000, 1) and found._replace(value=8.0).told


def test_a_file_of_ranks_is_read_as_it_was_written(tmp_path):
    model = answered([1, 2, 3, 4], 2, [2, 1])
    ranks.write(tmp_path / "a.ranks.npz", model)
    again = ranks.read(tmp_path / "a.ranks.npz")
    assert list(again) == list(model)
    for direction, found in model.items():
        for one, other in zip(found, again[direction], strict=True):
            np.testing.assert_array_equal(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ranks.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_to_video/rank": np.array([0, 1])}, "a rank is less than 1"),
        ({"text_to_video/rank": np.array([1])}, "rank must be one whole number a query"),
        ({"text_to_video/rank": np.array(["1", "2"])}, "rank must be one whole number a query"),
        ({"video_ids": np.array([{}, {}], object)}, "not a whole file of ranks"),
        ({"caption_ids": np.array(["c0", "c0"])}, "a query is there twice"),
        ({"video_ids": np.array(["v0", "v9"])}, "video_ids are not the videos of the captions"),
    ],
)
def test_a_damaged_file_of_ranks_is_one_line(tmp_path, change, message):
    file = tmp_path / "a.ranks.npz"
    ranks.write(file, answered([1, 2]))
    np.savez(file, **dict(np.load(file)) | change)
    with pytest.raises(UserError, match=f"^{file}.*{message}"):
        ranks.read(file)
