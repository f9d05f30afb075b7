"""What is read for reports: whatever is wrong with a file is one line, and what numbers need stands beside them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from support.damage import damaged
from support.results import PAPER_CSV, PAPER_ROWS, write_results

from centerclip.command import UserError, write_json
from centerclip.evaluate import vector_file
from centerclip.report import beside_paper, full_size, tables
from centerclip.report.documents import markdown
from centerclip.report.plots import recall_vs_cost, training
from centerclip.report.summary import summary
from centerclip.settings import layout
from centerclip.settings.cell import read_compared
from centerclip.settings.config import full_size as models

COUNT = 25  # damages of each file
WRONG = (None, "x", "", [], [1], {}, {"a": 1}, True, -1, 0, 1.5, math.nan, math.inf, 10**400)


def damaged_json(content: str, random: Random) -> str:
    """`content` with a key deleted, or a value replaced by one of another kind, somewhere."""
    node = whole = json.loads(content)
    while True:
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not (isinstance(node[key], dict | list) and node[key]) or random.random() < 0.2:
            break
        node = node[key]
    if random.random() < 0.4:
        del node[key]
    else:
        node[key] = random.choice(WRONG)
    return json.dumps(whole)


def damaged_csv(content: str, random: Random) -> str:
    """`content` with a column deleted, or a value replaced by one of another kind."""
    rows = [line.split(",") for line in content.splitlines()]
    column = random.randrange(len(rows[0]))
    if random.random() < 0.4:
        rows = [row[:column] + row[column + 1 :] for row in rows]
    else:
        random.choice(rows)[column] = random.choice(["x", "", "nan", "inf", "True", "-1", "1.5", '"', "1" * 400])
    return "\n".join(map(",".join, rows))


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """What a run leaves, whole: a result, costs, a table, the paper's numbers and models, and vectors."""
    cells = write_results(tmp_path, "msrvtt", "baseline", "kmedoids-s4")
    costs = tables.read_costs(cells[0].path(layout.COSTS))
    made, _ = tables.combine([tables.read_result(cell.path(layout.RESULT))[0] for cell in cells], costs, PAPER_ROWS)
    tables.for_programs(made).to_csv(tmp_path / "table.csv", index=False)
    write_json(tmp_path / "compared.json", [model.cost_settings() for model in models()])
    full_size.table(models(), costs, PAPER_ROWS).to_csv(tmp_path / "full_size.csv", index=False)
    (tmp_path / "paper.csv").write_text(PAPER_CSV.read_text())
    np.savez(tmp_path / "given.npz", texts=np.eye(3, 4), videos=np.eye(3, 4), video_of_text=np.arange(3))
    names = "table.csv", "full_size.csv", "paper.csv", "compared.json", "given.npz"
    of_cell = {"result": cells[0].path(layout.RESULT), "costs": cells[0].path(layout.COSTS)}
    return {name: tmp_path / name for name in names} | of_cell


def tabled(result: Path, costs: Path) -> str:
    measured = tables.read_costs(costs)
    table, apart = tables.combine([tables.read_result(result)[0]], measured, PAPER_ROWS)
    return markdown(beside_paper.document(table, apart, measured))


READERS: dict[str, Callable[[dict[str, Path]], object]] = {
    "result": lambda files: (tabled(files["result"], files["costs"]), training.read(None, [files["result"]])),
    "costs": lambda files: tabled(files["result"], files["costs"]),
    "table.csv": lambda files: (
        markdown(summary([tables.read_models(files["table.csv"])], None, PAPER_ROWS, 1.0)),
        recall_vs_cost.relative(recall_vs_cost.read(files["table.csv"])),
    ),
    "full_size.csv": lambda files: full_size.document(full_size.read(files["full_size.csv"])),
    "paper.csv": lambda files: summary(
        [tables.read_models(files["table.csv"])], None, tables.read_paper(files["paper.csv"]), 1.0
    ),
    "compared.json": lambda files: full_size.table(
        read_compared(files["compared.json"]), tables.read_costs(files["costs"]), PAPER_ROWS, files["compared.json"]
    ),
    "given.npz": lambda files: vector_file.read(files["given.npz"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gives_a_result_or_one_line_that_names_it(files, name):
    read, path, random, told = READERS[name], files[name], Random(name), 0
    read(files)  # whole
    whole, suffix = path.read_bytes(), path.suffix
    damages = list(damaged(whole, COUNT))
    for number in range(COUNT):
        if suffix == ".npz" or number % 3 == 0:
            path.write_bytes(damages[number])
        else:
            path.write_text((damaged_json if suffix == ".json" else damaged_csv)(whole.decode(), random))
        try:
            read(files)
        except UserError as error:
            told += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error), path.read_bytes()
        except BaseException as error:
            error.add_note(f"damage {number}: {path.read_bytes()[:3000]!r}")
            raise
    assert told > COUNT / 5
