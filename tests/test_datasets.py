"""The readers `shapes`, whose videos match their captions, and `folder`, which reads a csv or names its mistake."""

import os
import re
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from centerclip.command import UserError
from centerclip.data.datasets import folder, shapes
from centerclip.data.datasets.files import files_by_stem
from centerclip.data.datasets.manifest import check_manifest, read_manifest
from centerclip.data.datasets.readers import read

COMPOSED, DECOMPOSED = "caf\u00e9.mp4", "cafe\u0301.mp4"  # the same letters
SHAPES = {"reader": "shapes", "seed": 3, "videos": {"train": 6, "val": 2, "test": 4}, "resolution": 96}


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


class TestShapes:
    @pytest.fixture(scope="class")
    def source(self, tmp_path_factory):
        out = tmp_path_factory.mktemp("shapes") / "source"
        shapes.fetch(SHAPES, out)
        return out

    def test_manifest(self, source):
        manifest = shapes.manifest(SHAPES, source)
        check_manifest(manifest, "shapes")
        assert manifest.groupby("split")["video_id"].nunique().to_dict() == {"train": 6, "val": 2, "test": 4}
        assert (manifest.groupby("video_id").size() == 4).all()
        assert manifest["caption"].is_unique
        assert all(decode(path).shape == (24, 96, 96, 3) for path in manifest["path"].unique()[:2])

    def test_the_same_seed_gives_the_same_bytes(self, source, tmp_path):
        shapes.fetch(SHAPES, tmp_path / "again")
        files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
        assert len(files) == 13
        assert all((source / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)

    def test_scenes_and_captions_are_distinct(self):
        scenes = shapes.scenes(2000, np.random.default_rng(0))
        assert len({caption for scene in scenes for caption in shapes.captions(*scene)}) == 4 * 2000

    @pytest.mark.parametrize(
        ("settings", "line"),
        [({"videos": {"train": 10**6, "val": 1, "test": 1}}, "at most"), ({"resolution": 97}, "resolution 97 is odd")],
    )
    def test_impossible_settings_are_an_error(self, settings, line, tmp_path):
        with pytest.raises(UserError, match=line):
            shapes.fetch(SHAPES | settings, tmp_path / "source")

    @pytest.mark.parametrize("motion", shapes.MOTIONS)
    def test_video_shows_what_its_caption_says(self, motion, tmp_path):
        """A red object acts first, a blue one second: where and when each is seen, by pixel colours after decoding."""
        scene = shapes.Event("large", "red", "circle", motion), shapes.Event("small", "blue", "square", motion)
        shapes.encode(shapes.render(scene, 128, np.random.default_rng(1)), tmp_path / "v.mp4")
        video = decode(tmp_path / "v.mp4")
        area = []
        for channel, half in ((0, slice(0, 12)), (2, slice(12, 24))):
            seen = video[..., channel] - video[..., 1] > 80  # [frames, y, x]
            acts, rests = seen[half], np.delete(seen, half, axis=0)
            first, last = acts[0].any(), acts[-1].any()
            assert (first, last) == {"appears": (False, True), "vanishes": (True, False)}.get(motion, (True, True))
            assert rests.any((1, 2)).all() or motion in ("appears", "vanishes")
            area.append(seen.sum((1, 2)).max())
            if motion.startswith("moves"):
                y, x = (np.array([np.argwhere(frame).mean(0)[axis] for frame in seen]) for axis in (0, 1))
                along, across = (x, y) if motion in ("moves left", "moves right") else (y, x)
                sign = 1 if motion in ("moves right", "moves down") else -1
                assert sign * (along[half][-1] - along[half][0]) > 10
                assert np.ptp(np.delete(along, half)[:12]) < 2 or np.ptp(np.delete(along, half)[-12:]) < 2
                assert np.ptp(across) < 3
        assert area[0] > 2 * area[1]  # large against small


def test_caption_becomes_one_line_and_survives_the_csv(tmp_path):
    (tmp_path / "v.mp4").touch()
    pd.DataFrame({"video": ["v.mp4"], "caption": [' a\rman,\n \t"running" ']}).to_csv(tmp_path / "c.csv", index=False)
    made = read({"reader": "folder", "videos": str(tmp_path), "captions": str(tmp_path / "c.csv")}, None)
    made.to_csv(tmp_path / "manifest.csv", index=False)
    assert read_manifest(tmp_path / "manifest.csv")["caption"].tolist() == ['a man, "running"']


def test_thumbnail_is_not_the_video(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.jpg", "a.mp4", "b/a.webm", "b/c.unusual"):
        (tmp_path / name).touch()
    assert files_by_stem(tmp_path) == {"a": str(tmp_path / "a.mp4"), "c": str(tmp_path / "b/c.unusual")}


def test_links_in_a_circle_and_recycled_videos_are_passed_over(tmp_path):
    (tmp_path / "#recycle").mkdir()
    for name in ("a.mp4", "#recycle/a.mp4"):
        (tmp_path / name).touch()
    for name in ("latest", "today"):
        (tmp_path / name).symlink_to(tmp_path)
    assert files_by_stem(tmp_path) == {"a": str(tmp_path / "a.mp4")}


class TestFolder:
    @pytest.fixture
    def directory(self, tmp_path):
        (tmp_path / "videos" / "sub").mkdir(parents=True)
        for name in ("0012.mp4", "sub/b.webm"):
            (tmp_path / "videos" / name).write_bytes(b"x")
        return tmp_path

    def read(self, directory, text, **settings):
        csv = directory / "captions.csv"
        csv.write_bytes(text if isinstance(text, bytes) else text.encode())
        settings = {"videos": str(directory / "videos"), "captions": str(csv)} | settings
        rows = folder.manifest(settings)
        check_manifest(rows, "mine")
        return rows

    def test_rows(self, directory):
        rows = self.read(
            directory,
            "video,caption,split,start_s,end_s\n"
            '0012.mp4,"one, two",train,,\n'
            "0012.mp4,again,train,,\n"
            "sub/b.webm,clip,test,1.5,4\n"
            "sub/b.webm,,test,4,\n",
        )
        assert rows["video_id"].tolist() == ["0012.mp4", "0012.mp4", "sub/b.webm[1.5-4]", "sub/b.webm[4-]"]
        assert rows["caption"].tolist() == ["one, two", "again", "clip", ""]
        assert rows["split"].tolist() == ["train", "train", "test", "test"]
        assert rows["start_s"].tolist() == [0, 0, 1.5, 4]
        assert rows["end_s"].isna().tolist() == [True, True, False, True]
        assert rows["path"].iloc[0] == str(directory / "videos/0012.mp4")

    def test_other_column_names_and_a_byte_order_mark_and_test_by_default(self, directory):
        columns = {"video": "file", "caption": "text"}
        rows = self.read(directory, b"\xef\xbb\xbffile,text\n0012.mp4,hello\n", columns=columns)
        assert rows[["split", "video_id", "caption"]].values.tolist() == [["test", "0012.mp4", "hello"]]

    def test_spaces_are_stripped_and_short_rows_are_filled(self, directory):
        text = 'split, video , caption\ntrain , 0012.mp4, "a, b"\ntest, sub/b.webm,c \ntest,sub/b.webm\n'
        rows = self.read(directory, text)
        assert rows["caption"].tolist() == ["a, b", "c", ""]
        assert rows["split"].tolist() == ["train", "test", "test"]
        assert self.read(directory, "video,caption,end_s\n0012.mp4,a\n")["end_s"].isna().all()

    def test_spellings_of_a_path_are_one_video(self, directory):
        rows = self.read(directory, "video,caption\n0012.mp4,a\n./0012.mp4,b\nsub//b.webm,c\nsub/./b.webm,d\n")
        assert rows["video_id"].tolist() == ["0012.mp4", "0012.mp4", "sub/b.webm", "sub/b.webm"]
        assert rows["path"].map(Path).nunique() == 2

    @pytest.mark.parametrize("named", [COMPOSED, DECOMPOSED])
    @pytest.mark.parametrize("there", [COMPOSED, DECOMPOSED])
    def test_composed_and_decomposed_letters_are_one_name(self, directory, named, there):
        (directory / "videos/sub" / there).touch()
        rows = self.read(directory, f"video,caption\n./sub/{named},a\n0012.mp4,b\n")
        assert rows["video_id"].tolist() == [f"sub/{COMPOSED}", "0012.mp4"]
        assert rows["path"].tolist() == [str(directory / "videos/sub" / there), str(directory / "videos/0012.mp4")]

    def test_clips_milliseconds_apart_differ(self, directory):
        rows = self.read(directory, "video,caption,start_s\n0012.mp4,a,3601.123\n0012.mp4,b,3601.124\n")
        assert rows["video_id"].tolist() == ["0012.mp4[3601.123-]", "0012.mp4[3601.124-]"]

    @pytest.mark.parametrize("name", ["0012", "{x}.mp4"])
    def test_unusual_names_are_kept(self, directory, name):
        (directory / "videos" / name).touch()
        assert self.read(directory, f"video,caption\n{name},a\n", columns=None)["video_id"].tolist() == [name]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", "captions.csv: empty"),
            ("video,caption\n", "captions.csv: no rows"),
            ("file,caption\n0012.mp4,a\n", "no column 'video' for video; it has file, caption"),
            ("video;caption\n0012.mp4;a\n", r"it has video;caption \(separate columns by commas\)"),
            ("video,text\n0012.mp4,a\n", "no column 'caption' for caption; it has video, text"),
            ("video,caption\n../x.mp4,a\n", "row 2: video '../x.mp4' is not a path inside"),
            ("video,caption\n/x.mp4,a\n", "row 2: video '/x.mp4' is not a path inside"),
            ("video,caption\n,a\n", "row 2: video '' is not a path inside"),
            ("video,caption,split\n0012.mp4,a,dev\n", "row 2: split 'dev' is not one of train, val, test"),
            ("video,caption,start_s\n0012.mp4,a,soon\n", "row 2: start_s 'soon' is not a number of seconds"),
            ("video,caption,start_s\n0012.mp4,a,-1\n", "row 2: start_s -1 and end_s nan are not the bounds"),
            ("video,caption,start_s,end_s\n0012.mp4,a,3,2\n", "row 2: start_s 3 and end_s 2 are not the bounds"),
            ("video,caption\n0012.mp4,a man, running\n", "row 2: 3 fields, but the header has 2 .*needs quotes"),
            ("video,caption,caption\n0012.mp4,a,b\n", "2 columns 'caption'; rename"),
            ('\nvideo,caption\n\n0012.mp4,"a\nb"\n  \n,\n0012.mp4,a,b\n', "row 7: 3 fields"),
            ("video,caption,split\n\n0012.mp4,a,test\n\n0012.mp4,a,dev\n", "row 5: split 'dev'"),
            ("video,caption,split\n0012.mp4,a,train\n./0012.mp4,b,test\n", "in more than one split: train and test"),
            ("video,caption\n0012.mp4,\n", "every caption is empty"),
            (b"video,caption\n0012.mp4,\xff\n", "not a csv in UTF-8"),
            (b"video,caption\n0012.mp4,a\0b\n", "not a csv in UTF-8"),
            ('video,caption\n\n0012.mp4,a\n0012.mp4,"b\n0012.mp4,c\n', "row 4: not a row of a csv: the quotes"),
        ],
    )
    def test_mistake_in_the_csv_is_one_line(self, directory, text, line):
        with pytest.raises(UserError, match=line) as error:
            self.read(directory, text)
        assert "\n" not in str(error.value)

    def test_column_of_the_config_must_exist(self, directory):
        with pytest.raises(UserError, match="no column 'fold' for split; it has video, caption"):
            self.read(directory, "video,caption\n0012.mp4,a\n", columns={"split": "fold"})

    def test_missing_directory_or_csv(self, directory):
        here = re.escape(os.getcwd())
        with pytest.raises(UserError, match=rf"nowhere \(in {here}\): no such directory of videos"):
            self.read(directory, "", videos="nowhere")
        with pytest.raises(UserError, match=rf"nowhere.csv \(in {here}\): no such csv"):
            self.read(directory, "", captions="nowhere.csv")
        with pytest.raises(UserError, match=r"^/nowhere: no such directory"):
            self.read(directory, "", videos="/nowhere")

    def test_real_clips(self, shared_clips):
        csv = shared_clips / "manifest.csv"
        rows = folder.manifest({"videos": str(shared_clips), "captions": str(csv), "columns": {"video": "file"}})
        check_manifest(rows, "clips")
        expected = pd.read_csv(csv)
        assert len(rows) == len(expected) and all(Path(path).is_file() for path in rows["path"])
        assert (rows["caption"] == "").sum() == expected["caption"].isna().sum()
