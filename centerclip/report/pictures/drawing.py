"""Functions that the pictures share: titles, headings, and frames as squares, alone or as a video."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

RIGHT = "#D55E00"  # from the colour-blind safe palette of Okabe and Ito; a word says the same
FRAMES = 3  # of each video


def titled(figure: Figure, title: str) -> Figure:
    """`figure` with a title at its left, in lines of its width."""
    figure.suptitle(textwrap.fill(title, int(11 * figure.get_figwidth())), x=0.01, ha="left", fontsize=11)
    return figure


def show(axes: Axes, frame: Tensor, left: float) -> None:
    """Draw a frame uint8 [3, H, W] as the unit square from `left`."""
    axes.imshow(frame.permute(1, 2, 0).numpy(), extent=(left, left + 1, 1, 0), interpolation="bilinear")


def head(axes: Axes, heading: str, sentence: str, columns: int) -> None:
    """Write `heading`, with the shortened `sentence` at its {}, above `axes`, wrapped at `columns` characters."""
    width = columns if sentence.isascii() else columns * 2 // 3  # Chinese, Japanese and Korean are twice as wide
    axes.set_title(textwrap.fill(heading.format(shortened(sentence, 330)), width), loc="left", fontsize=10)


def shortened(sentence: str, length: int) -> str:
    """The words of a sentence, cut at `length` characters. Chinese has no spaces to cut at."""
    words = " ".join(sentence.split())
    return words if len(words) <= length else f"{words[: length - 4].rstrip()} ..."


def draw_video(axes: Axes, frames: Tensor, left: float, label: str, right: bool) -> None:
    """Draw frames [FRAMES, 3, H, W] from `left`, the label below; the right video has a frame and a note."""
    for number, frame in enumerate(frames):
        show(axes, frame, left + 1.03 * number)
    text = axes.text(left, 1.06, label, fontsize=9, va="top")
    if right:
        text.set(text=f"{label} the right one", weight="bold", color=RIGHT)
        width = 1.03 * (len(frames) - 1) + 1
        axes.add_patch(Rectangle((left, 0), width, 1, fill=False, edgecolor=RIGHT, linewidth=3, clip_on=False))
