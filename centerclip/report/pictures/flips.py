"""Draw the sentences of the test split that a clustering model gains and loses at rank 1 against its baseline."""

from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor

from centerclip.command import UserError
from centerclip.data.video.batches import Videos, stored
from centerclip.evaluate import ranks
from centerclip.evaluate.ranks import Flip
from centerclip.report.pictures.drawing import FRAMES, draw_video, head, titled
from centerclip.settings import layout
from centerclip.settings.cell import Cell

SHOWN = 4  # gains, and as many losses
STEP = FRAMES + 0.45  # from video to video, in widths of a frame


def largest(flips: list[Flip]) -> list[Flip]:
    """The first SHOWN of `flips`, one for each video."""
    first = {}
    for flip in flips:
        first.setdefault(flip.video, flip)
    return list(first.values())[:SHOWN]


def draw_flips(
    flips: list[list[Flip]], models: list[str], captions: dict[str, str], frames: Callable[[str], Tensor], title: str
) -> Figure:
    """Draw the gained `flips` at the left and the lost ones at the right: the sentence, its ranks, and the video that
    each of two `models` finds as a strip of `frames(video_id)` uint8 [FRAMES, 3, H, W]. The right video has a frame."""
    rows = max(1, *map(len, flips))
    figure = Figure(figsize=(4 * STEP, 0.5 + 1.6 * rows), layout="constrained")
    for kind, column, shown in zip(("gained", "lost"), figure.subplots(rows, 2, squeeze=False).T, flips, strict=True):
        for number, axes in enumerate(column):
            axes.set(xlim=(-0.1, 2 * STEP), ylim=(1.35, -0.1), aspect="equal")
            axes.axis("off")
            if number < len(shown):
                flip = shown[number]
                head(axes, f"{kind}, rank {flip.before} → {flip.after}: “{{}}”", captions[flip.query], 80)
                for place, (model, rank) in enumerate(zip(models, (flip.before, flip.after), strict=True)):
                    video, found = (flip.video, "") if rank == 1 else (flip.wrong, " another")
                    draw_video(axes, frames(video), place * STEP, f"{model} finds{found}", rank == 1)
    return titled(figure, title)


def draw(cells: list[Cell]) -> Figure:
    """The picture of the best of `cells`, by text-to-video R@1, beside the first of them, its baseline."""
    if len(cells) < 2:
        raise UserError("flips: give the results of a baseline and of at least one other model")
    answers = [ranks.read(cell.path(layout.RANKS)) for cell in cells]
    recalls = [(found["text_to_video"].rank == 1).mean() for found in answers[1:]]
    best = 1 + recalls.index(max(recalls))
    gained, lost = ranks.flips(answers[0], answers[best], "text_to_video")
    _, store, splits = stored(cells[0], ["test"])
    rows, videos = splits["test"], Videos([], store, FRAMES)
    title = (
        f"{cells[0].benchmark}: of {len(answers[0]['text_to_video'].queries):,} sentences, {cells[best].name} finds"
        f" {len(gained)} at rank 1 that {cells[0].name} misses, and misses {len(lost)} that {cells[0].name} finds."
        " Shown: the largest changes of rank"
    )
    captions = dict(zip(rows["caption_id"], rows["caption"], strict=True))
    names = [cells[0].name, cells[best].name]
    return draw_flips([largest(gained), largest(lost)], names, captions, lambda video: videos.frames(video)[0], title)
