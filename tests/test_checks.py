"""Checks before heavy work: video files, counts and stored frames."""

import argparse

import pandas as pd
import pytest
from support.training import CELL, write_cell

from centerclip.command import UserError
from centerclip.data.datasets import checks
from centerclip.settings import layout
from centerclip.settings.cell import read_cell


@pytest.fixture
def manifest(tmp_path):
    """20 videos, half of them for training. Nine training videos and one test video are missing."""
    names = [f"v{number}.mp4" for number in range(20)]
    for name in [*names[9:10], *names[11:]]:
        (tmp_path / name).touch()
    splits = ["train"] * 10 + ["test"] * 10
    paths = [str(tmp_path / name) for name in names]
    return pd.DataFrame({"split": splits, "video_id": names, "path": paths, "start_s": 0.0, "end_s": None})


def test_too_many_missing_videos_are_one_line(manifest, tmp_path):
    there = "10 of 20 videos are there (train 1 of 10, test 9 of 10)"
    line = f"benchmark mine: {there}, first missing: 'v0.mp4', looked in {tmp_path}"
    with pytest.raises(UserError) as error:
        checks.check_files(manifest, ["train", "test"], 0.49, "mine")
    assert str(error.value) == f"{line}; max_unreadable_share allows 49.0% to miss, partial: true any number"
    (tmp_path / "v9.mp4").unlink()
    with pytest.raises(UserError, match=r"0 of 10 videos are there \(train 0 of 10\)"):
        checks.check_files(manifest, ["train"], 1.0, "mine")


def test_videos_of_other_splits_may_be_missing(manifest, capsys):
    checks.check_files(manifest, ["test"], 0.1, "mine")
    told = "benchmark mine: 9 of 10 videos are there (test 9 of 10), first missing: 'v10.mp4'"
    assert capsys.readouterr().err.startswith(told)
    with pytest.raises(UserError, match="9 of 10 videos are there"):
        checks.check_files(manifest, ["test"], 0.09, "mine")


def parsed(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    checks.add_limits(parser)
    return parser.parse_args(line.split())


def test_options_of_the_limits_of_a_benchmark():
    block = {"max_unreadable_share": 0.01, "counts": {"train": {"videos": 9, "captions": 9}, "test": {"videos": 4}}}
    given = parsed(checks.limits(block))
    assert dict(given.expect) == {"train.videos": 9, "train.captions": 9, "test.videos": 4}
    assert given.max_unreadable_share == 0.01
    assert not given.partial and parsed(checks.limits(block | {"partial": True})).partial
    assert dict(parsed(checks.limits({"max_unreadable_share": 0, "counts": None})).expect) == {}


def test_counts_and_frames_of_the_splits_of_a_cell_are_checked(tmp_path, capsys):
    cell = read_cell(write_cell(tmp_path / "results", CELL))
    report = pd.read_csv(cell.path(layout.FRAMES), dtype={"reason": object})
    report.loc[report["video_id"] == "v13", "frames"] = 0  # of split val, which the cell does not read
    report.loc[report["video_id"] == "v2", "frames"] = 0
    report.to_csv(cell.path(layout.FRAMES), index=False)
    checks.check_benchmark(cell, parsed("--max-unreadable-share 0.08 --expect train.videos=9"))
    assert capsys.readouterr().out.startswith("1 of 13 videos (7.7%) gave no frame\n  v2: ")
    with pytest.raises(UserError, match="1 of 13 videos"):
        checks.check_benchmark(cell, parsed("--max-unreadable-share 0.07"))
    report.loc[report["video_id"] == "v3", ["frames", "reason"]] = 0, "no such file"
    report.to_csv(cell.path(layout.FRAMES), index=False)
    checks.check_benchmark(cell, parsed("--max-unreadable-share 0.09 --partial"))
    assert capsys.readouterr().out.startswith("1 of 12 videos (8.3%) gave no frame\n  v2: ")
    with pytest.raises(UserError, match="9 videos in split train, where 10 are expected"):
        checks.check_benchmark(cell, parsed("--expect train.videos=10"))
