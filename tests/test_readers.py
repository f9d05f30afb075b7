"""The paper's benchmarks: manifests from small files in the published formats, and from the real files."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY

from centerclip.command import UserError
from centerclip.data.datasets import activitynet, didemo, lsmdc, msrvtt, msvd, readers
from centerclip.data.datasets.manifest import check_counts, check_manifest
from centerclip.data.download.sources import read_table, wanted
from centerclip.data.video.decoding import Shown
from centerclip.data.video.extraction import choose

TIMES = "\t00:00:01,000\t00:00:02,000\t00:00:01,000\t00:00:02,000\t"  # in a row of LSMDC

# dataset -> the files of its source as published, small; "videos" is a list of files
SMALL = {
    "msrvtt": {
        "videos": ["MSRVTT/videos/all/video0.mp4", "MSRVTT/videos/all/video1.mp4", "MSRVTT/videos/all/video9.mp4"],
        "MSRVTT_data.json": """{"videos": [{"video_id": "video0", "split": "train"}], "sentences": [
            {"caption": "first", "video_id": "video1", "sen_id": 0},
            {"caption": "other", "video_id": "video0", "sen_id": 1},
            {"caption": "second", "video_id": "video1", "sen_id": 2},
            {"caption": "json's words", "video_id": "video9", "sen_id": 3}]}""",
        "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
        "MSRVTT_train.7k.csv": "video_id\nvideo1\n",
        "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr9,video9,JSFusion's words\n",
    },
    "msvd": {
        "videos": ["YouTubeClips/-a_1_2.avi", "YouTubeClips/b_1_2.avi", "YouTubeClips/c_1_2.avi"],
        "raw-captions.pkl": pickle.dumps(
            {"-a_1_2": [["a", "cat"], ["a", "dog"]], "b_1_2": [["b"]], "c_1_2": [["c", "c"]], "d": [["unlisted"]]}
        ),
        "train_list.txt": "-a_1_2\n",
        "val_list.txt": "b_1_2",
        "test_list.txt": "c_1_2\n",
    },
    "activitynet": {
        "videos": ["Activity_Videos/v_a.mp4", "Activity_Videos/v_c.mkv"],
        "train.json": r"""{
            "v_a": {"duration": 9.5, "timestamps": [[0, 1], [1, 9]], "sentences": ["One.", "  Two\n words. "]},
            "v_b": {"duration": 3, "timestamps": [[0, 3]], "sentences": ["Gone."]}}""",
        "val_1.json": '{"v_c": {"duration": 60.0, "timestamps": [[0, 1]], "sentences": [" Three."]}}',
    },
    "didemo": {
        "videos": ["1@N00_2_ab.mov", "2@N00_3_cd.mp4", "3@N00_4_ef.avi.mp4", "3@N00_4_ef.avi"],
        "train_data.json": r"""[
            {"video": "1@N00_2_ab.mov", "description": "the cat jumps"},
            {"video": "2@N00_3_cd.", "description": "a bus"},
            {"video": "1@N00_2_ab.", "description": " the cat \n lands"}]""",
        "val_data.json": '[{"video": "4@N00_5_gh.mov", "description": "gone"}]',
        "test_data.json": '[{"video": "3@N00_4_ef.avi", "description": "a boat"}]',
    },
    "lsmdc": {
        "videos": ["0001_A_B/0001_A_B_00.00.01.000-00.00.02.000.avi", "2_C/2_C_00.00.05.500-00.00.06.000.avi"],
        "LSMDC16_annos_training.csv": f'0001_A_B_00.00.01.000-00.00.02.000{TIMES}SOMEONE says "go\n',
        "LSMDC16_annos_val.csv": f"3_D_00.00.01.000-00.00.02.000{TIMES}SOMEONE leaves.\n",
        "LSMDC16_challenge_1000_publictect.csv": f"2_C_00.00.05.500-00.00.06.000{TIMES}It rains, SOMEONE laughs.\n",
    },
}


def make_source(directory: Path, dataset: str) -> Path:
    files = SMALL[dataset]
    assert set(files) == set(wanted(read_table()[dataset]))  # the files that `sources.fetch` gives
    for name in files["videos"]:
        (directory / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / "videos" / name).touch()
    for name in set(files) - {"videos"}:
        (directory / name).write_bytes(files[name] if isinstance(files[name], bytes) else files[name].encode())
    return directory


def read(module, source, **settings):
    """(split, video_id, caption, the video's file or None) of every row."""
    manifest = readers.read({"reader": module.__name__.rpartition(".")[2]} | settings, source)
    check_manifest(manifest, "it")
    files = [Path(path).name if Path(path).is_file() else None for path in manifest["path"]]
    return list(zip(manifest["split"], manifest["video_id"], manifest["caption"], files, strict=True))


class TestSmall:
    def test_msrvtt(self, tmp_path):
        source = make_source(tmp_path, "msrvtt")
        train = [("train", "video1", "first", "video1.mp4"), ("train", "video1", "second", "video1.mp4")]
        test = [("test", "video9", "JSFusion's words", "video9.mp4")]
        assert read(msrvtt, source, train="7k") == train + test
        assert len(read(msrvtt, source, train="9k")) == 4

    @pytest.mark.parametrize(
        ("name", "content", "line"),
        [
            ("MSRVTT_JSFUSION_test.csv", b"video_id\n", "test.csv: not a csv with the columns video_id, sentence"),
            ("MSRVTT_train.9k.csv", b"", "MSRVTT_train.9k.csv: not a csv with the columns video_id .*; replace it"),
            ("MSRVTT_train.9k.csv", b"video_id\n\xff", "MSRVTT_train.9k.csv: not a csv"),
            ("MSRVTT_data.json", b"{", "MSRVTT_data.json: not json"),
        ],
    )
    def test_other_file_of_msrvtt_is_one_line(self, tmp_path, name, content, line):
        source = make_source(tmp_path, "msrvtt")
        (source / name).write_bytes(content)
        with pytest.raises(UserError, match=line) as error:
            read(msrvtt, source, train="9k")
        assert "\n" not in str(error.value)

    def test_name_that_is_not_utf_8_is_one_line(self, tmp_path):
        source = make_source(tmp_path, "msvd")
        (source / "videos/YouTubeClips").rename(os.fsdecode(bytes(source / "videos") + b"/caf\xe9"))
        with pytest.raises(UserError, match=r"/videos/caf\\udce9/-a_1_2.avi: its path is not in UTF-8; rename it"):
            read(msvd, source)

    def test_msvd(self, tmp_path):
        assert read(msvd, make_source(tmp_path, "msvd")) == [
            ("train", "-a_1_2", "a cat", "-a_1_2.avi"),
            ("train", "-a_1_2", "a dog", "-a_1_2.avi"),
            ("val", "b_1_2", "b", "b_1_2.avi"),
            ("test", "c_1_2", "c c", "c_1_2.avi"),
        ]

    def test_activitynet(self, tmp_path, capsys):
        source = make_source(tmp_path, "activitynet")
        assert read(activitynet, source) == [
            ("train", "v_a", "One. Two words.", "v_a.mp4"),
            ("train", "v_b", "Gone.", None),
            ("test", "v_c", "Three.", "v_c.mkv"),
        ]
        assert activitynet.manifest({}, source)["end_s"].tolist() == [9.5, 3, 60]
        assert "1 of 3 videos have no file in" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "content"), [("list.json", '{"a": "a.avi", "c": "c.mkv"}'), ("list.txt", "v_a\nv_c\n")]
    )
    def test_lists_of_activitynet_choose_videos(self, tmp_path, name, content):
        source, lists = make_source(tmp_path, "activitynet"), tmp_path / name
        lists.write_text(content)
        settings = {"reader": "activitynet", "lists": str(lists)}
        assert readers.read(settings, source)["video_id"].tolist() == ["v_a", "v_c"]
        lists.write_bytes(b"1" if name.endswith("json") else b"\xff")
        with pytest.raises(UserError, match=rf"{name}: not a list of names \(lists in ActivityNet's source\)$"):
            readers.read(settings, source)

    def test_list_of_other_videos_is_an_error(self, tmp_path):
        (tmp_path / "list.txt").write_text("another")
        settings = {"reader": "activitynet", "lists": str(tmp_path / "list.txt")}
        with pytest.raises(UserError, match="benchmark activitynet: no captions at all"):
            check_manifest(readers.read(settings, make_source(tmp_path, "activitynet")), "activitynet")

    def test_didemo(self, tmp_path):
        source = make_source(tmp_path, "didemo")
        assert read(didemo, source) == [
            ("train", "1@N00_2_ab", "the cat jumps the cat lands", "1@N00_2_ab.mov"),
            ("train", "2@N00_3_cd", "a bus", "2@N00_3_cd.mp4"),
            ("val", "4@N00_5_gh", "gone", None),
            ("test", "3@N00_4_ef", "a boat", "3@N00_4_ef.avi"),
        ]
        assert didemo.video_names(source) == ["1@N00_2_ab.mov", "2@N00_3_cd.", "4@N00_5_gh.mov", "3@N00_4_ef.avi"]

    def test_videos_of_didemo_end_after_the_seconds_of_the_config(self, tmp_path):
        source = make_source(tmp_path, "didemo")
        for seconds, expected in ((31, {31.0}), (None, {None})):
            manifest = readers.read({"reader": "didemo", "seconds": seconds}, source)
            assert {None if pd.isna(end) else end for end in manifest["end_s"]} == expected

    def test_videos_of_didemo_have_94_frames_as_in_the_authors_code(self, tmp_path):
        """A video of 40 s: at 3 of 30 frames a second, or re-encoded at 3 with all frames."""
        settings = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["benchmarks"]["didemo"]
        (end,) = set(readers.read(settings["source"], make_source(tmp_path, "didemo"))["end_s"])
        assert len(choose(Shown(np.arange(1200) / 30, 40.0), settings["fps"], 0, end)) == 94
        assert len(choose(Shown(np.arange(120) / 3, 40.0), None, 0, end)) == 94

    def test_lists_of_didemo_choose_descriptions(self, tmp_path):
        """The first video has two names, and one is listed."""
        source, lists = make_source(tmp_path, "didemo"), tmp_path / "lists"
        lists.mkdir()
        names = {"train": "1@N00_2_ab.\n2@N00_3_cd.\n", "val": "4@N00_5_gh.mov", "test": "3@N00_4_ef.avi"}
        for split, listed in names.items():
            (lists / f"{split}_list.txt").write_text(listed)
        settings = {"reader": "didemo", "lists": str(lists)}
        captions = readers.read(settings, source).set_index("video_id")["caption"]
        assert captions["1@N00_2_ab"] == "the cat lands" and len(captions) == 4
        (lists / "val_list.txt").unlink()
        with pytest.raises(UserError, match=r"val_list\.txt: No such file or directory \(lists in DiDeMo's source\)"):
            readers.read(settings, source)

    def test_lsmdc(self, tmp_path):
        source = make_source(tmp_path, "lsmdc")
        clips = ["0001_A_B_00.00.01.000-00.00.02.000", "3_D_00.00.01.000-00.00.02.000", "2_C_00.00.05.500-00.00.06.000"]
        assert read(lsmdc, source) == [
            ("train", clips[0], 'SOMEONE says "go', f"{clips[0]}.avi"),
            ("val", clips[1], "SOMEONE leaves.", None),
            ("test", clips[2], "It rains, SOMEONE laughs.", f"{clips[2]}.avi"),
        ]
        assert lsmdc.video_names(source) == [f"0001_A_B/{clips[0]}.avi", f"3_D/{clips[1]}.avi", f"2_C/{clips[2]}.avi"]

    def test_broken_row_of_lsmdc_is_an_error(self, tmp_path):
        source = make_source(tmp_path, "lsmdc")
        (source / "LSMDC16_annos_val.csv").write_text("a\tb\n")
        with pytest.raises(UserError, match=r"LSMDC16_annos_val.csv, row 1: 2 fields separated by tabs, expected 6"):
            lsmdc.manifest({}, source)


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


