"""Retrieval metrics from unit vectors, in memory that does not grow with texts x videos."""

import torch
from torch import Tensor

CHUNK = 256  # queries ranked at a time
RECALLED = (1, 2, 5, 10, 20, 50, 100)  # the k of R@k: the paper has 1, 5 and 10


def ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q] int64: the rank, from 1, of candidate truth[q] among similarity[q]'s ([Q, C]).

    Ties count against the query: every other candidate as similar as the right one is ranked before it, so that a
    model that tells nothing apart scores nothing. -inf stands for a candidate that cannot be retrieved.
    """
    return (similarity >= similarity.gather(1, truth[:, None])).sum(1)


def published_ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q or more] int64: ranks as the authors' code counts them. Arguments are as in `ranks`.

    Where others are as similar as the right candidate, each place that they share is a rank of its own, as if there
    were so many queries more: the ranks 2, 3 and 4 of three candidates behind a better one.
    """
    right = similarity.gather(1, truth[:, None])
    better, equal = (similarity > right).sum(1), (similarity == right).sum(1)
    place = torch.arange(int(equal.sum()), device=equal.device) - (equal.cumsum(0) - equal).repeat_interleave(equal)
    return better.repeat_interleave(equal) + place + 1


def summary(ranks: Tensor) -> dict[str, float]:
    """R@k in per cent for each k, median rank (MdR; the mean of the middle two) and mean rank (MnR) of ranks [Q]."""
    ranks = ranks.double()
    recalls = {f"R@{k}": 100 * (ranks <= k).double().mean().item() for k in RECALLED}
    return recalls | {"MdR": ranks.quantile(0.5).item(), "MnR": ranks.mean().item()}


def retrieval_metrics(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict:
    """Both directions' metrics, several captions a video handled as the paper does on MSVD.

    Text to video: every caption is a query among all videos. Video to text: every video that has captions is a query
    among the videos' sets of captions, a set being as similar as its most similar caption.

    Args:
        texts: [T, E] float unit vectors. videos: [V, E] float unit vectors.
        video_of_text: [T] int64, the video that each text describes. Videos with no text are only candidates.

    Returns:
        {"text_to_video": summary, "video_to_text": summary, "published": {"text_to_video": summary, "video_to_text":
        summary}, "n_texts": T, "n_videos": V}, of `ranks`, in which a tie counts against the query, and of
        `published_ranks`.

    Raises:
        ValueError: a vector that is not finite.
    """
    if not (torch.isfinite(texts).all() and torch.isfinite(videos).all()):
        raise ValueError("features are not finite: similarities would be NaN and ranks meaningless")

    def of_texts(chunk: Tensor) -> tuple[Tensor, Tensor]:
        return texts[chunk] @ videos.T, video_of_text[chunk]

    def of_videos(chunk: Tensor) -> tuple[Tensor, Tensor]:
        similarity = videos[chunk] @ texts.T
        best = similarity.new_full((len(chunk), len(videos)), -torch.inf)
        return best.scatter_reduce_(1, video_of_text.expand_as(similarity), similarity, "amax"), chunk

    queries = {
        "text_to_video": (of_texts, torch.arange(len(texts), device=texts.device)),
        "video_to_text": (of_videos, video_of_text.unique()),
    }
    against, published = {}, {}
    for direction, (similarities, asked) in queries.items():
        counted = [(ranks(*pair), published_ranks(*pair)) for pair in map(similarities, asked.split(CHUNK))]
        against[direction], published[direction] = (summary(torch.cat(parts)) for parts in zip(*counted, strict=True))
    return {**against, "published": published, "n_texts": len(texts), "n_videos": len(videos)}
