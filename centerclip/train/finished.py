"""The models of cells, with the weights that training wrote."""

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from centerclip.backbones.clip import CenterCLIP, build
from centerclip.backbones.weights import CRC, checksum
from centerclip.command import UserError, first_line, located
from centerclip.settings import layout
from centerclip.settings.cell import Cell


def build_finished(cell: Cell) -> CenterCLIP:
    """The model that a cell's result is of: trained or, for a cell that is not trained, as it starts.

    Raises:
        UserError: as `build` and `build_trained`.
    """
    if cell.trained:
        return build_trained(cell, cell.path(layout.WEIGHTS))
    return build(cell.located_model, cell.seed, cell.data.image_size)


def build_trained(cell: Cell, path: Path) -> CenterCLIP:
    """The model of a cell with the weights that training wrote to `path`.

    Raises:
        UserError: a file that is missing or damaged, or is another model's.
    """
    built = build(replace(cell.model, weights=None), cell.seed, cell.data.image_size)
    if not path.is_file():
        raise UserError(f"weights {located(path)}: no such file")
    state = read_own(path)
    shapes, expected = ({name: tensor.shape for name, tensor in part.items()} for part in (state, built.state_dict()))
    if shapes != expected:
        different = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
        raise UserError(f"weights {path}: not those of this model, which differ in {different[0]!r}")
    built.load_state_dict(state)
    return built


def read_own(path: Path) -> dict[str, Tensor]:
    """The state dict that `save_weights` wrote to `path`. Raises UserError for a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            noted = (file.metadata() or {}).get("activation", "").partition(CRC)[2]
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"weights {path}: not a whole weights file ({first_line(error)})") from None
    if noted and noted != checksum(state):
        remedy = f"delete it, then {layout.remake(path, layout.WEIGHTS)}"
        raise UserError(f"weights {path}: damaged: its checksum is wrong; {remedy}")
    return state
