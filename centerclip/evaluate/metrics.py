"""Retrieval metrics from unit vectors, in memory that does not grow with texts x videos."""

import torch
from torch import Tensor
from tqdm import tqdm

CHUNK = 256  # queries ranked at a time
RECALLED = (1, 2, 5, 10, 20, 50, 100)  # the k of R@k: the paper has 1, 5 and 10
PATIENCE = 5  # s of ranking without a progress bar


def better_and_equal(similarity: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """[Q] int64 each: how many of similarity[q]'s candidates ([Q, C]) are more similar than candidate truth[q], and how
    many are as similar, itself among them. -inf stands for a candidate that cannot be retrieved."""
    right = similarity.gather(1, truth[:, None])
    better, equal = (found.sum(1, dtype=torch.int32) for found in (similarity > right, similarity == right))
    return better.long(), equal.long()


def equal_before(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q] int64: how many of similarity[q]'s candidates ([Q, C]) are as similar as candidate truth[q] and of a lower
    index."""
    right, index = similarity.gather(1, truth[:, None]), torch.arange(similarity.shape[1], device=truth.device)
    return ((similarity == right) & (index < truth[:, None])).sum(1)


def ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q] int64: the rank, from 1, of candidate truth[q] among similarity[q]'s ([Q, C]).

    Ties count against the query: every other candidate as similar as the right one is ranked before it, so that a
    model that tells nothing apart scores nothing.
    """
    return sum(better_and_equal(similarity, truth))


def published_counts(better: Tensor, equal: Tensor, candidates: int) -> Tensor:
    """[candidates] int64: how often each rank, from 1, is had as the authors' code counts them, of `better_and_equal`.

    Where others are as similar as the right candidate, each place that they share is a rank of its own, as if there
    were so many queries more: the ranks 2, 3 and 4 of three candidates behind a better one.
    """
    begun, ended = (torch.bincount(places, minlength=candidates + 1) for places in (better, better + equal))
    return (begun - ended).cumsum(0)[:candidates]


def summary(counts: Tensor, lower_median: bool = False) -> dict[str, float]:
    """R@k in per cent for each k, median rank (MdR; the mean of the middle two, or the lower of them) and mean rank
    (MnR), of how often each rank, from 1, is had: int64 [C]."""
    within = counts.cumsum(0)  # how many ranks are up to each
    total = within[-1].item()
    recalls = {f"R@{k}": 100 * (counts[:k].sum().item() / total) for k in RECALLED}
    middle = torch.tensor([(total - 1) // 2, total // 2], device=counts.device)
    middle = torch.searchsorted(within, middle[:1] if lower_median else middle, right=True)
    median = middle.double().mean().item() + 1
    mean = (counts * torch.arange(1, len(counts) + 1, device=counts.device)).sum().item() / total
    return recalls | {"MdR": median, "MnR": mean}


def retrieval_metrics(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict:
    """Both directions' metrics, several captions a video handled as the paper does on MSVD.

    Text to video: every caption is a query among all videos. Video to text: every video that has captions is a query
    among the videos' sets of captions, a set being as similar as its most similar caption.

    Args:
        texts: [T, E] float unit vectors. videos: [V, E] float unit vectors.
        video_of_text: [T] int64, the video that each text describes. Videos with no text are only candidates.

    Returns:
        {"text_to_video": summary, "video_to_text": summary, "published": {"text_to_video": summary, "video_to_text":
        summary}, "n_texts": T, "n_videos": V}, of `ranks`, in which a tie counts against the query, and as the authors'
        code counts: by `published_counts` and the lower median; but where a video has several texts, each has one rank
        among the videos, of equal ones those of lower index before it.

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

    # Two passes: a query's own similarity has to come from the same product as the others', which alone rounds the same
    queries = {
        "text_to_video": (of_texts, torch.arange(len(texts), device=texts.device)),
        "video_to_text": (of_videos, video_of_text.unique()),
    }
    one_place = {"text_to_video"} if len(texts) > len(queries["video_to_text"][1]) else set()  # of those that tie
    against, published = {}, {}
    for direction, (similarities, asked) in queries.items():
        found = asked.new_empty(3, len(asked))  # made once: small pieces kept between the large ones would waste memory
        chunks = list(zip(asked.split(CHUNK), found.split(CHUNK, dim=1), strict=True))
        for chunk, counts in tqdm(chunks, f"ranks: {direction}", unit="chunk", delay=PATIENCE):
            compared = similarities(chunk)
            counts[:2] = torch.stack(better_and_equal(*compared))
            if direction in one_place:
                counts[2] = equal_before(*compared)
        better, equal, before = found
        against[direction] = summary(torch.bincount(better + equal - 1))
        if direction in one_place:
            better, equal = better + before, torch.ones_like(equal)
        published[direction] = summary(published_counts(better, equal, len(videos)), lower_median=True)
    return {**against, "published": published, "n_texts": len(texts), "n_videos": len(videos)}
