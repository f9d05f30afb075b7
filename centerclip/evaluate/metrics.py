"""Compute retrieval metrics from unit vectors. Memory does not grow with texts x videos."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from centerclip.command import UserError
from centerclip.evaluate.ranks import Ranks
from centerclip.method.maxsim import maxsim_in_parts

CHUNK = 256  # queries ranked at a time
AT_A_TIME = 1 << 24  # numbers, of similarities to the vectors of videos that have several
RECALLED = (1, 2, 5, 10, 20, 50, 100)  # the k of R@k: the paper has 1, 5 and 10
PATIENCE = 5  # s of ranking without a progress bar


class Answers(NamedTuple):
    """The answers to the queries of one direction: [Q] int64 each.

    rank: of the right candidate, from 1; ties are ranked before it. first, last: the ranks, both included, that the
    authors' code counts, each as a query. best: the candidate ranked first.
    """

    rank: Tensor
    first: Tensor
    last: Tensor
    best: Tensor


def better_and_equal(similarity: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """How many candidates of similarity [Q, C] are above candidate truth[q], and how many equal it, itself included:
    [Q] int64 each."""
    right = similarity.gather(1, truth[:, None])
    better, equal = (found.sum(1, dtype=torch.int32) for found in (similarity > right, similarity == right))
    return better.long(), equal.long()


def ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """The rank, from 1, of candidate truth[q] in row q of similarity [Q, C]: [Q] int64. Ties are ranked before it."""
    return sum(better_and_equal(similarity, truth))


def equal_before(similarity: Tensor, truth: Tensor) -> Tensor:
    """How many candidates of similarity [Q, C] equal candidate truth[q] and have a lower index: [Q] int64."""
    right, index = similarity.gather(1, truth[:, None]), torch.arange(similarity.shape[1], device=truth.device)
    return ((similarity == right) & (index < truth[:, None])).sum(1)


def authors_counts(first: Tensor, last: Tensor, candidates: int) -> Tensor:
    """How often each rank, from 1, occurs as the authors' code counts: [candidates] int64. It counts every tied
    position, from `first` to `last`, as a separate query: the ranks 2, 3 and 4 for three equal candidates after a
    better one."""
    begun, ended = (torch.bincount(places, minlength=candidates + 1) for places in (first - 1, last))
    return (begun - ended).cumsum(0)[:candidates]


def best(similarity: Tensor, truth: Tensor) -> Tensor:
    """The candidate of similarity [Q, C] that is ranked first: [Q] int64. As ties are ranked before truth[q], truth[q]
    is first only above all others. Of equal others, the lowest index is first."""
    right = similarity.gather(1, truth[:, None])
    other = similarity.scatter(1, truth[:, None], -torch.inf).max(1)
    return torch.where(right[:, 0] > other.values, truth, other.indices)


def summary(counts: Tensor, lower_median: bool = False) -> dict[str, float]:
    """R@k in per cent for each k, median rank (MdR; the mean of the middle two, or the lower of them) and mean rank
    (MnR), from how often each rank, from 1, occurs: int64 [C]."""
    within = counts.cumsum(0)  # how many ranks are up to each
    total = within[-1].item()
    recalls = {f"R@{k}": 100 * (counts[:k].sum().item() / total) for k in RECALLED}
    middle = within.new_tensor([(total - 1) // 2] if lower_median else [(total - 1) // 2, total // 2])
    median = torch.searchsorted(within, middle, right=True).double().mean().item() + 1
    mean = (counts * torch.arange(1, len(counts) + 1, device=counts.device)).sum().item() / total
    return recalls | {"MdR": median, "MnR": mean}


def retrieval_metrics(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict:
    """The `metrics` of the `answers` to all texts and videos."""
    return metrics(answers(texts, videos, video_of_text), len(videos))


def answers(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict[str, Answers]:
    """The answers to the queries of both directions.

    Text to video: every text is a query among all videos. Video to text: every video that has texts is a query, in the
    order of the videos, among the videos' sets of texts; the most similar text of a set counts, as in the paper's MSVD.
    If videos have several texts, the authors' code counts one rank a text, with equal videos in their order.

    Args:
        texts: [T, E] float unit vectors. videos: [V, E] float unit vectors, or [V, k, E], as `maxsim` takes them.
        video_of_text: [T] int64, the video that each text describes. Videos with no text are only candidates.

    Returns:
        {"text_to_video": of T queries, "video_to_text": of the captioned videos}, on the vectors' device.

    Raises:
        UserError: a vector that is not finite.
    """
    for name, vectors in {"captions": texts, "videos": videos}.items():
        if not vectors.isfinite().all():
            raise UserError(f"vectors of {name} are not finite; set evaluation.precision: float32 or check the weights")
    if videos.ndim == 3 and videos.shape[1] == 1:
        videos = videos[:, 0]
    mask = None if videos.ndim == 2 else videos.any(-1)

    def of_texts(chunk: Tensor) -> tuple[Tensor, Tensor]:
        asked = texts[chunk]
        similarity = asked @ videos.T if mask is None else maxsim_in_parts(videos, asked, mask, AT_A_TIME).T
        return similarity, video_of_text[chunk]

    def of_videos(chunk: Tensor) -> tuple[Tensor, Tensor]:
        asked = videos[chunk]
        similarity = asked @ texts.T if mask is None else maxsim_in_parts(asked, texts, mask[chunk], AT_A_TIME)
        closest = similarity.new_full((len(chunk), len(videos)), -torch.inf)
        return closest.scatter_reduce_(1, video_of_text.expand_as(similarity), similarity, "amax"), chunk

    # Two passes: equal similarities of a query are rounded equally only in one product
    captioned = video_of_text.unique()
    queries = {
        "text_to_video": (of_texts, torch.arange(len(texts), device=texts.device)),
        "video_to_text": (of_videos, captioned),
    }
    several = len(texts) > len(captioned)  # texts of a video
    result = {}
    for direction, (similarities, asked) in queries.items():
        found = asked.new_empty(4, len(asked))  # at once: small tensors between large ones would waste memory
        chunks = list(zip(asked.split(CHUNK), found.split(CHUNK, dim=1), strict=True))
        for chunk, ranked in tqdm(chunks, f"ranks: {direction}", unit="chunk", delay=PATIENCE):
            compared = similarities(chunk)
            better, equal = better_and_equal(*compared)
            first, last = better + 1, better + equal
            if several and direction == "text_to_video":
                first = last = first + equal_before(*compared)
            ranked[:] = torch.stack([better + equal, first, last, best(*compared)])
        result[direction] = Answers(*found)
    return result


def named(
    answers: dict[str, Answers], captions: ArrayLike, video_of_caption: ArrayLike, videos: ArrayLike
) -> dict[str, Ranks]:
    """{direction: Ranks} of the `answers` to captions [T], of videos [T], among videos [V], with their ids."""
    captions, right, videos = (np.asarray(ids).astype(str) for ids in (captions, video_of_caption, videos))
    asked = videos[np.isin(videos, right)]
    queries = {"text_to_video": (captions, right), "video_to_text": (asked, asked)}
    named = {}
    for direction, found in answers.items():
        *numbers, best = (column.cpu().numpy() for column in found)
        named[direction] = Ranks(*queries[direction], *(ranks.astype(np.int32) for ranks in numbers), videos[best])
    return named


def numbered(answers: dict[str, Answers], video_of_text: Tensor, videos: int) -> dict[str, Ranks]:
    """{direction: Ranks} of the `answers` to texts among so many videos. Ids are numbers from 0."""
    return named(answers, range(len(video_of_text)), video_of_text, range(videos))


def metrics(answers: dict[str, Answers], candidates: int) -> dict:
    """{"text_to_video": summary, "video_to_text": summary, "published": the same as the authors' code counts
    (`authors_counts`, the lower median), "n_texts": T, "n_videos": V}, from the answers among so many videos."""
    as_authors = {
        direction: summary(authors_counts(found.first, found.last, candidates), lower_median=True)
        for direction, found in answers.items()
    }
    ours = {direction: summary(torch.bincount(found.rank - 1)) for direction, found in answers.items()}
    return ours | {"published": as_authors, "n_texts": len(answers["text_to_video"].rank), "n_videos": candidates}
