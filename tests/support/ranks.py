"""Ranks of made-up models."""

import numpy as np

from centerclip.evaluate.ranks import Ranks


def answered(found, captions=1, backwards=None):
    """{direction: Ranks} of captions with the ranks `found` [T], so many a video, and of videos `backwards` [V]."""
    found = np.asarray(found, np.int32)
    videos = np.array([f"v{index}" for index in range(len(found) // captions)])
    backwards = np.ones(len(videos), np.int32) if backwards is None else np.asarray(backwards, np.int32)
    right = videos.repeat(captions)
    texts = np.array([f"c{index}" for index in range(len(found))])
    return {
        "text_to_video": Ranks(texts, right, found, found, found, right),
        "video_to_text": Ranks(videos, videos, backwards, backwards, backwards, videos),
    }


def metrics_of(ranks: dict[str, Ranks]) -> dict:
    """The metrics of a result by numpy, in both counts, from the ranks of its queries."""

    def summary(found, median) -> dict:
        recalls = {f"R@{k}": 100 * np.mean(found <= k) for k in (1, 2, 5, 10, 20, 50, 100)}
        return recalls | {"MdR": median(found), "MnR": np.mean(found)}

    def lower_median(found) -> float:
        return float(np.sort(found)[(len(found) - 1) // 2])

    ours = {direction: summary(found.rank, np.median) for direction, found in ranks.items()}
    published = {}
    for direction, found in ranks.items():
        positions = [np.arange(first, last + 1) for first, last in zip(found.first, found.last, strict=True)]
        published[direction] = summary(np.concatenate(positions), lower_median)
    return ours | {"published": published}