class TestPickle:
    @pytest.mark.parametrize("protocol", [0, 2, 5])
    def test_lists_dicts_and_strings(self, tmp_path, protocol):
        captions = {"a": [["x", "é" * 300], []], "b": []}
        (tmp_path / "p").write_bytes(pickle.dumps(captions, protocol=protocol))
        assert msvd.load_pickle(tmp_path / "p") == captions

    @pytest.mark.parametrize(
        "data",
        [
            *(pickle.dumps({"a": [[value]]}) for value in (Evil(), 1, 1.5, None, ("a",), {"a"}, b"a", True)),
            pickle.dumps({"a": [[Evil()]]}, protocol=0),
            *map(pickle.dumps, ({"a": "not a list"}, {"a": ["not a list"]}, [["a"]])),
            pickle.dumps({"a": [["b"]]})[:-3],
            *(b"\x80\x04\x88" * 3, b"]a.", b"(((.", b"hello", b""),
        ],
    )
    def test_other_pickles_are_errors_and_run_no_code(self, tmp_path, data, capsys):
        (tmp_path / "p").write_bytes(data)
        with pytest.raises(UserError) as error:
            msvd.load_pickle(tmp_path / "p")
        assert str(tmp_path / "p") in str(error.value) and "\n" not in str(error.value)
        assert "owned" not in capsys.readouterr().out


