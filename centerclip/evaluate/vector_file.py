"""A file of vectors that another program made -> the arguments of the metrics."""

import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from centerclip.command import UserError, first_line

UNIT = 1e-3  # how far from 1 the length of a unit vector may be


def read(file: Path, group_equal_videos: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics` in a .npz: `texts [T, E]`, `videos [V, E]`, real numbers, and `video_of_text
    [T]`, whole numbers from 0; with `group_equal_videos` equal videos become one, the first of them. Notes on stderr
    equal videos and vectors that are not of unit length.

    Raises:
        UserError: another file, or arrays that do not fit each other, are empty or not finite.
    """
    texts, videos, truth = arrays(file)
    if texts.shape[1] != videos.shape[1]:
        raise UserError(f"{file}: texts have {texts.shape[1]} numbers each and videos {videos.shape[1]}")
    if truth.shape != texts.shape[:1] or truth.dtype.kind not in "iu":
        raise UserError(f"{file}: video_of_text {list(truth.shape)} {truth.dtype} is not a whole number a text")
    if truth.min() < 0 or truth.max() >= len(videos):
        raise UserError(f"{file}: video_of_text has {truth.min()} to {truth.max()} for videos 0 to {len(videos) - 1}")
    firsts, group_of_video = equal_rows(videos)
    if group_equal_videos:
        videos, truth = videos[firsts], group_of_video[truth]
    elif len(firsts) < len(videos):
        note(
            f"{file}: the {len(videos)} rows of videos are {len(firsts)} different ones, and an equal row counts as a"
            " wrong answer; if equal rows are one video, --group-equal-videos counts it once"
        )
    return torch.from_numpy(texts), torch.from_numpy(videos), torch.from_numpy(truth.astype(np.int64))


def arrays(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The texts and the videos, finite float32 matrices, and video_of_text as it is. Raises UserError as `read`."""
    try:
        with open(file, "rb") as opened, np.load(opened) as stored:
            texts, videos, truth = (np.asarray(stored[name]) for name in ("texts", "videos", "video_of_text"))
    except KeyError as error:
        raise UserError(f"{file}: {first_line(error)}; it needs texts, videos and video_of_text") from None
    except Exception as error:  # zipfile and numpy raise about anything of damaged files
        if isinstance(error, OSError) and error.filename:
            raise  # the file cannot be opened
        raise UserError(f"{file}: not a whole .npz of numbers") from None
    return vectors(file, "texts", texts), vectors(file, "videos", videos), truth


def vectors(file: Path, name: str, given: np.ndarray) -> np.ndarray:
    """The vectors `given` as a finite float32 matrix. Raises UserError."""
    if given.ndim != 2 or not given.size or given.dtype.kind not in "fiu":
        raise UserError(f"{file}: {name} must be a 2-D array of numbers [T, E], not {given.dtype} {list(given.shape)}")
    with np.errstate(over="ignore"):  # too large for float32 is not finite, either
        matrix = given.astype(np.float32)
        lengths = np.linalg.norm(matrix, axis=1)
    if not np.isfinite(lengths).all():
        raise UserError(f"{file}: {name} has numbers that are not finite")
    if np.abs(lengths - 1).max() > UNIT:
        note(f"{name} are not of unit length: similarities are inner products, no cosines")
    return matrix


def equal_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the rows of a float matrix that no earlier row equals, and for each row which of them it equals."""
    found = {}
    groups = [found.setdefault(blake2b(row.tobytes()).digest(), len(found)) for row in matrix + 0.0]  # -0 equals 0
    return np.unique(groups, return_index=True)[1], np.array(groups)


def note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
