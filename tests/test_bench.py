"""The benchmark of stored frames: both sides show the same pictures, and the projection is the measured rate's.

The page of fidelity: every choice is on it, and can be made.
"""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from support.videos import make_video

from centerclip.bench import fidelity
from centerclip.bench import frames as frames_benchmark
from centerclip.command import UserError
from centerclip.config import read_config
from centerclip.video.extraction import choose


def test_both_ways_give_the_same_video(tmp_path):
    """Two seconds at 12 frames a second, of rising grey: six frames at 3 a second, four of the 24 apart."""
    video = make_video(tmp_path / "v.mp4", count=24, rate=12, size=(300, 240))
    frames_benchmark.reencode(video, tmp_path / "usual.mp4")
    usual = frames_benchmark.sample_of_mp4(tmp_path / "usual.mp4", np.random.default_rng(0))
    assert usual.shape == (12, 3, 224, 224)
    shown = np.unique(usual[:, :, -5:].mean((1, 2, 3)).round())
    assert len(shown) == 6 and np.all(np.diff(shown) == pytest.approx(40, abs=4))


def test_a_row_for_every_video_that_decodes(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = make_video(tmp_path / "good.mp4", count=24, rate=12, size=(96, 64))
    (row,) = frames_benchmark.measure([tmp_path / "broken.mp4", good], tmp_path / "out", 2).to_dict("records")
    assert row["video"] == "good.mp4" and row["seconds"] == 2
    assert min(row[name] for name in row if name.endswith(("ms", "bytes"))) > 0
    with pytest.raises(UserError, match="none of the videos decodes"):
        frames_benchmark.measure([tmp_path / "broken.mp4"], tmp_path / "out", 2)


def test_decord_is_asked_for_the_same_frames(tmp_path):
    """Of a file that it reads rightly; one that it cannot open has no times."""
    video = make_video(tmp_path / "v.mp4", count=24, rate=12, size=(96, 64))
    found = frames_benchmark.by_decord(video, lambda shown: choose(shown, 3, 0, float("nan")), lambda frame: frame)
    assert [frame[-5:].mean() for frame in found] == pytest.approx([20, 60, 100, 140, 180, 220], abs=4)
    times = frames_benchmark.decoding_ms(make_video(tmp_path / "a.mp4", codec="libsvtav1"), 1)
    assert np.isnan(times["decord_store_ms"]) and times["store_ms"] > 0 and times["search_ms"] > 0


def test_totals_are_of_the_videos_that_both_read():
    measured = {"prepare_ms": [10, 90, 7], "decord_store_ms": [20, 80, np.nan]}
    measured |= {"search_ms": [5, 5, 9], "decord_search_ms": [10, 30, np.nan]}
    assert frames_benchmark.beside_decord(pd.DataFrame(measured)) == {
        "videos_that_decord_opens": 2,
        "store_time_over_decords": 1.0,
        "search_time_over_decords": 0.25,
    }


def test_projection():
    """Two videos of 30 s together took 3 s and 6 MB: 0.1 s and 0.2 MB a second of video."""
    measured = pd.DataFrame({"seconds": [10, 20], "prepare_ms": [1000, 2000], "bytes": [2e6, 4e6]})
    row = frames_benchmark.projection(measured).set_index("benchmark").loc["MSR-VTT"]
    assert row["minutes, 8 cores"] == pytest.approx(10_000 * 15 * 0.1 / 60 / 8)
    assert row["GB"] == pytest.approx(10_000 * 15 * 0.2 / 1000)


def test_the_page_of_fidelity_has_every_choice_with_what_it_changes(tmp_path):
    """On the tiny backbone; the repository's page, of ViT-B-32, has the same lines."""
    command = [sys.executable, "-m", "centerclip.bench.fidelity", "--backbone", "tiny", "--videos", "2", "--out"]
    subprocess.run([*command, tmp_path / "page.md"], check=True, capture_output=True)
    made, ours = (path.read_text() for path in (tmp_path / "page.md", REPOSITORY / "docs/fidelity.md"))
    lines = [[line for line in page.splitlines() if line.startswith("| ")] for page in (made, ours)]
    made, ours = ([[cell.strip() for cell in line.split("|")[1:-1]] for line in page] for page in lines)
    assert [row[:5] for row in made] == [row[:5] for row in ours]
    effects = {row[0]: row[5] for row in made}
    assert all(effects[choice.what] for choice in fidelity.FOLLOWED + fidelity.DEVIATIONS if choice.effect)


@pytest.mark.parametrize("choice", fidelity.FOLLOWED + fidelity.DEVIATIONS, ids=lambda choice: choice.what)
def test_what_is_said_to_be_set_can_be_set(choice, tmp_path):
    """Each key in the column `how to switch` is one that the config takes."""
    for block in re.findall(r"`((?:training|evaluation): \{.*?\}|select: \w+)`", choice.switch):
        (tmp_path / "mine.yaml").write_text(block)
        assert read_config([tmp_path / "mine.yaml"]) != read_config([])
