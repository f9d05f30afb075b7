"""Draw the sentences of the test split that a model answers best and worst, with the videos that it finds."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from centerclip.data.video.batches import Videos, stored
from centerclip.evaluate.features import features
from centerclip.evaluate.metrics import ranks
from centerclip.method.maxsim import maxsim
from centerclip.report.pictures.drawing import FRAMES, draw_video, head, titled
from centerclip.report.rows import label
from centerclip.report.tables import description
from centerclip.search.retriever import Retriever
from centerclip.settings.cell import Cell

ANSWERS = 5  # videos a query
QUERIES = 2  # best ones, and as many worst


class Query(NamedTuple):
    """A sentence and a model's answers to it."""

    caption: str
    rank: int  # of the right video, from 1
    candidates: int
    right: int  # video
    answers: list[int]  # the most similar videos, the first first
    similarity: list[float]  # theirs


def extremes(similarity: Tensor, truth: Tensor, count: int) -> tuple[list[int], list[int]]:
    """The `count` best and the `count` worst queries, one for each video, sorted by the rank of the right video,
    `truth` [Q], in `similarity` [Q, V]. Equal ranks are sorted by the margin over the best wrong video."""
    right = similarity.gather(1, truth[:, None])[:, 0]
    margin = right - similarity.scatter(1, truth[:, None], -torch.inf).amax(1)
    order = np.lexsort((-margin.numpy(), ranks(similarity, truth).numpy()))

    def first(queries: np.ndarray) -> list[int]:
        places = np.unique(truth.numpy()[queries], return_index=True)[1]  # of each video's first query
        return queries[np.sort(places)[:count]].tolist()

    return first(order), first(order[::-1])


def best_and_worst(similarity: Tensor, truth: Tensor, captions: list[str], count: int) -> list[list[Query]]:
    """The `count` best and the `count` worst queries, captions [Q], by `similarity` [Q, V] and right videos [Q]."""
    place = ranks(similarity, truth)

    def query(index: int) -> Query:
        top = similarity[index].topk(min(ANSWERS, similarity.shape[1]))
        answers = top.indices.tolist(), top.values.tolist()
        return Query(captions[index], int(place[index]), similarity.shape[1], int(truth[index]), *answers)

    return [list(map(query, indices)) for indices in extremes(similarity, truth, count)]


def draw_queries(best: list[Query], worst: list[Query], frames: Callable[[int], Tensor], title: str) -> Figure:
    """Draw a row for each query: the sentence, and its answers as strips of `frames(video)` uint8 [FRAMES, 3, H, W].
    The right video has a frame, and stands beside the answers if it is not among them."""
    rows = [("best", query) for query in best] + [("worst", query) for query in worst]
    step, aside = FRAMES + 0.45, 0.5  # widths of a frame: from video to video, and before the one aside
    width = (ANSWERS + 1) * step + aside
    figure = Figure(figsize=(0.72 * width, 0.5 + 1.45 * len(rows)), layout="constrained")
    for axes, (kind, query) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
        head(axes, f"{kind}: “{{}}”: the right video is number {query.rank} of {query.candidates}", query.caption, 150)
        for place, (video, similarity) in enumerate(zip(query.answers, query.similarity, strict=True)):
            draw_video(axes, frames(video), place * step, f"{place + 1}: {similarity:.2f}", video == query.right)
        if query.right not in query.answers:
            draw_video(axes, frames(query.right), ANSWERS * step + aside, f"{query.rank}:", True)
        axes.set(xlim=(-0.1, width), ylim=(1.35, -0.1), aspect="equal")
        axes.axis("off")
    return titled(figure, title)


def draw(cells: list[Cell]) -> Figure:
    """The picture of the first of `cells`."""
    cell = cells[0]
    _, store, splits = stored(cell, ["test"])
    rows = splits["test"]
    frames = Videos(rows["video_id"].drop_duplicates().tolist(), store, FRAMES)
    texts, videos, truth = (part.cpu() for part in features(Retriever(cell).model, rows, store, cell))
    captions, similarity = rows.loc[rows["caption"] != "", "caption"].tolist(), maxsim(videos, texts).T
    best, worst = best_and_worst(similarity, truth, captions, QUERIES)
    model = label(description(cell) | {"variant": cell.name})
    first = (ranks(similarity, truth) == 1).sum()
    title = (
        f"{cell.benchmark}, {model}: the right video comes first for {first:,} of {len(captions):,} sentences."
        f" Shown: the {QUERIES} best and worst, their {ANSWERS} most similar videos and cosine similarities"
    )
    return draw_queries(best, worst, lambda video: frames[video][0], title)
