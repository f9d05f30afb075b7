"""What a failed run could make: which cells count as made, what is told of the others, which files are written."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.results import costs, write_results

from centerclip import cli
from centerclip.command import write_json
from centerclip.report.partial import made, reason
from centerclip.settings import layout
from centerclip.settings.cell import Cell
from centerclip.settings.config import full_size


def set_time(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def log(cell: Cell, job: str, text: str, seconds: int) -> None:
    """Write the log of a cell's job, changed last at a time."""
    path = layout.path(layout.LOG, cell.results, job=f"{cell.benchmark}/{cell.name}/{job}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    set_time(path, seconds)


@pytest.fixture
def cell(tmp_path):
    """A cell that is made at second 10."""
    (cell,) = write_results(tmp_path, "msrvtt", "kmedoids")
    set_time(cell.path(layout.RESULT), 10)
    return cell


def test_the_reason_for_a_missing_cell_is_the_last_error_of_its_last_job(tmp_path, cell):
    cell = replace(cell, name="kmedoids-seed-7")
    assert reason(cell) == "kmedoids-seed-7 is not made: it has not run to its end."
    log(cell, "evaluate", "error: of an attempt before\n", 1)
    log(cell, "train", "epoch 1\nerror: first\nerror: the loss is nan at step 3\nmore\n", 2)
    assert (tmp_path / "logs/msrvtt/kmedoids-seed-7/train.log").exists()
    assert reason(cell) == "kmedoids-seed-7 is not made: the loss is nan at step 3."
    log(cell, "train", "killed in epoch 2\n", 2)
    assert reason(cell) == "kmedoids-seed-7 is not made: it has not run to its end."


class TestMade:
    def test_a_result_of_the_cells_settings(self, cell):
        assert made(cell)
        assert not made(replace(cell, seed=7))
        cell.path(layout.RESULT).write_text("of before an edit")
        assert not made(cell)
        cell.path(layout.RESULT).unlink()
        assert not made(cell)

    @pytest.mark.parametrize(
        ("train", "evaluate", "expected"),
        [
            (("done\n", 5), ("done\n", 9), True),
            (("error: the disk is full\n", 11), ("done\n", 9), False),  # it was to be trained again
            (("done\n", 11), ("error: the disk is full\n", 12), False),
            (("error: the disk is full\n", 4), ("done\n", 9), True),  # an attempt before
            (("done\n", 5), ("error: the disk is full\n", 9), True),
        ],
    )
    def test_no_later_job_of_it_ended_in_an_error(self, cell, train, evaluate, expected):
        log(cell, "train", *train)
        log(cell, "evaluate", *evaluate)
        assert made(cell) == expected


def run(monkeypatch, capsys, results: Path, *benchmarks: str, cells: tuple = (), measured: tuple = ()) -> list[str]:
    """The files that the command tells of, with `cells` beside those there are and `measured` options."""
    files = [*map(str, sorted(results.glob("*/*/cell.json"))), *map(str, cells)]
    options = ["--paper", str(REPOSITORY / "config/paper.csv"), "--benchmarks", *benchmarks, "--cells", *files]
    monkeypatch.setattr("sys.argv", ["centerclip", "partial", *options, *measured])
    cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("made of what there is: ") for line in lines)
    return [str(Path(line.removeprefix("made of what there is: ")).relative_to(results)) for line in lines]


def make_table(results: Path, benchmark: str, monkeypatch) -> Path:
    """The whole table of a benchmark's cells there are."""
    out = layout.path(layout.TABLE, results, benchmark=benchmark)
    files = ["--costs", str(layout.path(layout.COSTS, results, benchmark=benchmark))]
    files += ["--cells", *map(str, sorted(results.glob(f"{benchmark}_*.json"))), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["centerclip", "table", "--paper", str(REPOSITORY / "config/paper.csv"), *files])
    cli.main()
    return Path(f"{out}.csv")


def summary_of(results: Path) -> str:
    """The partial summary, without the spaces that align its columns."""
    return re.sub(" +", " ", (results / "tables/summary.partial.md").read_text())


def contents(results: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results.rglob("*") if path.is_file()}


