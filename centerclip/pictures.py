"""The paper's pictures: which tokens of a video go on after clustering, and what a model finds for a sentence."""

import argparse
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from centerclip import clustering
from centerclip.dataset import Videos
from centerclip.decoding import NoFrames
from centerclip.evaluation import features, usable
from centerclip.frames import FrameStore
from centerclip.manifest import read_manifest
from centerclip.metrics import ranks
from centerclip.retriever import Retriever, read_cell
from centerclip.stage import UserError, atomic, positive, run

AT_MOST = 12  # frames of a video side by side, where a segment has no more
SHOWN = 3  # frames of a found video
FOUND = 5  # videos a query
QUERIES = 2  # best ones, and as many worst
RIGHT = "#D55E00"  # of the colour-blind safe palette of Okabe and Ito; a word says the same
TITLE = (
    "{}: patches of a segment's frames form clusters (tints);\none token of each goes on through the network:"
    " the outlined patch or, where there is none, the mean"
)


class Clusters(NamedTuple):
    """What a model's first clustering stage did to one video of T frames in S segments, N patches a segment."""

    label: str
    frames: Tensor  # uint8 [T, 3, H, W]
    kept: Tensor  # int64 [S, K], the tokens that go on; [S, 0] where clusters' means do
    assignment: Tensor  # int64 [S, N], each token's cluster, frame by frame


@contextmanager
def recorded() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield a list that fills with what each call of a clustering returns."""
    found = []

    def recording(cluster: Callable, *arguments, **context):
        found.append(cluster(*arguments, **context))
        return found[-1]

    with clustering.observed(recording):
        yield found


def clusters(retriever: Retriever, frames: Tensor, mask: Tensor) -> Clusters:
    """What becomes of a video's tokens. Raises UserError for a model without a clustering stage."""
    if not retriever.settings["stages"]:
        raise UserError(
            f"{retriever.settings.get('variant', 'the model')}: without a clustering stage every token goes on"
        )
    with recorded() as found:
        retriever.encode_frames(frames, mask)
    medoids, assignment = (part.cpu() for part in found[0])
    stage = retriever.model.stages[0]
    kept, what = (medoids[:, :0], "means of") if stage.keep == "mean" else (medoids, "of")
    label = f"{stage.algorithm}\n{stage.clusters} {what} {assignment.shape[1]}\ntokens go on"
    return Clusters(label, frames, kept, assignment)


