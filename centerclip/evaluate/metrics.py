"""Retrieval metrics from unit vectors, in memory that does not grow with texts x videos."""

import torch
from torch import Tensor
from tqdm import tqdm

CHUNK = 256  # queries ranked at a time
RECALLED = (1, 2, 5, 10, 20, 50, 100)  # the k of R@k: the paper has 1, 5 and 10
PATIENCE = 5  # s of ranking without a progress bar


def better_and_equal(similarity: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """[Q] int64 each: how many candidates of similarity [Q, C] are more similar than candidate truth[q], and how many
    equal it, itself among them. -inf stands for a candidate that cannot be retrieved."""
    right = similarity.gather(1, truth[:, None])
    better, equal = (found.sum(1, dtype=torch.int32) for found in (similarity > right, similarity == right))
    return better.long(), equal.long()


def equal_before(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q] int64: how many candidates of similarity [Q, C] equal candidate truth[q] and have a lower index."""
    right, index = similarity.gather(1, truth[:, None]), torch.arange(similarity.shape[1], device=truth.device)
    return ((similarity == right) & (index < truth[:, None])).sum(1)


def ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """[Q] int64: the rank, from 1, of candidate truth[q] among similarity[q]'s ([Q, C]). Candidates as similar as the
    right one are ranked before it, so that a model that tells nothing apart scores nothing."""
    return sum(better_and_equal(similarity, truth))


def authors_counts(better: Tensor, equal: Tensor, candidates: int) -> Tensor:
    """[candidates] int64: how often each rank, from 1, occurs in the authors' code, from `better_and_equal`. It counts
    every tied position as a separate query: the ranks 2, 3 and 4 of three equal candidates behind a better one."""
    begun, ended = (torch.bincount(places, minlength=candidates + 1) for places in (better, better + equal))
    return (begun - ended).cumsum(0)[:candidates]


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
    """Both directions' metrics, several captions a video handled as the paper does on MSVD.

    Text to video: every caption is a query among all videos. Video to text: every video that has captions is a query
    among the videos' sets of captions, a set being as similar as its most similar caption.

    Args:
        texts: [T, E] float unit vectors. videos: [V, E] float unit vectors.
        video_of_text: [T] int64, the video that each text describes. Videos with no text are only candidates.

    Returns:
        {"text_to_video": summary, "video_to_text": summary, "published": {"text_to_video": summary, "video_to_text":
        summary}, "n_texts": T, "n_videos": V}, of `ranks`, and as the authors' code counts: `authors_counts` and the
        lower median; but where a video has several texts, each has one rank, equal videos in the order of their index.

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
    several = len(texts) > len(queries["video_to_text"][1])  # texts of a video
    result, as_authors = {}, {}
    for direction, (similarities, asked) in queries.items():
        found = asked.new_empty(3, len(asked))  # made once: small pieces kept between the large ones would waste memory
        chunks = list(zip(asked.split(CHUNK), found.split(CHUNK, dim=1), strict=True))
        for chunk, counts in tqdm(chunks, f"ranks: {direction}", unit="chunk", delay=PATIENCE):
            compared = similarities(chunk)
            counts[:] = torch.stack([*better_and_equal(*compared), equal_before(*compared)])
        better, equal, before = found
        result[direction] = summary(torch.bincount(better + equal - 1))
        if several and direction == "text_to_video":
            better, equal = better + before, torch.ones_like(equal)
        as_authors[direction] = summary(authors_counts(better, equal, len(videos)), lower_median=True)
    return result | {"published": as_authors, "n_texts": len(texts), "n_videos": len(videos)}