class TestReal:
    """The published annotation files, with empty files in place of the videos."""

    def source(self, annotations: Path, dataset: str, directory: Path, stems) -> Path:
        (directory / "videos").mkdir(parents=True)
        for stem in stems:
            (directory / "videos" / f"{stem}.mp4").touch()
        for path in (annotations / dataset).iterdir():
            (directory / path.name).symlink_to(path)
        return directory

    def counted(self, manifest, benchmark):
        check_manifest(manifest, benchmark)
        config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["benchmarks"][benchmark]
        expected = {f"{split}.{what}": n for split, block in config["counts"].items() for what, n in block.items()}
        check_counts(manifest, expected, benchmark)
        return manifest

    @pytest.mark.parametrize(("benchmark", "train"), [("msrvtt", "9k"), ("msrvtt7k", "7k")])
    def test_msrvtt(self, shared_annotations, tmp_path, benchmark, train):
        source = self.source(shared_annotations, "msrvtt", tmp_path / "s", ["video9770", "video0"])
        manifest = self.counted(msrvtt.manifest({"train": train}, source), benchmark).set_index("video_id")
        assert manifest.loc["video9770", "caption"] == "a person is connecting something to system"

    def test_msvd(self, shared_annotations, tmp_path):
        source = self.source(shared_annotations, "msvd", tmp_path / "s", ["-4wsuPCjDBc_5_15"])
        manifest = self.counted(msvd.manifest({}, source), "msvd")
        assert manifest["caption"].iloc[0] == "a squirrel is eating a peanut in it s shell"

    def test_activitynet(self, shared_annotations, tmp_path):
        known = json.loads((shared_annotations / "activitynet/video_path.json").read_text())
        source = self.source(shared_annotations, "activitynet", tmp_path / "s", [f"v_{name}" for name in known])
        manifest = self.counted(readers.read({"reader": "activitynet"}, source), "activitynet")
        assert not manifest["caption"].str.contains(r"  |\n|^ | $").any()
        gone = ~manifest["path"].map(lambda path: Path(path).is_file())
        assert gone.groupby(manifest["split"]).sum().to_dict() == {"train": 76, "test": 47}
        config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["benchmarks"]["activitynet"]
        assert gone.mean() < config["max_unreadable_share"]
        lists = str(shared_annotations / "activitynet/video_path.json")
        listed = readers.read({"reader": "activitynet", "lists": lists}, source)
        # one test video that the authors' code calls broken is in the list
        assert listed.groupby("split").size().to_dict() == {"train": 9933, "test": 4869 + 1}

    def test_didemo(self, shared_annotations, tmp_path):
        source = self.source(shared_annotations, "didemo", tmp_path / "s", ["10015567@N08_3655084291_d8b58466fa"])
        (source / "train_data.json").write_text("[]")  # not among the real files here
        manifest = readers.read({"reader": "didemo"}, source)
        for split, videos in (("val", 1065), ("test", 1004)):
            listed = {line.rsplit(".", 1)[0] for line in (source / f"{split}_list.txt").read_text().splitlines()}
            rows = manifest[manifest["split"] == split]
            assert len(rows) == videos and set(rows["video_id"]) == listed
            data = json.loads((source / f"{split}_data.json").read_text())
            words = sum(len(row["description"].split()) for row in data)
            assert rows["caption"].str.split().map(len).sum() == words
        skipped = readers.read({"reader": "didemo", "lists": str(shared_annotations / "didemo")}, source)
        for split, left_out in (("val", 71), ("test", 89)):
            data = json.loads((source / f"{split}_data.json").read_text())
            listed = set((shared_annotations / f"didemo/{split}_list.txt").read_text().split())
            assert sum(row["video"] not in listed for row in data) == left_out
            words = sum(len(row["description"].split()) for row in data if row["video"] in listed)
            assert skipped.loc[skipped["split"] == split, "caption"].str.split().map(len).sum() == words
