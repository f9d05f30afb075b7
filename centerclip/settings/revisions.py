"""The revision of each stage of the workflow: a small number that the stage's results depend on.

Raise it when the results change, and say why in the line above it. Then the stage and all later ones run again. A
message, a comment or a refactoring raises nothing. tests/test_revisions.py compares what each stage gives with what it
gave. An algorithm has its own number, `REVISION`, in its file.
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
# 1: the first. The encoder and the metrics. Training uses both: raise TRAINING, too, if its weights change.
EVALUATION = 1
# 1: the first. Published weights, converted.
WEIGHTS = 1
# 3: the time of a training step on a GPU.
COSTS = 3


def of_algorithms(cells: Iterable[Cell]) -> dict[str, int | str]:
    """The revisions of the algorithms that `cells` use and of the files that these import, by name."""
    used = {stage.algorithm for cell in cells for stage in cell.model.stages}
    return {file: reduction.revision(file) for name in sorted(used) for file in reduction.with_imports(name)}


def of_training(cell: Cell) -> list:
    """The revisions that the trained weights of `cell` depend on."""
    return [MANIFEST, FRAMES, TRAINING, of_algorithms([cell])]


def of_evaluation(cell: Cell) -> list:
    """The revisions that the metrics of `cell` depend on."""
    return [*(of_training(cell) if cell.trained else [MANIFEST, FRAMES, of_algorithms([cell])]), EVALUATION]


def of_costs(cells: Iterable[Cell]) -> list:
    """The revisions that the costs of `cells`, measured together, depend on."""
    return [COSTS, of_algorithms(cells)]
