"""Vectors that another program made, as the metrics take them."""

import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from centerclip.command import UserError, first_line

UNIT = 1e-3  # how far from 1 the length of a unit vector may be


def read(file: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics` in a .npz: `texts [T, E]`, `videos [V, E]`, of any type of real numbers, and
    `video_of_text [T]`, whole numbers from 0. What is not of unit length is told on stderr.

    Raises:
        UserError: another file, or arrays that do not fit each other, are empty or not finite.
    """
    try:
        with np.load(file) as stored:
            texts, videos, truth = (stored[name] for name in ("texts", "videos", "video_of_text"))
    except KeyError as error:
        raise UserError(f"{file}: {first_line(error)}; it needs texts, videos and video_of_text") from None
    except (ValueError, EOFError, BadZipFile, TypeError, AttributeError):
        raise UserError(f"{file}: not a whole .npz of numbers") from None
    for name, vectors in (("texts", texts), ("videos", videos)):
        if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
            raise UserError(f"{file}: {name} {list(vectors.shape)} {vectors.dtype} is no matrix of vectors")
        if not np.isfinite(vectors).all():
            raise UserError(f"{file}: {name} has numbers that are not finite")
        if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > UNIT:
            print(f"note: {name} are not of unit length: similarities are inner products, no cosines", file=sys.stderr)
    if texts.shape[1] != videos.shape[1]:
        raise UserError(f"{file}: texts have {texts.shape[1]} numbers each and videos {videos.shape[1]}")
    if truth.shape != texts.shape[:1] or truth.dtype.kind not in "iu":
        raise UserError(f"{file}: video_of_text {list(truth.shape)} {truth.dtype} is not a whole number a text")
    if truth.min() < 0 or truth.max() >= len(videos):
        raise UserError(f"{file}: video_of_text has {truth.min()} to {truth.max()} for videos 0 to {len(videos) - 1}")
    vectors = (torch.from_numpy(vectors.astype(np.float32)) for vectors in (texts, videos))
    return *vectors, torch.from_numpy(truth.astype(np.int64))
