"""Write the tables and the summary of the finished cells after a failed run."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from centerclip.command import UserError, last_error
from centerclip.report import beside_paper, documents, full_size, summary, tables
from centerclip.settings import layout
from centerclip.settings.cell import Cell, read_cell


def last_log(cell: Cell) -> Path:
    """The log of the last job that worked on a cell's result. The file need not exist."""
    jobs = [f"{cell.benchmark}/{cell.name}/{job}" for job in ("train", "evaluate")]
    logs = [layout.path(layout.LOG, cell.results, job=job) for job in jobs]
    return max(logs, key=lambda log: log.stat().st_mtime if log.exists() else 0)


def made(cell: Cell) -> bool:
    """Whether a cell's result has its settings, and no later job of the cell has failed."""
    result, log = cell.path(layout.RESULT), last_log(cell)
    try:
        if read_cell(result).settings() != cell.settings():
            return False
    except UserError:
        return False
    return last_error(log) is None or log.stat().st_mtime <= result.stat().st_mtime


def reason(cell: Cell) -> str:
    """The reason why a cell has no result: the last error in its `last_log`."""
    return f"{cell.name} is not made: {last_error(last_log(cell)) or 'it has not run to its end'}."


def made_of(csv: Path, *inputs: Path) -> bool:
    """Whether a table and its inputs exist, and no input has changed since the table was written."""
    return csv.exists() and all(path.exists() and path.stat().st_mtime <= csv.stat().st_mtime for path in inputs)


def full_size_costs(results: Path) -> pd.DataFrame | None:
    """`full_size.table` of what the paper's models cost here; None where it is missing or older than the costs."""
    templates = f"{layout.TABLE}.csv", layout.COMPARED, layout.COSTS
    csv, *inputs = (layout.path(template, results, benchmark=layout.FULL_SIZE) for template in templates)
    return full_size.read(csv) if made_of(csv, *inputs) else None


def written(out: Path, document: documents.Document) -> Path:
    """The path of a PARTIAL file, written."""
    documents.write(out, document, documents.PARTIAL)
    return Path(f"{out}{documents.PARTIAL}")


def write(
    paper: pd.DataFrame, benchmarks: list[str], cells: list[Cell], with_full_size: bool, tolerance: float
) -> Iterator[Path]:
    """Write and yield the PARTIAL files of a failed run.

    These are the tables of benchmarks with a finished cell but without a whole table, then a summary of all tables
    that exist, with the costs of the paper's models if `with_full_size`. tolerance: as in `judgements`.
    """
    if not cells:
        return
    summarised, incomplete, results = [], False, cells[0].results
    for benchmark in benchmarks:
        compared = [cell for cell in cells if cell.benchmark == benchmark]
        unmade = [cell for cell in compared if not made(cell)]
        out, costs = (layout.path(file, results, benchmark=benchmark) for file in (layout.TABLE, layout.COSTS))
        inputs = [*([costs] if costs.exists() else []), *(cell.path(layout.RESULT) for cell in compared)]
        if compared and not unmade and made_of(csv := Path(f"{out}.csv"), *inputs):
            summarised.append(tables.read_models(csv))
            continue
        incomplete = True
        if len(unmade) < len(compared):
            rows = [
                tables.description(cell) if cell in unmade else tables.read_result(cell.path(layout.RESULT))[0]
                for cell in compared
            ]
            measured = tables.read_costs(costs) if costs.exists() else None  # a run may measure no costs
            table, apart = tables.combine(rows, measured, paper)
            yield written(out, beside_paper.document(table, apart, measured, *map(reason, unmade)))
            summarised.append(tables.for_programs(table))
    costs = full_size_costs(results) if summarised and with_full_size else None
    if summarised and (incomplete or (with_full_size and costs is None)):
        document = summary.summary(summarised, costs, paper, tolerance)
        yield written(layout.path(layout.SUMMARY, results), document)
