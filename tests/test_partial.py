"""Tables of a failed run: which cells count as made, the reasons for missing cells, and the files written."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.results import PAPER_CSV, costs, unaligned, write_results

from centerclip import cli
from centerclip.command import write_json
from centerclip.report.partial import made, reason
from centerclip.settings import layout
from centerclip.settings.cell import Cell
from centerclip.settings.config import full_size


def set_time(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def log(cell: Cell, job: str, text: str, seconds: int) -> None:
    """Write the log of a cell's job, with a time of change."""
    path = layout.path(layout.LOG, cell.results, job=f"{cell.benchmark}/{cell.name}/{job}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    set_time(path, seconds)


@pytest.fixture
def cell(tmp_path):
    """A cell whose result was made at second 10."""
    (cell,) = write_results(tmp_path, "msrvtt", "kmedoids")
    set_time(cell.path(layout.RESULT), 10)
    return cell


def test_reason_for_a_missing_cell_is_the_last_error_of_its_last_job(tmp_path, cell):
    cell = replace(cell, name="kmedoids-seed-7")
    assert reason(cell) == "kmedoids-seed-7 is not made: it has not run to its end."
    log(cell, "evaluate", "error: an earlier attempt\n", 1)
    log(cell, "train", "epoch 1\nerror: first\nerror: the loss is nan at step 3\nmore\n", 2)
    assert (tmp_path / "logs/msrvtt/kmedoids-seed-7/train.log").exists()
    assert reason(cell) == "kmedoids-seed-7 is not made: the loss is nan at step 3."
    log(cell, "train", "killed in epoch 2\n", 2)
    assert reason(cell) == "kmedoids-seed-7 is not made: it has not run to its end."


def test_result_with_the_settings_of_the_cell_is_made(cell):
    assert made(cell) and not made(replace(cell, seed=7))
    cell.path(layout.RESULT).write_text("from earlier settings")
    assert not made(cell)
    cell.path(layout.RESULT).unlink()
    assert not made(cell)


FULL = "error: the disk is full\n"


@pytest.mark.parametrize(
    ("train", "evaluate", "expected"),
    [
        (("done\n", 5), ("done\n", 9), True),
        ((FULL, 11), ("done\n", 9), False),  # training again failed
        (("done\n", 11), (FULL, 12), False),
        ((FULL, 4), ("done\n", 9), True),  # an earlier attempt
        (("done\n", 5), (FULL, 9), True),
    ],
)
def test_result_is_not_made_if_a_later_job_failed(cell, train, evaluate, expected):
    log(cell, "train", *train)
    log(cell, "evaluate", *evaluate)
    assert made(cell) == expected


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., list[str]]:
    """A function that runs a command with the paper's numbers and returns its lines on the terminal."""

    def lines(*words: object) -> list[str]:
        monkeypatch.setattr("sys.argv", ["centerclip", *map(str, words), "--paper", str(PAPER_CSV)])
        cli.main()
        return capsys.readouterr().err.splitlines()

    return lines


