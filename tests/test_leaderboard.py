"""Results travel as a zip, and are compared with other people's and the paper's where they are of the same data."""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from support.results import CONFIG, PAPER_CSV, make_result, write_results

from centerclip import cli
from centerclip.command import UserError
from centerclip.evaluate import ranks
from centerclip.report import export, leaderboard
from centerclip.settings import layout
from centerclip.settings.config import cell

CELL = cell(CONFIG, "msrvtt", "kmedoids")
NAME = "results/msrvtt_kmedoids.json"


def result(r1: float = 43, provenance: dict | None = None, counts: dict | None = None, **changes) -> dict:
    """A result on as many videos as the paper's, of kmedoids with `changes` of its cell."""
    made = make_result(replace(CELL, **changes), r1)
    return made | {"n_videos": 1000} | (counts or {}) | {"provenance": made["provenance"] | (provenance or {})}


def zipped(path: Path, *results: dict, **members: bytes) -> Path:
    """A zip as `export` makes it, of results, or with further members."""
    files = {export.MANIFEST: b'{"schema": 1}'}
    files |= {f"results/msrvtt_{number}.json": json.dumps(content).encode() for number, content in enumerate(results)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | members).items():
            archive.writestr(name, content)
    return path


def told(tmp_path: Path, ours: dict, *others: dict) -> tuple[list, list[str]]:
    """The lines of the board of mine.zip and theirs.zip, and what was left out."""
    zips = [zipped(tmp_path / "mine.zip", ours), zipped(tmp_path / "theirs.zip", *others)]
    lines, _, left_out = leaderboard.compared(zips)
    return lines, left_out


@pytest.fixture
def folder(tmp_path) -> Path:
    """A results folder of two cells, with weights."""
    for made in write_results(tmp_path / "results", "msrvtt", "baseline", "kmedoids"):
        made.path(layout.WEIGHTS).write_text("weights")
    return tmp_path / "results"


