"""The plots of a benchmark, one module each.

A module has `read(table, cells)`, which gives what it draws from the csv of the benchmark's table or its results, and
`draw(data) -> Figure` of those of its rows that are to be shown. `draw` raises UserError, which says what it needs, if
nothing can be drawn. Plots read in grey and by the colour-blind, too.
"""

from collections.abc import Callable, Iterable

from centerclip.command import UserError
from centerclip.settings.cell import Cell

PLOTS: dict[str, Callable[[Cell], bool]] = {  # plot -> which cells it shows; without any it would come out empty
    "recall": lambda cell: True,
    "recall_at_k": lambda cell: True,
    "recall_vs_cost": lambda cell: cell.baseline,  # and what is compared with it
    "cost": lambda cell: True,
    "training": lambda cell: cell.trained,
}
OF_COSTS = ("recall_vs_cost", "cost")  # without costs these have nothing to show
FULL_SIZE = "full_size"  # of no benchmark, but of what the paper's models cost here
ABLATION = "ablation-"  # + GRID: over the values of a grid of the config, whose points are the variants to show


def plots_of(cells: list[Cell], grids: Iterable[str] = (), costs: bool = True) -> list[str]:
    """The names of a benchmark's plots: the PLOTS for which `cells` have points, and one for each of `grids`. Without
    `costs`, the plots OF_COSTS are left out."""
    shown = [name for name, shows in PLOTS.items() if any(map(shows, cells)) and (costs or name not in OF_COSTS)]
    return [*shown, *(ABLATION + grid for grid in grids)]


def module(plot: str) -> str:
    """The full name of the module of a plot. Raises UserError for an unknown one."""
    if plot not in (*PLOTS, FULL_SIZE) and not plot.startswith(ABLATION):
        raise UserError(f"plot {plot!r} is not one of {', '.join([*PLOTS, FULL_SIZE])}, {ABLATION}GRID")
    return f"{__name__}.{plot.partition('-')[0]}"
