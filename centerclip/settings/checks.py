"""Whether the settings of a cell fit each other."""

from centerclip import backbones
from centerclip.method import reduction
from centerclip.method.errors import Misfit
from centerclip.method.fit import check_stages
from centerclip.settings.cell import Cell
from centerclip.settings.schema import option_problem


def check_cell(cell: Cell) -> None:
    """Raise Misfit where a cell's settings do not fit each other: text, GPUs, algorithms, segments, clusters."""
    own, size = backbones.geometry(cell.model.backbone), cell.data.image_size
    if size != own.image_size and size % own.patch_size:
        problem = f"image_size {size} is not a multiple of {own.patch_size}, the patch size of {cell.model.backbone}"
        raise Misfit(problem, ["image_size"], ["backbone"])
    geometry = backbones.geometry(cell.model.backbone, size)
    if cell.data.text_tokens > geometry.context:
        problem = f"text_tokens {cell.data.text_tokens} is more than {cell.model.backbone} reads ({geometry.context})"
        raise Misfit(problem, ["text_tokens"], ["backbone"])
    if cell.training and cell.training.loss == "sigmoid" and not backbones.has_bias(cell.model.backbone):
        problem = f"loss sigmoid: {cell.model.backbone} has no logit bias, as SigLIP's models have"
        raise Misfit(problem, ["training", "loss"], ["backbone"])
    if cell.training and cell.training.batch_size % cell.runtime.gpus:
        batch_size = cell.training.batch_size
        problem = f"training.gpus {cell.runtime.gpus} does not divide training.batch_size {batch_size}"
        raise Misfit(problem, ["training", "gpus"], ["training", "batch_size"])
    if cell.data.frames < 1:
        raise Misfit(f"frames {cell.data.frames}: a video has at least 1", ["frames"])
    check_stages(cell.model, cell.data.frames, geometry)
    for number, stage in enumerate(cell.model.stages):
        for option, value in stage.options.items():
            if wrong := option_problem(reduction.annotation(stage.algorithm, option), value):
                raise Misfit(wrong, ["stages", number, "options", option])