def test_a_zip_has_results_and_costs_and_no_weights_and_equal_results_make_equal_zips(folder, tmp_path, run):
    assert run("export", folder, "--out", tmp_path / "a.zip") == f"{tmp_path}/a.zip: 2 results, 0 ranks, 1 costs\n"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = set(archive.namelist()) - {export.CRATE, export.WORKFLOW}
        assert archive.read(NAME) == (folder / "msrvtt_kmedoids.json").read_bytes()
        manifest = json.loads(archive.read("manifest.json"))
    assert names == {"manifest.json", "results/msrvtt/costs.json", "results/msrvtt_baseline.json", NAME}
    assert manifest["schema"] == 1 and manifest["counts"] == {"results": 2, "ranks": 0, "costs": 1}
    (folder / "msrvtt_kmedoids.json").touch()
    run("export", folder, "--out", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_crate_describes_the_workflow_and_every_file(folder, tmp_path, run):
    pytest.importorskip("rocrate")
    run("export", folder, "--out", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        entities = {entity["@id"]: entity for entity in json.loads(archive.read(export.CRATE))["@graph"]}
        assert set(archive.namelist()) <= entities.keys()
        assert archive.read("Snakefile") == (REPOSITORY / "Snakefile").read_bytes()
    assert entities["./"]["mainEntity"] == {"@id": "Snakefile"}
    assert "ComputationalWorkflow" in entities["Snakefile"]["@type"]


def test_one_table_of_the_paper_mine_and_theirs(tmp_path, run):
    """Theirs has another name, two seeds, another device and another learning rate."""
    training = replace(CELL.training, lr=0.5)
    seeds = [
        result(r1, {"device": "a GPU"}, variant="same", seed=seed, training=training)
        for seed, r1 in enumerate([40, 42])
    ]
    mine = zipped(tmp_path / "mine.zip", result(), result(variant="none", model=replace(CELL.model, stages=())))
    theirs = zipped(tmp_path / "theirs.zip", *seeds)
    printed = run("leaderboard", mine, theirs, PAPER_CSV, "--out", tmp_path / "all")
    table = pd.read_csv(tmp_path / "all.csv").set_index("variant")
    paper = pd.read_csv(PAPER_CSV).query("benchmark == 'msrvtt' and variant == 'kmedoids-s4'").iloc[0]
    row = table.loc["kmedoids"]
    assert (row["paper t2v R@1"], row["mine t2v R@1"], row["theirs t2v R@1"]) == (paper["t2v R@1"], 43, 41)
    assert row["theirs t2v R@1 std"] == pytest.approx(2**0.5)
    assert (row["mine seeds"], row["theirs seeds"], row["theirs device"]) == (1, 2, "a GPU")
    assert row["settings that differ"] == "training.lr 5e-06 / 0.5"
    assert list(table.index) == ["kmedoids", "none"] and pd.isna(table.loc["none", "theirs t2v R@1"])
    assert all(part in printed for part in ("41.0 ± 1.4", "a CPU / a GPU", "1 / 2", "training.lr 5e-06 / 0.5"))
    assert (tmp_path / "all.md").read_text() == printed


def test_a_folder_and_its_zip_are_one_source(folder, tmp_path, run):
    run("export", folder, "--out", tmp_path / "a.zip")
    lines, names, left_out = leaderboard.compared([folder, tmp_path / "a.zip", folder / "msrvtt_kmedoids.json"])
    assert names == ["results", "a", "msrvtt_kmedoids"] and left_out == []
    assert [[row["t2v R@1"] for row in line.values()] for line in lines] == [[43, 43], [43, 43, 43]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": {"n_texts": 999}}, "999 captions, not 1,000"),
        ({"counts": {"n_videos": 990}}, "990 videos, not 1,000"),
        ({"provenance": {"data_revision": "b"}}, "another test split: its captions or video ids differ (b, not a)"),
        ({"data": replace(CELL.data, frames=16)}, "16 frames a video, not 12"),
    ],
)
def test_what_does_not_compare_is_left_out_with_the_reason(tmp_path, change, reason):
    baseline = {"variant": "baseline", "model": replace(CELL.model, stages=())}
    lines, left_out = told(tmp_path, result(), result(**change), result(**baseline))
    assert left_out == [f"theirs: msrvtt: {reason}; left out: kmedoids"]
    assert [list(line) for line in lines] == [["mine"], ["theirs"]]


def test_an_old_result_without_a_digest_is_compared_by_counts_and_a_sentence_says_so(tmp_path):
    lines, left_out = told(tmp_path, result(), result(provenance={"data_revision": None}))
    assert [list(line) for line in lines] == [["mine", "theirs"]] and left_out == []
    assert leaderboard.for_people(lines, ["mine", "theirs"])[2].endswith("compared by its counts alone: theirs.")


def test_the_paper_is_left_out_where_many_test_videos_are_missing_and_a_few_are_named(tmp_path, run):
    mine = zipped(tmp_path / "mine.zip", result(counts={"n_videos": 900}))
    lines, _, left_out = leaderboard.compared([mine, PAPER_CSV])
    assert left_out == ["paper: msrvtt: 1,000 videos, not 900; left out"] and list(lines[0]) == ["mine"]
    zipped(mine, result(counts={"n_videos": 990}))
    assert "| kmedoids (on 990 of 1,000 videos) |" in run("leaderboard", mine, PAPER_CSV)


def test_sources_that_do_not_compare_are_a_mistake(tmp_path, mistake):
    mine, theirs = (zipped(tmp_path / f"{n}.zip", result(counts={"n_texts": n})) for n in (1, 2))
    assert mistake(cli.main, "leaderboard", mine, theirs) == "error: nothing compares: no model is in two sources"
    assert mistake(cli.main, "leaderboard", PAPER_CSV).endswith("and at least one zip or folder")
    assert mistake(cli.main, "leaderboard", mine, mine) == f"error: {mine}: this source is given twice; give it once"


def ranks_file(directory: Path, rank: list[int]) -> bytes:
    """A file of ranks, the same in both directions."""
    ids = np.array([f"video{number}" for number in range(len(rank))])
    found = ranks.Ranks(ids, ids, *[np.array(rank, np.int32)] * 3, ids)
    ranks.write(directory / "x.npz", dict.fromkeys(ranks.DIRECTIONS, found))
    return (directory / "x.npz").read_bytes()


def places(node: object, keys: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to each value below a node of json."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
        yield (*keys, key)
        yield from places(value, (*keys, key))


def test_ranks_have_to_give_the_recalls(tmp_path):
    scores, ranks_name = {"R@1": 50, "R@5": 75, "R@10": 75, "MdR": 3, "MnR": 8}, "results/msrvtt_0.ranks.npz"
    both = {direction: scores for direction in ranks.DIRECTIONS}
    made, path = result() | both | {"published": both}, tmp_path / "a.zip"
    leaderboard.read(zipped(path, made, **{ranks_name: ranks_file(tmp_path, [1, 1, 5, 30])}))
    zipped(path, made, **{ranks_name: ranks_file(tmp_path, [1, 2, 5, 30])})
    with pytest.raises(UserError, match=r"a\.zip: results/msrvtt_0\.json: t2v R@1 is 50, but its ranks give 25\.0"):
        leaderboard.read(path)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"results/a_b.json": b"{"}, "a.zip: results/a_b.json: not json: "),
        ({"results/a_b.json": b"[" * 100_000}, "a.zip: results/a_b.json: not json: "),
        ({"results/a_b.json": b"{}"}, "a.zip: results/a_b.json: not the results of a cell: KeyError: 'settings'"),
        (
            {"results/a_b.json": json.dumps(result(provenance={"versions": [1]})).encode()},
            "a.zip: not results of cells: AttributeError: ",
        ),
        ({"results/a_b.json": b" " * (export.LARGEST + 1)}, "a.zip: results/a_b.json: damaged: ValueError: "),
        ({"results/a/b_c.json": b"{}"}, "a.zip: not a zip of `centerclip export`, "),
        ({export.MANIFEST: b'{"schema": 2}', "results/a_b.json": b"{}"}, "a.zip: its format is 2, and "),
        (
            {"results/a_b.json": json.dumps(result()).encode(), "results/a_b.ranks.npz": b"no npz"},
            "a.zip: results/a_b.ranks.npz: damaged: BadZipFile: ",
        ),
    ],
)
def test_a_bad_member_is_named(tmp_path, monkeypatch, members, problem):
    monkeypatch.chdir(tmp_path)
    zipped(Path("a.zip"), **members)
    with pytest.raises(UserError) as told:
        leaderboard.read(Path("a.zip"))
    assert str(told.value).startswith(problem) and "\n" not in str(told.value)


