"""The audit of a folder: a row a file, and a frame that is not the right one is found."""

import numpy as np
import pandas as pd
import pytest
from support.numbered import FAMILIES, write

from centerclip import cli
from centerclip.video import audit, decoding
from centerclip.video.decoding import Shown


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    write(tmp_path / "videos/a.ts", FAMILIES["H.264 ts"])
    write(tmp_path / "videos/b.webp", FAMILIES["animated WebP"])
    (tmp_path / "videos/c.mp4").write_text("not a video")
    return tmp_path / "videos"


def test_a_row_for_every_file(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "audit.csv"
    monkeypatch.setattr("sys.argv", ["centerclip", "audit", str(folder), "--out", str(out), "--size", "56"])
    cli.main()
    assert capsys.readouterr().out == (
        "3 files: 2 give 18 frames, of which (and of those that search takes) 0 are not what a decode from front to end"
        " shows; with remarks: 0, without frames: 1\n"
    )
    rows = pd.read_csv(out).set_index("file")
    ts = rows.loc["a.ts"]
    assert (ts["container"], ts["codec"], ts["decoder"]) == ("mpegts", "h264", "pyav")
    counts = {"frames": 100, "seconds": 4, "gaps": 0, "stored": 12, "searched": 12, "wrong": 0}
    assert {name: ts[name] for name in counts} == counts
    assert (rows["decoder"]["b.webp"], rows["stored"]["b.webp"]) == ("pillow", 6)
    assert rows["stored"]["c.mp4"] == 0 and rows["reason"]["c.mp4"].startswith("not a video: ")


def test_a_wrong_frame_is_found(folder, monkeypatch):
    """As if the packets' times were a tenth of a second late, and nobody looked at the frames' own."""
    plan = decoding.Video.planned

    def late(self):
        stamps, shown = plan(self)
        return stamps, Shown(np.concatenate([[0], shown.starts[1:] + 0.1]), shown.end)

    monkeypatch.setattr(decoding.Video, "planned", late)
    monkeypatch.setattr(decoding, "SPARING", {("h264", "mpegts")})
    row = audit.audit("a.ts", decoding.idle, folder, 3, 56)
    assert row["wrong"] == 12  # those of search; what is stored was decoded a second time


def test_wrong_frames_are_an_error_after_the_rows_are_written(folder, tmp_path, mistake, monkeypatch):
    here = lambda work, files, *_: ((name, work(name, decoding.idle)) for name in files)  # noqa: E731
    monkeypatch.setattr(audit, "watched", here)
    monkeypatch.setattr(audit, "different", lambda frames, right: len(frames))
    line = mistake(cli.main, "audit", folder, "--out", tmp_path / "audit.csv", "--size", 56)
    assert line.startswith("error: 3 files: 2 give 18 frames, of which (and of those that search takes) 24 are not")
    assert pd.read_csv(tmp_path / "audit.csv")["wrong"].sum() == 24


def test_a_mistake_is_one_line(tmp_path, mistake):
    assert mistake(cli.main, "audit", tmp_path, "--out", tmp_path / "a.csv").startswith(f"error: {tmp_path}: no videos")
