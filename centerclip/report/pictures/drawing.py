"""What pictures share: a title, and frames as squares."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

RIGHT = "#D55E00"  # of the colour-blind safe palette of Okabe and Ito; a word says the same


def titled(figure: Figure, title: str) -> Figure:
    """`figure` with a title at its left."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def show(axes: Axes, frame: Tensor, left: float) -> None:
    """Draw a frame uint8 [3, H, W] as the unit square from `left`."""
    axes.imshow(frame.permute(1, 2, 0).numpy(), extent=(left, left + 1, 1, 0), interpolation="bilinear")