def test_pickles_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "loads", None)
    file = io.BytesIO()
    np.savez(file, caption_ids=np.array([object], object))
    path = zipped(tmp_path / "a.zip", result(), **{"results/msrvtt_0.ranks.npz": file.getvalue()})
    with pytest.raises(UserError, match="not a whole file of ranks"):
        leaderboard.read(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_may_take_any_memory_is_refused(tmp_path, packing):
    path = zipped(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("results/a_b.json", b"{}", packing)
    with pytest.raises(UserError, match="packed by method"):
        leaderboard.read(path)


def test_every_damaged_byte_is_one_line_or_no_harm(tmp_path):
    path = zipped(tmp_path / "a.zip", result())
    whole = path.read_bytes()
    for place in [*range(0, 400, 7), *range(len(whole) - 400, len(whole), 3)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            leaderboard.read(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")


@pytest.mark.slow
def test_any_value_in_a_result_is_one_line_or_no_harm(tmp_path):
    odd = [None, [], {}, "x|\x1b\n", -1, math.inf, [[1]], 10**30]
    mine, theirs = zipped(tmp_path / "mine.zip", result()), tmp_path / "theirs.zip"
    whole = json.dumps(result(provenance={"versions": {"centerclip": "1"}}))
    for number, keys in enumerate([*places(json.loads(whole))][::4]):
        changed = node = json.loads(whole)
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = odd[number % len(odd)]
        try:
            lines, names, _ = leaderboard.compared([mine, zipped(theirs, changed)])
        except UserError as error:
            assert str(error).startswith(f"{theirs}: ")
        else:
            assert "\x1b" not in "".join(leaderboard.for_people(lines, names)[0].text.astype(str).sum())


def test_a_result_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.zip: it has two results of kmedoids, seed 42"):
        leaderboard.read(zipped(tmp_path / "a.zip", result(), result()))
