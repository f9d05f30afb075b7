"""Intervals and tests of retrieval metrics, by resampling videos with all their captions.

The queries of one video are not independent, so whole videos are drawn, with replacement, the same for both directions.
All metrics of a draw come from one product: how often each video is drawn [R, V] times how often each video has each
rank [V, K], a sparse matrix.
"""

from collections.abc import Iterator, Sequence
from math import ceil, hypot, sqrt
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import stdtrit

from centerclip.evaluate.ranks import DIRECTIONS, Ranks, paired

DRAWS = 10_000
CHUNK = 1 << 20  # numbers drawn at a time
LEVEL = 0.95
RECALLS = (1, 5, 10)
SCORES = tuple(f"{short} {metric}" for short in DIRECTIONS.values() for metric in (*map("R@{}".format, RECALLS), "MdR"))
R_SUM = "R-sum"  # of both directions' recalls
Histograms = list[tuple[np.ndarray, list]]  # a direction: the ranks [K] that occur, how often: S times [K, V], sparse


class Estimate(NamedTuple):
    """A metric or a difference of metrics, with its uncertainty.

    value: the mean over seeds. low, high: its 95 % interval over queries. p: the probability of a difference as large
    between equal models; nan for a metric. seeds, queries, videos: their numbers. seeds_std: the standard deviation of
    the value over seeds; nan for one seed.
    """

    value: float
    low: float
    high: float
    p: float
    seeds: int
    seeds_std: float
    queries: int
    videos: int

    def __format__(self, numbers: str) -> str:
        """The value and its interval over queries, such as 44.1 [41.0, 47.2] for `.1f`."""
        return f"{self.value:{numbers}} [{self.low:{numbers}}, {self.high:{numbers}}]"

    @property
    def half(self) -> float:
        """Half the 95 % interval over queries and seeds, taken as independent."""
        return hypot((self.high - self.low) / 2, seeds_half(self.seeds_std, self.seeds))

    @property
    def told(self) -> bool:
        """Whether the value differs from 0 by more than `half`."""
        return abs(self.value) > self.half

    def enough(self) -> tuple[int, ...] | None:
        """The numbers of queries and seeds that would tell the value from 0, as in the function `enough`."""
        return enough(self.value, self.half, self.queries, self.seeds)


def seeds_half(std: float, seeds: float) -> float:
    """Half the 95 % interval of a mean over seeds, by Student's t; 0 for one seed, whose noise is not known."""
    return float(stdtrit(seeds - 1, (1 + LEVEL) / 2)) * std / sqrt(seeds) if seeds > 1 else 0.0


def enough(distance: float, half: float, *counts: int) -> tuple[int, ...] | None:
    """Today's `counts` times the factor that shrinks `half` an interval to `distance`. None if `distance` is 0."""
    if distance == 0:
        return None
    factor = max(1.0, (half / distance) ** 2)
    return tuple(ceil(factor * count) for count in counts)


def estimates(trainings: Sequence[dict[str, Ranks]]) -> dict[str, Estimate]:
    """SCORES and R_SUM of one model with their intervals, from {direction: Ranks} of each of its trainings. Raises
    UserError for trainings with other queries."""
    counts = histograms(trainings)
    drawn = np.concatenate([metrics(counts, draws).mean(0) for draws in resamples(counts)])
    return summarised(measured(counts), drawn, np.full(drawn.shape[1], np.nan), trainings[0])


def differences(
    trainings: Sequence[dict[str, Ranks]],
    baseline: Sequence[dict[str, Ranks]],
    counts: Histograms | None = None,
) -> dict[str, Estimate]:
    """SCORES and R_SUM of one model minus those of its `baseline`. Both answer the same queries, and the n-th training
    is compared with the baseline's n-th. The p-value comes from swapping both models' answers, video by video.
    `counts`: the `histograms` of all `trainings` and then of all of the `baseline`, if they exist already.

    Raises UserError for trainings with other queries, ValueError for lists of different lengths.
    """
    if len(trainings) != len(baseline):
        raise ValueError(f"{len(trainings)} trainings cannot be paired with {len(baseline)} of the baseline")
    counts = counts or histograms([*trainings, *baseline])

    def difference(values: np.ndarray) -> np.ndarray:
        return np.subtract(*np.split(values, 2))

    whole = difference(measured(counts))
    drawn = np.concatenate([difference(metrics(counts, draws)).mean(0) for draws in resamples(counts)])
    return summarised(whole, drawn, exchange(counts, whole.mean(0)), trainings[0])