def draw_clusters(rows: list[Clusters], title: str) -> Figure:
    """The frames by segments, then a strip a row: patches tinted by their cluster, the kept ones clear and outlined."""
    widths = [positions(row)[-1] + 1 for row in rows]
    figure = Figure(figsize=(0.9 + 1.15 * max(widths), 0.7 + 1.25 * (1 + len(rows))), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    for number, axes in enumerate(figure.subplots(1 + len(rows), 1)):
        row = rows[max(number - 1, 0)]
        strip(axes, row, max(widths), tinted=number > 0)
        label = row.label if number else "frames"
        axes.text(-0.12, 0.5, label, ha="right", va="center", fontsize=10, parse_math=False)
    return figure


def positions(row: Clusters) -> list[float]:
    """Where the frames of a strip lie, in widths of a frame: those of the first segments that have `AT_MOST` frames
    together, at least of one."""
    frames = len(row.frames) // len(row.kept)
    segments = min(len(row.kept), max(1, AT_MOST // frames))
    return [1.04 * (frame + segment * frames) + 0.2 * segment for segment in range(segments) for frame in range(frames)]


def strip(axes: Axes, row: Clusters, width: float, tinted: bool) -> None:
    """Draw the frames of a row into axes whose unit is a frame; the segments are named above the plain ones."""
    per_segment = len(row.frames) // len(row.kept)
    side = round((row.assignment.shape[1] / per_segment) ** 0.5)  # patches
    for number, left in enumerate(positions(row)):
        segment, frame = divmod(number, per_segment)
        show(axes, row.frames[number], left)
        if tinted:
            cells = row.assignment[segment].view(per_segment, side, side)[frame].numpy()
            kept = torch.zeros_like(row.assignment[segment], dtype=torch.bool)
            kept[row.kept[segment]] = True
            tint(axes, cells, kept.view(per_segment, side, side)[frame].numpy(), left)
        elif frame == 0:
            axes.text(left, -0.04, f"segment {segment + 1} of {len(row.kept)}", fontsize=9, va="bottom")
    axes.set(xlim=(-0.02, width + 0.02), ylim=(1.02, -0.02), aspect="equal")
    axes.axis("off")


def show(axes: Axes, frame: Tensor, left: float) -> None:
    """A frame uint8 [3, H, W] as the unit square from `left`."""
    axes.imshow(frame.permute(1, 2, 0).numpy(), extent=(left, left + 1, 1, 0), interpolation="bilinear")


def tint(axes: Axes, cells: np.ndarray, kept: np.ndarray, left: float) -> None:
    """Over a frame at `left`: the clusters `cells` [G, G] as tints with lines between them, patches that are `kept`
    [G, G] clear in an outline."""
    colours = matplotlib.colormaps["viridis"](cells * 0.618034 % 1)  # neighbours in order are far apart in lightness
    colours[..., 3] = np.where(kept, 0, 0.6)
    axes.imshow(colours, extent=(left, left + 1, 1, 0), interpolation="nearest")
    side = len(cells)
    upright = [((left + x / side, y / side), (left + x / side, (y + 1) / side)) for y, x in edges(cells)]
    level = [((left + x / side, y / side), (left + (x + 1) / side, y / side)) for x, y in edges(cells.T)]
    axes.add_collection(LineCollection(upright + level, colors="white", linewidths=0.5))
    boxes = [Rectangle((left + x / side, y / side), 1 / side, 1 / side) for y, x in np.argwhere(kept)]
    for colour, line in (("black", 21 / side), (RIGHT, 11 / side)):  # points
        axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=line))


def edges(cells: np.ndarray) -> np.ndarray:
    """(row, column) of the cells [G, G] whose left neighbour is another cluster's."""
    return np.argwhere(np.diff(cells, axis=1) != 0) + np.array([0, 1])


class Query(NamedTuple):
    """A sentence and what a model finds for it."""

    caption: str
    rank: int  # of the right video, from 1
    candidates: int
    right: int  # video
    found: list[int]  # the most similar videos, the first first
    similarity: list[float]  # theirs


def extremes(similarity: Tensor, truth: Tensor, count: int) -> tuple[list[int], list[int]]:
    """The `count` best and the `count` worst queries, one a video: by the rank of the right video, and of equal ones by
    how far its similarity is above that of the best wrong one.

    Args:
        similarity: [Q, V]. truth: [Q] int64, the right videos.
    """
    right = similarity.gather(1, truth[:, None])[:, 0]
    margin = right - similarity.scatter(1, truth[:, None], -torch.inf).amax(1)
    order = np.lexsort((-margin.numpy(), ranks(similarity, truth).numpy())).tolist()

    def first(queries: list[int]) -> list[int]:
        chosen = {}
        for query in queries:
            chosen.setdefault(int(truth[query]), query)
        return list(chosen.values())[:count]

    return first(order), first(order[::-1])


def answers(texts: Tensor, videos: Tensor, truth: Tensor, captions: list[str], count: int) -> tuple[list, list]:
    """The best and the worst `Query`s: arguments of `retrieval_metrics` on the CPU, captions [T], how many of each."""
    similarity = texts @ videos.T
    place = ranks(similarity, truth)

    def query(index: int) -> Query:
        top = similarity[index].topk(min(FOUND, len(videos)))
        found = top.indices.tolist(), top.values.tolist()
        return Query(captions[index], int(place[index]), len(videos), int(truth[index]), *found)

    return tuple([query(index) for index in chosen] for chosen in extremes(similarity, truth, count))


def draw_queries(best: list[Query], worst: list[Query], frames: Callable[[int], Tensor], title: str) -> Figure:
    """A row a query: the sentence, the videos found as strips of `frames(video)` uint8 [SHOWN, 3, H, W], the right one
    framed, and beside them if it is not among them."""
    rows = [("best", query) for query in best] + [("worst", query) for query in worst]
    step, aside = SHOWN + 0.45, 0.5  # widths of a frame: from video to video, and before the one aside
    width = (FOUND + 1) * step + aside
    figure = Figure(figsize=(0.72 * width, 0.5 + 1.45 * len(rows)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    for axes, (kind, query) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
        sentence = textwrap.shorten(query.caption, 330, placeholder=" ...")
        said = f"{kind}: “{sentence}” - the right video is number {query.rank} of {query.candidates}"
        axes.set_title("\n".join(textwrap.wrap(said, 150)), loc="left", fontsize=10, parse_math=False)
        for place, (video, similarity) in enumerate(zip(query.found, query.similarity, strict=True)):
            draw_found(axes, frames(video), place * step, f"{place + 1}: {similarity:.2f}", video == query.right)
        if query.right not in query.found:
            draw_found(axes, frames(query.right), FOUND * step + aside, f"{query.rank}:", True)
        axes.set(xlim=(-0.1, width), ylim=(1.35, -0.1), aspect="equal")
        axes.axis("off")
    return figure


def draw_found(axes: Axes, frames: Tensor, left: float, label: str, right: bool) -> None:
    """Frames [SHOWN, 3, H, W] from `left`, the label below; framed and called so if it is the right video."""
    for number, frame in enumerate(frames):
        show(axes, frame, left + 1.03 * number)
    width = 1.03 * (len(frames) - 1) + 1
    text = f"{label} the right one" if right else label
    axes.text(left, 1.06, text, fontsize=9, va="top", weight="bold" if right else None, color=RIGHT if right else "k")
    if right:
        axes.add_patch(Rectangle((left, 0), width, 1, fill=False, edgecolor=RIGHT, linewidth=3, clip_on=False))


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix is the format. Raises UserError for a suffix that is none."""
    if (kind := path.suffix[1:].lower()) not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{path}: no format of pictures ends in {path.suffix!r}; .png does")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, bbox_inches="tight")


def tokens_of_file(video: Path, cells: list[dict]) -> Figure:
    """The picture of a video file, a row for the settings of each model. Raises UserError for one without frames."""
    rows = []
    for settings in cells:
        retriever = Retriever(settings)
        try:
            rows.append(clusters(retriever, *retriever.read(video)))
        except NoFrames as error:
            raise UserError(f"{video}: {error}") from None
    return draw_clusters(rows, TITLE.format(video.name))


def tokens(cells: list[dict], stores: list[FrameStore], manifest: pd.DataFrame) -> Figure:
    """The picture of the first test video, a row for each cell's model."""
    rows = []
    for settings, store in zip(cells, stores, strict=True):
        video_id = usable(manifest, store, "test")["video_id"].iloc[0]
        rows.append(clusters(Retriever(settings), *Videos([video_id], store, settings["frames"])[0]))
    return draw_clusters(rows, TITLE.format(f"{cells[0]['benchmark']}, test video {video_id}"))


def queries(cells: list[dict], stores: list[FrameStore], manifest: pd.DataFrame) -> Figure:
    """The picture of one cell's best and worst sentences on the test split."""
    (settings,), (store,) = cells, stores
    rows = usable(manifest, store, "test")
    video_ids = rows["video_id"].drop_duplicates().tolist()
    shown = Videos(video_ids, store, SHOWN)
    vectors = features(Retriever(settings).model, rows, store, settings)
    captions = rows.loc[rows["caption"] != "", "caption"].tolist()
    best, worst = answers(*(part.cpu() for part in vectors), captions, QUERIES)
    title = (
        f"{settings['benchmark']}, {settings['variant']}: the sentences it answers best and worst, and the {FOUND} most"
        " similar videos it finds for each, with their cosine similarity"
    )
    return draw_queries(best, worst, lambda video: shown[video][0], title)


PICTURES = {picture.__name__: picture for picture in (tokens, queries)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.pictures", description=__doc__)
    parser.add_argument("picture", choices=PICTURES)
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="results json; `queries` takes one")
    parser.add_argument("--frames", required=True, nargs="+", type=Path, help="the report of the frames of each")
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        cells = [read_cell(cell) for cell in arguments.cells]
        stores = [FrameStore(report) for report in arguments.frames]
        save(PICTURES[arguments.picture](cells, stores, read_manifest(arguments.manifest)), arguments.out)

    run(parser, job)


if __name__ == "__main__":
    main()
