"""Audits: of a folder of videos, a row a file; of results, a line for each fault."""

from contextlib import suppress

import pandas as pd
import pytest
import torch
from support.damage import damaged
from support.numbered import FAMILIES, write
from support.training import CELL, run_in, write_cell

from centerclip import cli
from centerclip.backbones.clip import build
from centerclip.backbones.weights import save_weights
from centerclip.command import UserError, write_json
from centerclip.data.video.frames import seal
from centerclip.report import audit as results_audit
from centerclip.settings import layout
from centerclip.settings.cell import read_cell
from centerclip.train.finished import read_own


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    write(tmp_path / "videos/a.ts", FAMILIES["H.264 ts"])
    write(tmp_path / "videos/b.webp", FAMILIES["animated WebP"])
    (tmp_path / "videos/c.mp4").write_text("not a video")
    return tmp_path / "videos"


def test_a_row_for_every_file(folder, tmp_path, run):
    out = tmp_path / "audit.csv"
    printed = run("audit", folder, "--out", out)
    assert printed == "3 files: frames stored: 18, with remarks: 0, without frames: 1\n"
    rows = pd.read_csv(out).set_index("file")
    assert rows.loc["a.ts"].tolist()[:6] == ["mpegts", "h264", "pyav", 100, 4.0, 12]
    assert (rows["decoder"]["b.webp"], rows["stored"]["b.webp"]) == ("pillow", 6)
    assert rows["stored"]["c.mp4"] == 0 and rows["reason"]["c.mp4"].startswith("not a video: ")


def test_a_folder_without_videos_is_a_mistake(tmp_path, mistake):
    assert mistake(cli.main, "audit", tmp_path, "--out", tmp_path / "a.csv").startswith(f"error: {tmp_path}: no videos")


@pytest.fixture
def results(tmp_path):
    """A folder with a trained cell, its frames in a shard with checksums."""
    path = write_cell(tmp_path / "results")
    cell = read_cell(path)
    shard = cell.path(layout.FRAMES).with_name("0000.lmdb")
    report = pd.read_csv(shard.with_name("report.csv"), keep_default_na=False)
    table = report.drop(columns="shard").to_csv(index=False).encode()
    shard.with_name("0.lmdb").rename(shard)
    shard.with_suffix(".csv").write_bytes(table)
    seal(shard, shard.name, table)
    report.assign(shard=shard.name).to_csv(cell.path(layout.FRAMES), index=False)
    save_weights(build(cell.model, 0).state_dict(), "tiny", cell.path(layout.WEIGHTS))
    write_json(cell.path(layout.HISTORY), {})
    write_json(cell.path(layout.RESULT), {"settings": cell.settings()})
    run_in(cell.path(layout.CHECKPOINTS)).save()
    return tmp_path / "results"


def test_whole_results_have_no_faults(results, run):
    assert run("audit", results) == f"{results}: 7 files checked, faults: 0\n"


def test_every_fault_of_results_is_a_line(results, capsys):
    def flip(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    flip(results / "shapes/frames/56px/0000.lmdb")
    flip(results / "shapes/mine/weights.safetensors")
    flip(results / "shapes/mine/checkpoints/checkpoint.pt")
    (results / "shapes/mine/history.json").write_text("{")
    report = results / "shapes/frames/56px/report.csv"
    report.write_text("".join(report.read_text().splitlines(keepends=True)[:-3]))
    write_json(results / "shapes_mine.json", {"settings": CELL.settings() | {"seed": 1}})
    with pytest.raises(UserError, match="7 files checked, faults: 7"):
        results_audit.audit(results)
    lines = capsys.readouterr().out.splitlines()
    remake = "make it again by your snakemake command with results/shapes/"
    for line, (name, told) in zip(
        lines,
        [
            ("shapes/frames/56px/0000.lmdb", f"its checksum is wrong; delete 0000.lmdb, then {remake}"),
            ("shapes/frames/56px/report.csv", "it differs from the csv files of its shards; delete report.csv"),
            ("shapes/frames/56px/report.csv", "it lacks 2 of the 13 videos of test and train"),
            ("shapes/mine/weights.safetensors", f"wrong; delete it, then {remake}mine/weights.safetensors"),
            ("shapes/mine/history.json", "not json"),
            ("shapes/mine/checkpoints/checkpoint.pt", "damaged (BadZipFile); delete it"),
            ("shapes_mine.json", "made with other settings than"),
        ],
        strict=True,
    ):  # fmt: skip
        assert f"{results}/{name}: " in line and told in line


def test_damaged_weights_are_a_mistake_or_the_same(results):
    path = results / "shapes/mine/weights.safetensors"
    expected, content = read_own(path), path.read_bytes()
    for damage in damaged(content, 15):
        path.write_bytes(damage)
        with suppress(UserError):
            state = read_own(path)
            assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
