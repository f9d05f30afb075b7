"""Draw the tokens of a video that clustering keeps: the frames, and below them a strip for each model."""

from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from centerclip.command import UserError
from centerclip.data.video.batches import Videos, stored
from centerclip.data.video.reading import Lost
from centerclip.method.reduction import sees_pixels
from centerclip.method.video import stage_name
from centerclip.report.pictures.drawing import RIGHT, show, titled
from centerclip.report.rows import remarks
from centerclip.report.tables import description
from centerclip.search.retriever import Retriever
from centerclip.settings.cell import Cell

AT_MOST = 12  # frames side by side, unless a segment has more
TITLE = (
    "{}: the patches of a segment form clusters (tints). One token of each goes on through the network: the outlined"
    " patch or, without an outline, the mean"
)


class Clusters(NamedTuple):
    """The result of a model's first clustering stage on a video of T frames in S segments, N patches in a segment."""

    label: str
    frames: Tensor  # uint8 [T, 3, H, W]
    kept: Tensor  # int64 [S, K], the tokens that go on; [S, 0] if means go on
    assignment: Tensor  # int64 [S, N], each token's cluster, frame by frame


def clusters(retriever: Retriever, frames: Tensor, mask: Tensor) -> Clusters:
    """The clusters of the tokens of a video, uint8 [T, 3, H, W] with mask [T]. Raises UserError for a model without
    clusters."""
    name, stages, outputs = retriever.cell.name, retriever.cell.model.stages, []
    if not stages:
        raise UserError(f"{name}: without a clustering stage every token goes on")
    stage = min(stages, key=lambda stage: stage.place)
    if sees_pixels(stage.algorithm):
        raise UserError(f"{name}: {stage.algorithm} leaves patches out, which form no clusters")
    reduction = retriever.model.stages[stage_name(*stage.place)].reduction
    hook = reduction.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        retriever.encode_frames([(frames, mask)])
    finally:
        hook.remove()
    medoids, assignment = (part.cpu() for part in outputs[0])
    kept, what = (medoids, "of") if stage.keep == "medoid" else (medoids[:, :0], "means of")
    words = [stage.algorithm, f"{medoids.shape[1]} {what} {assignment.shape[1]}", "tokens go on"]
    return Clusters("\n".join([*words, *remarks(description(retriever.cell))]), frames, kept, assignment)


def draw_clusters(rows: list[Clusters], title: str) -> Figure:
    """Draw the frames by segments, then a strip in each row: patches tinted by their cluster, kept patches untinted and
    outlined."""
    widths = [positions(row)[-1] + 1 for row in rows]
    figure = Figure(figsize=(0.9 + 1.15 * max(widths), 0.7 + 1.25 * (1 + len(rows))), layout="constrained")
    shown = [(rows[0], "frames"), *((row, row.label) for row in rows)]
    for number, (axes, (row, label)) in enumerate(zip(figure.subplots(1 + len(rows), 1), shown, strict=True)):
        strip(axes, row, max(widths), tinted=number > 0)
        axes.text(-0.12, 0.5, label, ha="right", va="center", fontsize=10)
    return titled(figure, title)


def positions(row: Clusters) -> list[float]:
    """The places of a strip's frames, in widths of a frame: the first segments with at most `AT_MOST` frames together,
    at least one segment."""
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
            assignment = row.assignment[segment]
            kept = torch.zeros_like(assignment, dtype=torch.bool).index_fill(0, row.kept[segment], True)
            tint(axes, *(part.view(per_segment, side, side)[frame].numpy() for part in (assignment, kept)), left)
        elif frame == 0:
            axes.text(left, -0.04, f"segment {segment + 1} of {len(row.kept)}", fontsize=9, va="bottom")
    axes.set(xlim=(-0.02, width + 0.02), ylim=(1.02, -0.02), aspect="equal")
    axes.axis("off")


def tint(axes: Axes, patches: np.ndarray, kept: np.ndarray, left: float) -> None:
    """Draw over a frame at `left` the clusters of its `patches` [G, G] as tints with lines between them, patches that
    are `kept` [G, G] clear in an outline."""
    colours = matplotlib.colormaps["viridis"](patches * 0.618034 % 1)  # clusters of near numbers differ in lightness
    colours[..., 3] = np.where(kept, 0, 0.6)
    axes.imshow(colours, extent=(left, left + 1, 1, 0), interpolation="nearest")
    side = len(patches)
    upright = [((left + x / side, y / side), (left + x / side, (y + 1) / side)) for y, x in edges(patches)]
    level = [((left + x / side, y / side), (left + (x + 1) / side, y / side)) for x, y in edges(patches.T)]
    axes.add_collection(LineCollection(upright + level, colors="white", linewidths=0.5))
    boxes = [Rectangle((left + x / side, y / side), 1 / side, 1 / side) for y, x in np.argwhere(kept)]
    for colour, line in (("black", 21 / side), (RIGHT, 11 / side)):  # points
        axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=line))


def edges(patches: np.ndarray) -> np.ndarray:
    """(row, column) of the `patches` [G, G] whose left neighbour is another cluster's."""
    return np.argwhere(np.diff(patches, axis=1) != 0) + np.array([0, 1])


def draw_file(video: Path, cells: list[Cell]) -> Figure:
    """The picture of a video file, a row for the model of each cell. Raises UserError if it has no frames."""
    if not video.is_file():  # before weights are downloaded
        raise UserError(f"{video}: no such file")
    try:
        rows = [clusters(retriever, *retriever.read(video)) for retriever in map(Retriever, cells)]
    except Lost as error:
        raise UserError(f"{video}: {error}") from None
    return draw_clusters(rows, TITLE.format(video.name))


def draw(cells: list[Cell]) -> Figure:
    """The picture of a benchmark's first test video, a row for the model of each cell."""
    rows = []
    for cell in cells:
        _, store, splits = stored(cell, ["test"])
        video_id = splits["test"]["video_id"].iloc[0]
        rows.append(clusters(Retriever(cell), *Videos([video_id], store, cell.data.frames)[0]))
    return draw_clusters(rows, TITLE.format(f"{cells[0].benchmark}, test video {video_id}"))
