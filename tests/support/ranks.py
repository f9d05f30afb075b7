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