def histograms(trainings: Sequence[dict[str, Ranks]]) -> Histograms:
    """How often each video has each rank, in each direction and training."""
    found = []
    for direction in DIRECTIONS:
        ranked = paired(trainings, direction)
        video = np.unique(ranked[0].videos, return_inverse=True)[1]
        values, places = np.unique([training.rank for training in ranked], return_inverse=True)
        once, shape = np.ones(len(video), np.float32), (len(values), video.max() + 1)
        rows = places.reshape(len(trainings), -1)
        counts = [sparse.csr_array((once, (row, video)), shape) for row in rows]  # which adds equal places up
        found.append((values, counts))
    return found


def videos_of(counts: Histograms) -> int:
    """The number of videos."""
    return counts[0][1][0].shape[1]


def measured(counts: Histograms) -> np.ndarray:
    """SCORES and R_SUM [S, M] of each training."""
    return metrics(counts, np.ones((1, videos_of(counts)), np.float32))[:, 0]


def metrics(counts: Histograms, weights: np.ndarray) -> np.ndarray:
    """SCORES and R_SUM [S, R, M] of each training, where each video counts `weights` [R, V] times."""
    products = [(values, [(ranked @ weights.T).T for ranked in trainings]) for values, trainings in counts]
    return with_sum([scores(values, np.stack(found)) for values, found in products])


def scores(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """R@k of RECALLS in per cent, and the median rank: [..., 4] of `counts` [..., K] of the ranks `values` [K]."""
    within = counts.cumsum(-1)
    total = within[..., -1:]
    up_to = np.searchsorted(values, RECALLS, side="right")
    found = np.concatenate([np.zeros_like(total), within], -1)[..., up_to]
    recalls = 100 * found.astype(float) / total  # whose division float32 would round
    middle = [(within <= place).sum(-1) for place in ((total - 1) // 2, total // 2)]
    return np.concatenate([recalls, values[middle].mean(0)[..., None]], -1)


def with_sum(directions: list[np.ndarray]) -> np.ndarray:
    """SCORES and R_SUM [..., M] of `scores` of each direction."""
    recalls = sum(found[..., :-1].sum(-1, keepdims=True) for found in directions)
    return np.concatenate([*directions, recalls], -1)


def resamples(counts: Histograms) -> Iterator[np.ndarray]:
    """How often each video is drawn in DRAWS resamples, the same in every call: arrays float32 [R, V]."""
    generator, videos = np.random.default_rng(0), videos_of(counts)
    even = np.full(videos, 1 / videos)
    return (generator.multinomial(videos, even, size).astype(np.float32) for size in chunks(videos))


def chunks(videos: int) -> list[int]:
    """DRAWS in parts that are drawn together."""
    most = max(1, CHUNK // videos)
    return [min(most, DRAWS - begun) for begun in range(0, DRAWS, most)]


def exchange(counts: Histograms, difference: np.ndarray) -> np.ndarray:
    """The p-values [M] of a `difference` [M] between the first and the second half of the trainings: the share of
    random swaps of the two models' answers, video by video, with a difference at least as large."""
    generator, larger, videos = np.random.default_rng(0), np.ones(len(difference)), videos_of(counts)
    for size in chunks(videos):
        signs = generator.choice(np.array([-1, 1], np.float32), (size, videos))
        halves = []
        for values, both in counts:
            pairs = list(zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True))
            same = np.stack([(own + other).sum(1)[None] for own, other in pairs])
            turned = np.stack([((own - other) @ signs.T).T for own, other in pairs])
            halves.append([scores(values, (same + turned) / 2), scores(values, (same - turned) / 2)])
        own, other = map(with_sum, zip(*halves, strict=True))
        larger += (np.abs((own - other).mean(0)) >= np.abs(difference) - 1e-6).sum(0)
    return larger / (DRAWS + 1)


def summarised(
    whole: np.ndarray, drawn: np.ndarray, p_values: np.ndarray, training: dict[str, Ranks]
) -> dict[str, Estimate]:
    """An Estimate for each of SCORES and R_SUM, of `whole` [S, M] as measured and `drawn` [DRAWS, M]."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    seeds, spread = len(whole), whole.std(0, ddof=1) if len(whole) > 1 else np.full(whole.shape[1], np.nan)
    sizes = [len(training[direction].queries) for direction in DIRECTIONS for _ in (*RECALLS, "MdR")]
    videos = len(training["video_to_text"].queries)
    columns = zip(whole.mean(0), low, high, p_values, spread, [*sizes, sum(sizes[::4])], strict=True)
    return {
        name: Estimate(*map(float, (value, *interval, p)), seeds, float(std), queries, videos)
        for name, (value, *interval, p, std, queries) in zip((*SCORES, R_SUM), columns, strict=True)
    }
