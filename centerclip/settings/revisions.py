"""The revision of each stage: a small number that the stage's results depend on.

Raise a stage's number when what comes out of it changes, and say in the line above it what the raise changed. Then the
stage runs again, and all that follows. A message, a comment or a refactoring raises nothing. tests/test_revisions.py
holds what each stage gives. An algorithm has a number of its own, `REVISION`, in its file.
"""

from collections.abc import Iterable

from centerclip.method import reduction
from centerclip.settings.cell import Cell

# 1: the first. Readers of captions, and the videos that `shapes` renders.
MANIFEST = 1
# 1: the first. Decoding, which frames are stored, and their encoding.
FRAMES = 1
# 1: the first. The encoder, the recipe, and the choice of the epoch.
TRAINING = 1
# 1: the first. The encoder and the metrics. Training depends on both, too: raise TRAINING where its weights change.
EVALUATION = 1
# 1: the first. Published weights, converted.
WEIGHTS = 1
# 3: the time of a training step on a GPU.
COSTS = 3


def of_algorithms(cells: Iterable[Cell]) -> dict[str, int | str]:
    """The revision of each algorithm that `cells` use, and of each that these import, by its name."""
    used = {stage.algorithm for cell in cells for stage in cell.model.stages}
    return {file: reduction.revision(file) for name in sorted(used) for file in reduction.with_imports(name)}


def of_training(cell: Cell) -> list:
    """What the trained weights of `cell` depend on."""
    return [MANIFEST, FRAMES, TRAINING, of_algorithms([cell])]


def of_evaluation(cell: Cell) -> list:
    """What the metrics of `cell` depend on."""
    return [*(of_training(cell) if cell.trained else [MANIFEST, FRAMES, of_algorithms([cell])]), EVALUATION]


def of_costs(cells: Iterable[Cell]) -> list:
    """What the costs of `cells`, measured beside each other, depend on."""
    return [COSTS, of_algorithms(cells)]