@pytest.fixture
def partial(run, tmp_path) -> Callable[..., list[str]]:
    """A function that runs `partial` for the cells of `tmp_path` and `unmade` cells: the tables that it wrote."""

    def written(*benchmarks: str, unmade: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> list[str]:
        cells = *sorted(tmp_path.glob("*/*/cell.json")), *(tmp_path / name for name in unmade)
        told = f"written from the finished cells: {tmp_path}/tables/"
        lines = run("partial", "--tolerance", "1", "--benchmarks", *benchmarks, "--cells", *cells, *options)
        assert all(line.startswith(told) for line in lines)
        return [line.removeprefix(told).removesuffix(".partial.md") for line in lines]

    return written


@pytest.fixture
def make_table(run, tmp_path) -> Callable[[str], Path]:
    """A function that makes the table of a benchmark's existing cells."""

    def csv(benchmark: str) -> Path:
        out, measured = (layout.path(file, tmp_path, benchmark=benchmark) for file in (layout.TABLE, layout.COSTS))
        run("table", "--costs", measured, "--cells", *sorted(tmp_path.glob(f"{benchmark}_*.json")), "--out", out)
        return Path(f"{out}.csv")

    return csv


def summary_of(results: Path) -> str:
    return unaligned((results / "tables/summary.partial.md").read_text())


def contents(results: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results.rglob("*") if path.is_file()}


def test_table_names_missing_cells_and_summary_has_all_tables(tmp_path, partial, make_table):
    """Of five benchmarks one is complete, one lacks cells, one its table, one all cells, and one its costs."""
    write_results(tmp_path, "msvd", "baseline", "kmedoids-s4", r1=46)
    make_table("msvd")
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
    written = partial(*names, unmade=("shapes/kmedoids/cell.json",))
    assert written == ["msrvtt", "lsmdc", "didemo", "summary"]
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {tmp_path / f"tables/{name}.partial.md" for name in written}
    assert before.items() <= after.items()

    table = (tmp_path / "tables/msrvtt.partial.md").read_text()
    assert "| token_shift (not made)" in table and "| pooling (not made)" in table
    assert "| baseline  " in table and "| baseline (not made)" not in table  # one of its two seeds is made
    for name in ("token_shift", "baseline-seed-7"):
        assert f"{name} is not made: the disk of {name} is full." in table
    assert "pooling is not made: it has not run to its end." in table
    assert "GFLOPs" not in (tmp_path / "tables/didemo.partial.md").read_text()
    judged, unjudged = summary_of(tmp_path).split("Not run here")
    for row in (
        "| msrvtt | baseline | 43.0 | 43.0 (+0.0) | holds (one run) |",
        "| msvd | baseline | 45.9 | 46.0 (+0.1) | holds (one run) |",
        "| lsmdc | baseline | 20.1 | 20.0 (-0.1) | holds (one run) |",
    ):
        assert row in judged
    assert "| activitynet | baseline | 41.8 |" in unjudged


def test_costs_of_a_missing_model_are_compared(tmp_path, partial):
    baseline, _ = write_results(tmp_path, "msrvtt", "baseline", "kmedoids-s4")
    baseline.path(layout.RESULT).unlink()
    assert partial("msrvtt") == ["msrvtt", "summary"]
    judged, unjudged = summary_of(tmp_path).split("Not run here")
    assert "400.0 -> 350.0 MB saved for backward (-12%), kmedoids-s4" in judged
    assert "| msrvtt | baseline | 43.0 |" in unjudged


@pytest.mark.slow
def test_costs_of_full_size_models_are_in_the_summary_if_measured(tmp_path, run, partial, make_table):
    """For a complete benchmark without them, only the summary is partial."""
    write_results(tmp_path, "msvd", "baseline", "kmedoids-s4")
    make_table("msvd")
    asked, costs_told = {"options": ("--full-size",)}, "it measured what the paper's models cost"
    assert partial("msvd", **asked) == ["summary"] and costs_told not in summary_of(tmp_path)
    files = layout.COMPARED, layout.COSTS, layout.TABLE
    compared, measured, out = (layout.path(file, tmp_path, benchmark=layout.FULL_SIZE) for file in files)
    write_json(compared, [model.cost_settings() for model in full_size()])
    write_json(measured, costs(*(model.variant for model in full_size())))
    run("full-size", "--cells", compared, "--costs", measured, "--out", out)
    assert partial("msvd", **asked) == []
    next(tmp_path.glob("msvd_kmedoids-s4.json")).unlink()
    assert partial("msvd") == ["msvd", "summary"] and costs_told not in summary_of(tmp_path)
    assert partial("msvd", **asked) == ["msvd", "summary"] and costs_told in summary_of(tmp_path)
    measured.unlink()  # as Snakemake does before a new measurement
    assert partial("msvd", **asked) == ["msvd", "summary"] and costs_told not in summary_of(tmp_path)


def test_nothing_is_written_if_all_is_complete_or_nothing_made(tmp_path, partial, make_table):
    assert partial("msrvtt", unmade=("msrvtt/kmedoids/cell.json",)) == []
    (cell,) = write_results(tmp_path, "msrvtt", "baseline")
    csv = make_table("msrvtt")
    assert partial("msrvtt") == []
    set_time(csv, int(cell.path(layout.RESULT).stat().st_mtime) - 1)  # the result is new
    assert partial("msrvtt") == ["msrvtt", "summary"]
