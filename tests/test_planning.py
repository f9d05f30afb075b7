"""Digests of the user's captions and videos before jobs run."""

from pathlib import Path

import pandas as pd
import pytest

from centerclip.data.datasets import SPLITS, planning
from centerclip.data.datasets.manifest import in_shard

CSV = "video,split,caption\na.mp4,train,one\nb.mp4,test,two\n"


@pytest.fixture
def source(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("video")
    (tmp_path / "captions.csv").write_text(CSV)
    return {"reader": "folder", "videos": str(tmp_path), "captions": str(tmp_path / "captions.csv")}


def edit(source, old, new):
    """Edit the csv."""
    Path(source["captions"]).write_text(CSV.replace(old, new))


def test_caption_changes_only_the_digest_of_its_split(source):
    before = {split: planning.captions(source, [split]) for split in ("train", "test")}
    edit(source, "two", "three")
    after = {split: planning.captions(source, [split]) for split in ("train", "test")}
    assert after["train"] == before["train"] and after["test"] != before["test"]
    edit(source, "b.mp4,test", "b.mp4,train")
    assert planning.captions(source, ["train"]) != before["train"]


@pytest.mark.parametrize("text", ["", "video\na.mp4\n", 'video,caption\na.mp4,"one\n'])
def test_csv_with_a_mistake_has_no_digest(source, text):
    Path(source["captions"]).write_text(text)
    assert planning.captions(source) == "".join(planning.shards([(source, Path("none.csv"))], SPLITS, 3)) == ""


def test_published_benchmark_has_no_digest_before_its_manifest(tmp_path):
    source, manifest = {"reader": "msvd"}, tmp_path / "manifest.csv"
    assert planning.captions(source) == "".join(planning.shards([(source, manifest)], SPLITS, 3)) == ""
    row = ["test", "a", str(tmp_path / "a.mp4"), 0, None, "0", "one"]
    columns = ["split", "video_id", "path", "start_s", "end_s", "caption_id", "caption"]
    pd.DataFrame([row], columns=columns).to_csv(manifest, index=False)
    assert planning.captions(source) == "" and all(planning.shards([(source, manifest)], SPLITS, 3))


def test_digest_of_a_shard_changes_with_videos_not_with_captions(source, tmp_path):
    def shards(splits=SPLITS):
        planning.all_shards.cache_clear()  # kept for a run of Snakemake
        return planning.shards([(source, tmp_path / "none.csv")], splits, 8)

    before = shards()
    edit(source, "two", "three")
    assert shards() == before
    place = in_shard(pd.Series([str(tmp_path / "b.mp4")]), 8)[0]
    for change in (lambda path: path.write_text("another"), Path.unlink):
        change(tmp_path / "b.mp4")
        after = shards()
        assert [number for number in range(8) if after[number] != before[number]] == [place]
        before = after
    assert [number for number, digest in enumerate(shards(["train"])) if digest != before[number]] == [place]