def test_a_table_with_what_is_missing_and_a_summary_with_whole_tables(tmp_path, monkeypatch, capsys):
    """Of five benchmarks one is whole, one lacks cells, one its table, one all cells, and one its costs, which a table
    does without."""
    write_results(tmp_path, "msvd", "baseline", "kmedoids-s4", r1=46)
    make_table(tmp_path, "msvd", monkeypatch)
    cells = write_results(tmp_path, "msrvtt", "baseline", "baseline-seed-7", "token_shift", "pooling")
    for cell in cells[1:3]:
        cell.path(layout.RESULT).unlink()
        log(cell, "train", f"error: the disk of {cell.name} is full\n", 5)
    write_json(cells[3].path(layout.CELL), replace(cells[3], seed=9).settings())  # the config was edited
    write_results(tmp_path, "lsmdc", "baseline", "kmedoids-s6", r1=20)
    (unmade,) = write_results(tmp_path, "activitynet", "baseline")
    unmade.path(layout.RESULT).unlink()
    (uncosted,) = write_results(tmp_path, "didemo", "baseline")
    uncosted.path(layout.COSTS).unlink()

    before = contents(tmp_path)
    names = ("msvd", "msrvtt", "lsmdc", "activitynet", "didemo", "shapes")
    written = run(monkeypatch, capsys, tmp_path, *names, cells=(tmp_path / "shapes/kmedoids/cell.json",))
    assert written == [f"tables/{name}.partial.md" for name in ("msrvtt", "lsmdc", "didemo", "summary")]
    after = contents(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in after.keys() - before.keys()} == set(written)
    assert before.items() <= after.items()

    table = (tmp_path / "tables/msrvtt.partial.md").read_text()
    assert "| token_shift (not made)" in table and "| pooling (not made)" in table
    assert "| baseline  " in table and "| baseline (not made)" not in table  # one of its two seeds is made
    assert "token_shift is not made: the disk of token_shift is full." in table
    assert "baseline-seed-7 is not made: the disk of baseline-seed-7 is full." in table
    assert "pooling is not made: it has not run to its end." in table
    assert "lsmdc" in (tmp_path / "tables/lsmdc.partial.md").read_text()
    assert "GFLOPs" not in (tmp_path / "tables/didemo.partial.md").read_text()
    judged, unjudged = summary_of(tmp_path).split("Not run here")
    for row in (
        "| msrvtt | baseline | 43.0 | 43.0 (+0.0) | holds in one run |",
        "| msvd | baseline | 45.9 | 46.0 (+0.1) | holds in one run |",
        "| lsmdc | baseline | 20.1 | 20.0 (-0.1) | holds in one run |",
    ):
        assert row in judged
    assert "| activitynet | baseline | 41.8 |" in unjudged


def test_costs_of_a_model_that_is_not_made_are_compared_all_the_same(tmp_path, monkeypatch, capsys):
    baseline, _ = write_results(tmp_path, "msrvtt", "baseline", "kmedoids-s4")
    baseline.path(layout.RESULT).unlink()
    assert run(monkeypatch, capsys, tmp_path, "msrvtt") == ["tables/msrvtt.partial.md", "tables/summary.partial.md"]
    judged, unjudged = summary_of(tmp_path).split("Not run here")
    assert "400.0 -> 350.0 MB saved for backward (-12%), kmedoids-s4" in judged
    assert "| msrvtt | baseline | 43.0 |" in unjudged


def test_what_the_papers_models_cost_is_told_where_it_was_measured(tmp_path, monkeypatch, capsys):
    """Of a benchmark that is whole: the summary is made in part if that is all that is missing."""
    write_results(tmp_path, "msvd", "baseline", "kmedoids-s4")
    make_table(tmp_path, "msvd", monkeypatch)
    asked = {"measured": ("--full-size",)}
    assert run(monkeypatch, capsys, tmp_path, "msvd", **asked) == ["tables/summary.partial.md"]
    assert "what the paper's models cost" not in summary_of(tmp_path)
    compared, measured, out = (
        layout.path(template, tmp_path, benchmark=layout.FULL_SIZE)
        for template in (layout.COMPARED, layout.COSTS, layout.TABLE)
    )
    write_json(compared, [model.cost_settings() for model in full_size()])
    write_json(measured, costs(*(model.variant for model in full_size())))
    files = ["--cells", str(compared), "--costs", str(measured), "--out", str(out)]
    monkeypatch.setattr(
        "sys.argv", ["centerclip", "full-size", "--paper", str(REPOSITORY / "config/paper.csv"), *files]
    )
    cli.main()
    assert run(monkeypatch, capsys, tmp_path, "msvd", **asked) == []
    next(tmp_path.glob("msvd_kmedoids-s4.json")).unlink()
    summary = ["tables/msvd.partial.md", "tables/summary.partial.md"]
    assert run(monkeypatch, capsys, tmp_path, "msvd") == summary
    assert "what the paper's models cost" not in summary_of(tmp_path)
    assert run(monkeypatch, capsys, tmp_path, "msvd", **asked) == summary
    assert "it measured what the paper's models cost" in summary_of(tmp_path)
    measured.unlink()  # as Snakemake does when it measures anew
    assert run(monkeypatch, capsys, tmp_path, "msvd", **asked) == summary
    assert "what the paper's models cost" not in summary_of(tmp_path)


def test_nothing_is_written_where_all_is_whole_or_nothing_made(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, capsys, tmp_path, "msrvtt", cells=(tmp_path / "msrvtt/kmedoids/cell.json",)) == []
    (cell,) = write_results(tmp_path, "msrvtt", "baseline")
    csv = make_table(tmp_path, "msrvtt", monkeypatch)
    assert run(monkeypatch, capsys, tmp_path, "msrvtt") == []
    set_time(csv, int(cell.path(layout.RESULT).stat().st_mtime) - 1)  # the result is new
    assert run(monkeypatch, capsys, tmp_path, "msrvtt") == ["tables/msrvtt.partial.md", "tables/summary.partial.md"]
