"""Read and write the ranks of a result: the rank of every query, from which intervals and comparisons follow."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from centerclip.command import UserError, atomic

DIRECTIONS = {"text_to_video": "t2v", "video_to_text": "v2t"}
NUMBERS = ("rank", "first", "last")
SUFFIX = ".ranks.npz"


class Ranks(NamedTuple):
    """The ranks and answers of the queries of one direction, one row for each query.

    queries: [Q] ids, of captions or videos. videos: [Q] ids of the right videos. rank, first, last: [Q] int32, and
    answer [Q] ids of the videos ranked first, as in `metrics.Answers`.
    """

    queries: np.ndarray
    videos: np.ndarray
    rank: np.ndarray
    first: np.ndarray
    last: np.ndarray
    answer: np.ndarray


class Flip(NamedTuple):
    """A query that only one of two models answers at rank 1: its id, its right video, both ranks, and the other video
    found."""

    query: str
    video: str
    before: int
    after: int
    wrong: str


def beside(result: Path) -> Path:
    """The path of the ranks that belong to a result's json."""
    return result.with_suffix(SUFFIX)


def write(path: Path, ranks: dict[str, Ranks]) -> None:
    """Write {direction: Ranks} as a .npz that `read` reads."""
    captions = ranks["text_to_video"]
    arrays = {"caption_ids": captions.queries, "video_of_caption": captions.videos}
    arrays["video_ids"] = ranks["video_to_text"].queries
    for direction, found in ranks.items():
        arrays |= {f"{direction}/{name}": getattr(found, name) for name in (*NUMBERS, "answer")}
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read(file: Path | IO[bytes], name: str | None = None) -> dict[str, Ranks]:
    """{direction: Ranks} of a file of ranks, or of an open one called `name`. Raises UserError for another file."""
    name = name or str(file)
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        queries = {
            "text_to_video": (arrays["caption_ids"], arrays["video_of_caption"]),
            "video_to_text": (arrays["video_ids"], arrays["video_ids"]),
        }
        ranks = {
            direction: Ranks(*queries[direction], *(arrays[f"{direction}/{key}"] for key in (*NUMBERS, "answer")))
            for direction in DIRECTIONS
        }
    except FileNotFoundError:
        raise
    except Exception:  # zipfile and numpy raise about anything of damaged files
        raise UserError(f"{name}: not a whole file of ranks, such as results/shapes_kmedoids.ranks.npz") from None
    for direction, found in ranks.items():
        check(found, f"{name}: {direction}")
    if not np.array_equal(np.unique(arrays["video_of_caption"]), np.sort(arrays["video_ids"])):
        raise UserError(f"{name}: video_ids are not the videos of the captions")
    return ranks


def check(ranks: Ranks, where: str) -> None:
    """Raise UserError unless the arrays of a direction have one row for each query, with ranks from 1."""
    count = len(ranks.queries)
    for key, array in ranks._asdict().items():
        kind = "iu" if key in NUMBERS else "U"
        if array.shape != (count,) or array.dtype.kind not in kind or not count:
            raise UserError(f"{where}: {key} must be one {'whole number' if kind == 'iu' else 'text'} a query")
    if ranks.rank.min() < 1 or ranks.first.min() < 1 or (ranks.last < ranks.first).any():
        raise UserError(f"{where}: a rank is less than 1, or last is before first")
    if len(np.unique(ranks.queries)) < count:
        raise UserError(f"{where}: a query is there twice")


def paired(trainings: Sequence[dict[str, Ranks]], direction: str) -> list[Ranks]:
    """The Ranks of one direction of all `trainings`, sorted by the queries' ids. Raises UserError for other queries."""
    orders = [np.argsort(training[direction].queries) for training in trainings]
    both = zip(trainings, orders, strict=True)
    in_order = [Ranks(*(array[order] for array in training[direction])) for training, order in both]
    for ranks in in_order:
        if not all(map(np.array_equal, ranks[:2], in_order[0][:2])):
            raise UserError(f"{direction}: the queries are not the same")
    return in_order


def flips(before: dict[str, Ranks], after: dict[str, Ranks], direction: str) -> tuple[list[Flip], list[Flip]]:
    """The queries gained and lost at rank 1 from `before` to `after`, the largest changes of rank first. Raises
    UserError for other queries."""
    old, new = paired([before, after], direction)

    def changed(first: Ranks, behind: Ranks) -> list[Flip]:
        rows = np.flatnonzero((first.rank == 1) & (behind.rank > 1))
        rows = rows[np.argsort(-behind.rank[rows], kind="stable")]
        columns = old.queries, old.videos, old.rank, new.rank, behind.answer
        return [Flip(*row) for row in zip(*(column[rows].tolist() for column in columns), strict=True)]

    return changed(new, old), changed(old, new)
