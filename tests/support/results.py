"""Results, costs and tables as jobs write them, made up for tests of what is shown of them."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
from conftest import REPOSITORY

from centerclip.command import write_json
from centerclip.report import full_size
from centerclip.report.tables import combine, for_programs, read_paper, row_of
from centerclip.settings import layout
from centerclip.settings.cell import Cell
from centerclip.settings.config import cell, read_config
from centerclip.settings.config import full_size as full_size_cells

CONFIG = read_config([])
PAPER_CSV = REPOSITORY / "config/paper.csv"
PAPER_ROWS = read_paper(PAPER_CSV)
FULL_SIZE = ("zeroshot", "baseline", "kmedoids-s4", "spectral-s4")


def scores(r1: float) -> dict:
    return {"R@1": r1, "R@5": r1 + 30, "R@10": r1 + 40, "MdR": 2.0, "MnR": 12.0}


def make_result(cell: Cell, r1: float) -> dict:
    """A result with t2v R@1 `r1` and v2t R@1 one less; the first of two epochs is selected."""
    epochs = [{"epoch": n, "loss": 1.0, "text_to_video": scores(r1 - n), "video_to_text": scores(r1)} for n in (1, 2)]
    training = {"select": "best", "selected_epoch": 1, "seconds": 60.0, "epochs": epochs}
    directions = {"text_to_video": scores(r1), "video_to_text": scores(r1 - 1)}
    return {
        **directions,
        "published": {direction: dict(found) for direction, found in directions.items()},
        **{"n_texts": 1000, "n_texts_cut": 7, "n_videos": 5000, "n_videos_short": 0, "n_videos_left_out": 0},
        "training": training if cell.trained else None,
        "provenance": {"device": "a CPU", "data_revision": "a"},
        "settings": cell.settings(),
    }


def result(benchmark: str, variant: str, r1: float, seed: int = 42) -> dict:
    """`make_result` of a cell of the config."""
    return make_result(replace(cell(CONFIG, benchmark, variant), seed=seed), r1)


def row(result: dict) -> dict:
    """The row of a table that is made of a file of `result`, without ranks."""
    found = row_of(result, "a result")
    return {column: value for column, value in found.items() if column not in ("seed", "ranks")}


def costs(*variants: str, **changes) -> dict:
    """The content of a COSTS file: each variant costs less than the one before."""
    missing = ("inference_gb", "step_ms", "training_gb", "training_reserved_gb", "training_chunk")
    rows = [
        {
            **dict.fromkeys(missing),
            **{"variant": variant, "measured_on": "a CPU", "tokens_per_block": [600, 600 - 100 * n], "turns": 5},
            **{"ms": 20.0 - n, "ms_low": 18.0 - n, "ms_high": 30.0, "ms_p95": 25.0 - n, "batch": 4, "busy": False},
            **{"batch_ms": 10.0 - n, "trainable_m": 150.0, "clustering_share": 0.02 * n},
            **{"gflops": 100.0 - n, "saved_mb": 400.0 - 50 * n},
            **changes,
        }
        for n, variant in enumerate(variants)
    ]
    return {"threads": 2, "repeats": 5, "rows": rows}


def table(*results: dict, measured: dict | None = None) -> pd.DataFrame:
    """The table of results of one benchmark, with costs `measured` or made up, by variant."""
    rows = list(map(row, results))
    measured = measured or costs(*dict.fromkeys(row["variant"] for row in rows))
    return combine(rows, measured, PAPER_ROWS)[0].set_index("variant", drop=False)


def csv_of(*results: dict, measured: dict | None = None) -> pd.DataFrame:
    """The csv of `table`."""
    return for_programs(table(*results, measured=measured)).reset_index(drop=True)


def full_size_table(**changes) -> pd.DataFrame:
    """From the baseline on 19, 18 and 17 ms, 350, 300 and 250 MB, 99, 98 and 97 GFLOPs."""
    return full_size.table(full_size_cells(), costs(*FULL_SIZE, **changes), PAPER_ROWS)


def write_results(results: Path, benchmark: str, *names: str, r1: float = 43) -> list[Cell]:
    """Write CELL and RESULT of cells of the config, and the COSTS of their variants, below the directory `results`."""
    cells = [replace(cell(CONFIG, benchmark, name), results=results) for name in names]
    for made in cells:
        write_json(made.path(layout.CELL), made.settings())
        write_json(made.path(layout.RESULT), make_result(made, r1))
    write_json(cells[0].path(layout.COSTS), costs(*dict.fromkeys(made.variant for made in cells)))
    return cells


def unaligned(markdown: str) -> str:
    """A document without the spaces that align the columns of its tables."""
    return re.sub(" +", " ", markdown)
