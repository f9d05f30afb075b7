"""What a failed run could make: the tables and the summary of the cells that are made."""

from collections.abc import Iterable, Iterator
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
    """Whether a cell's result is there, of its settings, and was not to be made again in vain."""
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


def table(cells: list[Cell], paper: pd.DataFrame) -> tuple[pd.DataFrame, list[str | documents.Table]] | None:
    """The table of one benchmark's `cells` and its document, without costs where none were measured; None if no cell is
    made."""
    costs, unmade = cells[0].path(layout.COSTS), [cell for cell in cells if not made(cell)]
    if unmade == cells:
        return None
    costs = tables.read_costs(costs) if costs.exists() else None
    rows = [tables.description(cell) if cell in unmade else tables.read_row(cell.path(layout.RESULT)) for cell in cells]
    combined, apart = tables.combine(rows, costs, paper)
    return combined, tables.for_people(combined, apart, costs, list(map(reason, unmade)))


def whole(csv: Path, cells: list[Cell]) -> bool:
    """Whether the table of one benchmark's `cells` is there, made of the results that they have now."""
    costs = cells[0].path(layout.COSTS)  # which a run without costs does not have
    inputs = [*([costs] if costs.exists() else []), *(cell.path(layout.RESULT) for cell in cells)]
    return all(map(made, cells)) and made_of(csv, inputs)


def made_of(csv: Path, inputs: Iterable[Path]) -> bool:
    """Whether a table is there, and its inputs are and did not change after it."""
    return csv.exists() and all(path.exists() and path.stat().st_mtime <= csv.stat().st_mtime for path in inputs)


def full_size_costs(results: Path) -> pd.DataFrame | None:
    """`full_size.table` of what the paper's models cost here; None where it is not made of the costs that there are."""
    templates = layout.TABLE, layout.COMPARED, layout.COSTS
    table, *inputs = (layout.path(template, results, benchmark=layout.FULL_SIZE) for template in templates)
    return paper_models.read(csv) if made_of(csv := Path(f"{table}.csv"), inputs) else None


def write(paper: pd.DataFrame, benchmarks: list[str], cells: list[Cell], full_size: bool) -> Iterator[Path]:
    """Write a PARTIAL table of each benchmark whose table is not `whole`, then, if there was one or with `full_size`
    the paper's models were not measured, a PARTIAL summary of the tables there are; yield each file that is written.
    Benchmarks of which nothing is made are left out."""
    summarised, incomplete = [], False
    for benchmark in benchmarks:
        compared = [cell for cell in cells if cell.benchmark == benchmark]
        if compared and whole(csv := Path(f"{compared[0].path(layout.TABLE)}.csv"), compared):
            summarised.append(tables.read_models(csv))
            continue
        incomplete = True
        if compared and (combined := table(compared, paper)):
            rows, document = combined
            yield documents.write(compared[0].path(layout.TABLE), documents.PARTIAL, document)
            summarised.append(tables.for_programs(rows))
    if not summarised:
        return
    costs = full_size_costs(cells[0].results) if full_size else None
    if incomplete or (full_size and costs is None):
        out = layout.path(layout.SUMMARY, cells[0].results)
        yield documents.write(out, documents.PARTIAL, summary.summary(summarised, costs, paper))
