"""Draw docs/demo/method.png, the method on a generated clip: python docs/method_picture.py

Here the tokens are the pixels of patches, so that the picture needs no trained model. In the model they are the patch
tokens after block 6.
"""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle

from centerclip import ROOT
from centerclip.data.datasets.shapes import Event, render
from centerclip.method.reduction.kmedoids import kmedoids

SEGMENTS, FRAMES, GRID, CLUSTERS = 2, 3, 7, 12
SCENE = Event("large", "purple", "star", "moves right"), Event("small", "orange", "circle", "moves up")
ROWS = (
    f"1. Frames are cut into\n{SEGMENTS} segments",
    f"2. The patches of a segment\nform {CLUSTERS} clusters (colours)",
    f"3. One token of each cluster\nis kept: {CLUSTERS} of {FRAMES * GRID**2} go on",
)
TINTS = mpl.colormaps["tab20"].colors


def main() -> None:
    clip = render(SCENE, GRID * 16, np.random.default_rng(3))
    pictures = torch.stack([torch.from_numpy(np.array(clip[i])) for i in range(2, 24, 4)])
    segments = pictures.unflatten(0, (SEGMENTS, FRAMES))  # [S, T, 112, 112, 3]
    patches = segments.unflatten(3, (GRID, 16)).unflatten(2, (GRID, 16)).transpose(3, 4)  # [S, T, 7, 7, 16, 16, 3]
    kept, assignment = kmedoids(patches.flatten(4).flatten(1, 3).float() / 255, CLUSTERS)
    widths = [1] * FRAMES + [0.15] + [1] * FRAMES  # a gap between the segments
    figure, grid = plt.subplots(len(ROWS), len(widths), figsize=(9, 3.9), dpi=150, width_ratios=widths)
    for ax in grid[:, FRAMES]:
        ax.axis("off")
    axes = np.delete(grid, FRAMES, axis=1)
    for number, column in enumerate(axes.T):
        segment, frame = divmod(number, FRAMES)
        for ax in column:
            ax.imshow(segments[segment, frame])
            ax.axis("off")
        for token in range(frame * GRID**2, (frame + 1) * GRID**2):
            row, place = divmod(token % GRID**2, GRID)
            corner = place * 16 - 0.5, row * 16 - 0.5
            tint = TINTS[assignment[segment, token] % len(TINTS)]
            column[1].add_patch(Rectangle(corner, 16, 16, facecolor=(*tint, 0.75), edgecolor="white", linewidth=0.5))
            if token in kept[segment]:
                column[2].add_patch(Rectangle(corner, 16, 16, fill=False, edgecolor=tint, linewidth=2, zorder=3))
            else:
                column[2].add_patch(Rectangle(corner, 16, 16, facecolor="white", edgecolor="#dddddd", linewidth=0.5))
    figure.subplots_adjust(left=0.27, right=0.995, top=0.93, bottom=0.01, wspace=0.06, hspace=0.06)
    for ax, text in zip(axes[:, 0], ROWS, strict=True):
        ax.text(-0.1, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=11)
    for segment in range(SEGMENTS):
        axes[0, segment * FRAMES + FRAMES // 2].set_title(f"segment {segment + 1}", fontsize=11)
    figure.savefig(ROOT / "docs/demo/method.png")


if __name__ == "__main__":
    main()
