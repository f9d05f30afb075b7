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
        {"text_to_video": summary, "video_to_text": summary, "n_texts": T, "n_videos": V}

    Raises:
        ValueError: a vector that is not finite.
    """
    if not (torch.isfinite(texts).all() and torch.isfinite(videos).all()):
        raise ValueError("features are not finite: similarities would be NaN and ranks meaningless")
    of_texts = [ranks(texts[chunk] @ videos.T, video_of_text[chunk]) for chunk in torch.arange(len(texts)).split(CHUNK)]
    of_videos = []
    for chunk in video_of_text.unique().split(CHUNK):
        similarity = videos[chunk] @ texts.T
        best = similarity.new_full((len(chunk), len(videos)), -torch.inf)
        best.scatter_reduce_(1, video_of_text.expand_as(similarity), similarity, "amax")
        of_videos.append(ranks(best, chunk))
    return {
        "text_to_video": summary(torch.cat(of_texts)),
        "video_to_text": summary(torch.cat(of_videos)),
        "n_texts": len(texts),
        "n_videos": len(videos),
    }
