"""The paper's pictures of a benchmark. Each module has `draw(cells) -> Figure`."""

from centerclip.settings.cell import Cell

PICTURES = ("tokens", "queries", "flips")


def pictures_of(cells: list[Cell]) -> dict[str, list[Cell]]:
    """The pictures of a benchmark by name, each with the `cells` that it shows.

    `tokens` shows the first cell of each clustering algorithm or, where there is one, the first that keeps as many
    tokens as the first cell of all; without clustering there is none. `queries` shows one cell. `flips` shows the
    first baseline and the trained clustering cells of its group; the best is drawn.
    """

    def size(cell: Cell) -> tuple[int, int]:
        return cell.model.stages[0].segments, cell.model.stages[0].clusters

    clustering, algorithms = [cell for cell in cells if cell.clustering], {}
    for cell in sorted(clustering, key=lambda cell: size(cell) != size(clustering[0])):
        algorithms.setdefault(cell.model.stages[0].algorithm, cell)
    shown = list(algorithms.values())
    pictures = {"tokens": shown, "queries": (shown or cells)[:1]}
    for baseline in [cell for cell in cells if cell.baseline][:1]:
        compared = [cell for cell in clustering if cell.trained and cell.group == baseline.group]
        pictures["flips"] = [baseline, *compared] if compared else []
    return {name: cells for name, cells in pictures.items() if cells}


def module(picture: str) -> str:
    """The full name of the module of a picture of PICTURES."""
    return f"{__name__}.{picture}"
