"""Read vectors that another program wrote as .npz."""

import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from centerclip.command import UserError, first_line

UNIT = 1e-3  # how far from 1 the length of a unit vector may be


def read(file: Path, group_equal_videos: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `retrieval_metrics`: `texts [T, E]`, `videos [V, E]` or `[V, k, E]`, `video_of_text [T]`.

    The file may have a `mask [V, k]`, false for padding; vectors of zeros are padding, too. With `group_equal_videos`
    equal videos become one. Notes on stderr name equal videos and vectors that are not of unit length. Raises UserError
    for another file, or for arrays that do not fit each other, are empty or not finite.
    """
    try:
        with open(file, "rb") as opened, np.load(opened) as stored:
            texts, videos, truth = (np.asarray(stored[name]) for name in ("texts", "videos", "video_of_text"))
            mask = np.asarray(stored["mask"]) if "mask" in stored else None
    except KeyError as error:
        raise UserError(f"{file}: {first_line(error)}; it needs texts, videos and video_of_text") from None
    except Exception as error:  # zipfile and numpy raise nearly anything for damaged files
        if isinstance(error, OSError) and error.filename:
            raise  # the file cannot be opened
        raise UserError(f"{file}: not a whole .npz of numbers") from None
    if mask is not None:
        if mask.dtype != bool or videos.ndim != 3 or mask.shape != videos.shape[:2]:
            kind = f"{mask.dtype} {list(mask.shape)}"
            raise UserError(f"{file}: mask must have true or false for each of videos [V, k, E], not {kind}")
        videos = np.where(mask[..., None], videos, 0)
    texts, videos = vectors(file, "texts", texts, 2), vectors(file, "videos", videos, 2, 3)
    if videos.ndim == 3 and not videos.any((1, 2)).all():
        raise UserError(f"{file}: videos has a video whose vectors are all masked or zero")
    if texts.shape[1] != videos.shape[-1]:
        raise UserError(f"{file}: texts have {texts.shape[1]} numbers each and videos {videos.shape[-1]}")
    if truth.shape != texts.shape[:1] or truth.dtype.kind not in "iu":
        raise UserError(f"{file}: video_of_text must be one whole number a text, not {truth.dtype} {list(truth.shape)}")
    if truth.min() < 0 or truth.max() >= len(videos):
        raise UserError(f"{file}: video_of_text has {truth.min()} to {truth.max()} for videos 0 to {len(videos) - 1}")
    digests = [blake2b(video.tobytes()).digest() for video in videos + 0.0]  # -0 equals 0
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
    group_of_video = np.array([numbers[digest] for digest in digests])
    if group_equal_videos:
        videos, truth = videos[np.unique(group_of_video, return_index=True)[1]], group_of_video[truth]
    elif len(numbers) < len(videos):
        note(
            f"{file}: the {len(videos)} rows of videos are {len(numbers)} different ones, and an equal row counts as a"
            " wrong answer; if equal rows are one video, --group-equal-videos counts it once"
        )
    return torch.from_numpy(texts), torch.from_numpy(videos), torch.from_numpy(truth.astype(np.int64))


def vectors(file: Path, name: str, given: np.ndarray, *dimensions: int) -> np.ndarray:
    """The vectors `given`, of one of these numbers of `dimensions`, as finite float32."""
    if given.ndim not in dimensions or not given.size or given.dtype.kind not in "fiu":
        shapes = " or ".join(f"{number}-D" for number in dimensions)
        raise UserError(f"{file}: {name} must be a {shapes} array of numbers, not {given.dtype} {list(given.shape)}")
    with np.errstate(over="ignore"):  # too large for float32 is not finite, either
        matrix = given.astype(np.float32)
        lengths = np.linalg.norm(matrix, axis=-1)
    if not np.isfinite(lengths).all():
        raise UserError(f"{file}: {name} has numbers that are too large or not finite")
    if np.abs(lengths[lengths > 0] - 1).max(initial=0) > UNIT:
        note(f"{name} are not of unit length: similarities are inner products, no cosines")
    return matrix


def note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
