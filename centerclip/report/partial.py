"""What a failed run could make: the tables and the summary of the cells that are made."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, last_error
from centerclip.report import documents, summary, tables
from centerclip.report import full_size as paper_models
from centerclip.settings import layout
from centerclip.settings.cell import Cell, read_cell


def last_log(cell: Cell) -> Path:
    """The log of the last job that worked on a cell's result; it need not exist."""
    jobs = [f"{cell.benchmark}/{cell.name}/{job}" for job in ("train", "evaluate")]
    logs = [layout.path(layout.LOG, cell.results, job=job) for job in jobs]
    return max(logs, key=lambda log: log.stat().st_mtime if log.exists() else 0)


def made(cell: Cell) -> bool:
    """Whether a cell's result is there, of its settings, and no later job of it ended in an error."""
    result, log = cell.path(layout.RESULT), last_log(cell)
    try:
        if read_cell(result).settings() != cell.settings():
            return False
    except UserError:
        return False
    return last_error(log) is None or log.stat().st_mtime <= result.stat().st_mtime


def reason(cell: Cell) -> str:
    """Why a cell is not made, in a sentence: the last error in the log of the last job that it needed."""
    return f"{cell.name} is not made: {last_error(last_log(cell)) or 'it has not run to its end'}."


def table(cells: list[Cell], paper: pd.DataFrame) -> tuple[pd.DataFrame, documents.Document]:
    """The table of one benchmark's `cells` and its document, without costs where none were measured."""
    costs, unmade = cells[0].path(layout.COSTS), [cell for cell in cells if not made(cell)]
    costs = tables.read_costs(costs) if costs.exists() else None
    rows = [tables.description(cell) if cell in unmade else tables.read_row(cell.path(layout.RESULT)) for cell in cells]
    combined, apart = tables.combine(rows, costs, paper)
    return combined, tables.for_people(combined, apart, costs, *map(reason, unmade))


def made_of(csv: Path, *inputs: Path) -> bool:
    """Whether a table is there, and its inputs are and did not change after it."""
    return csv.exists() and all(path.exists() and path.stat().st_mtime <= csv.stat().st_mtime for path in inputs)


def whole(csv: Path, cells: list[Cell]) -> bool:
    """Whether the table of one benchmark's `cells` is there, made of the results that they have now."""
    costs = [path for path in [cells[0].path(layout.COSTS)] if path.exists()]  # a run without costs has none
    return all(map(made, cells)) and made_of(csv, *costs, *(cell.path(layout.RESULT) for cell in cells))


def full_size_costs(results: Path) -> pd.DataFrame | None:
    """`full_size.table` of what the paper's models cost here; None where it is not made of the costs that there are."""
    templates = f"{layout.TABLE}.csv", layout.COMPARED, layout.COSTS
    csv, *inputs = (layout.path(template, results, benchmark=layout.FULL_SIZE) for template in templates)
    return paper_models.read(csv) if made_of(csv, *inputs) else None


def write(
    paper: pd.DataFrame, benchmarks: list[str], cells: list[Cell], full_size: bool, tolerance: float
) -> Iterator[Path]:
    """Write what of a failed run is not `whole`; yield each PARTIAL file that is written.

    These are tables of the benchmarks of which a cell is made, then a summary of all tables there are. With
    `full_size`, costs of the paper's models belong to the summary. tolerance: as `judgements`'.
    """
    summarised, incomplete = [], False
    for benchmark in benchmarks:
        compared = [cell for cell in cells if cell.benchmark == benchmark]
        if compared and whole(csv := compared[0].path(f"{layout.TABLE}.csv"), compared):
            summarised.append(tables.read_models(csv))
            continue
        incomplete = True
        if any(map(made, compared)):
            rows, document = table(compared, paper)
            yield written(compared[0].path(layout.TABLE), document)
            summarised.append(tables.for_programs(rows))
    costs = full_size_costs(cells[0].results) if summarised and full_size else None
    if summarised and (incomplete or (full_size and costs is None)):
        yield written(
            layout.path(layout.SUMMARY, cells[0].results), summary.summary(summarised, costs, paper, tolerance)
        )


def written(out: Path, document: documents.Document) -> Path:
    """The path of a PARTIAL file, written."""
    documents.write(out, document, documents.PARTIAL)
    return Path(f"{out}{documents.PARTIAL}")
