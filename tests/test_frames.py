"""Stored frames: which frames are chosen, how they are stored, damage to shards, and what is decoded again."""

import argparse
import io
import multiprocessing
import resource
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.damage import damaged
from support.videos import make_video
from torchvision import transforms

from centerclip import cli
from centerclip.command import FAILED, UserError, add_log
from centerclip.commands import frames as command
from centerclip.data.datasets.manifest import COLUMNS, in_shard
from centerclip.data.video import frames, shards
from centerclip.data.video.decoding import Shown, idle
from centerclip.data.video.extraction import choose, extract, squared
from centerclip.data.video.frames import FrameStore
from centerclip.data.video.reading import MachineFault
from centerclip.data.video.shards import combine, unreadable, write_shard
from centerclip.settings import revisions

NAN = float("nan")


def levels(jpegs):
    """The grey level of each picture's lower half."""
    return [round(float(np.asarray(Image.open(io.BytesIO(data)))[-5:].mean())) for data in jpegs]


def whole(*paths):
    """The rows of whole videos, named by their files."""
    rows = [(Path(path).name, str(path), 0.0, NAN) for path in paths]
    return pd.DataFrame(rows, columns=["video_id", "path", "start_s", "end_s"])


def manifest_of_one(directory):
    """A manifest of one test video without captions."""
    make_video(directory / "v.mp4")
    row = ["test", "v", str(directory / "v.mp4"), 0, None, "0", ""]
    pd.DataFrame([row], columns=list(COLUMNS)).to_csv(directory / "manifest.csv", index=False)


def edit(path, first_s, length_s):
    """Make an mp4 play only `length_s` seconds from `first_s` on, without re-encoding."""
    data = bytearray(path.read_bytes())
    ticks = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]  # a second
    length, first = data.index(b"elst") + 12, data.index(b"elst") + 16
    struct.pack_into(">I", data, length, round(1000 * length_s))
    struct.pack_into(">i", data, first, struct.unpack_from(">i", data, first)[0] + round(ticks * first_s))
    path.write_bytes(data)


def test_every_frame_is_stored_without_loss_with_fps_all(tmp_path):
    """Also the authors' bounds of a clip, which include a frame at its end."""
    path = make_video(tmp_path / "v.mp4", count=10, size=(64, 56), rate=3)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24")[:, 4:60] for frame in container.decode(video=0)]
    whole, clip = extract(path, [(0, NAN), (1, 2)], None, 56)
    pictures = [np.asarray(Image.open(io.BytesIO(data))) for data in whole.frames]
    assert len(pictures) == 10 and all(map(np.array_equal, pictures, decoded))
    assert clip.frames == whole.frames[3:7]


TENTHS = np.arange(20) / 10  # ten frames a second for two seconds


@pytest.mark.parametrize(
    ("starts", "end", "fps", "part", "expected"),
    [
        (TENTHS, 2, 2, (0, NAN), [2, 7, 12, 17]),  # at 0.25, 0.75, 1.25, 1.75 s
        (TENTHS, 2, 2, (0.5, 1.5), [7, 12]),
        (TENTHS, 2, 2, (1, NAN), [12, 17]),
        (TENTHS, 2, 2, (1, 99), [12, 17]),
        (TENTHS, 2, 2, (2, NAN), []),
        (TENTHS, 2, 10, (0, NAN), [*range(20)]),
        (TENTHS, 2, 1, (0, 0.8), [5]),  # at 0.5 s
        (TENTHS, 2, 1, (0, 1.5), [5]),  # but not at 1.5 s, the end
        (TENTHS[:2], 0.2, 20, (0, NAN), [0, 0, 1, 1]),  # more often than there are frames
        (TENTHS[:5], 0.5, 1, (0, NAN), [2]),  # the middle of a short video
        ([0.0], 1 / 3, 3, (0, NAN), [0]),
        (np.arange(30) / 30, 1, 3, (0, NAN), [5, 15, 25]),  # frame 5 starts at 1/6 s exactly
        ([0.0, 1.2, 1.3, 1.4], 1.9, 1, (0, NAN), [0, 3]),  # one long frame, then a burst: time counts, not frames
        ([0.0, 0.5], 4, 1, (0, NAN), [1, 1, 1, 1]),  # the last frame is shown until the end
    ],
)
def test_chosen_frames_are_shown_in_the_middle_of_each_span(starts, end, fps, part, expected):
    assert choose(Shown(np.array(starts), end), fps, *part).tolist() == expected


def near(levels):
    return pytest.approx(levels, abs=3)


class TestExtract:
    def test_clips_of_one_file(self, tmp_path):
        path = make_video(tmp_path / "v.mp4")
        whole, part, none = extract(path, [(0, NAN), (0.5, 1.5), (50, 60)], 2, 32)
        assert (whole.decoder, whole.reason) == ("pyav", "") and levels(whole.frames) == near([20, 70, 120, 170])
        assert {Image.open(io.BytesIO(data)).size for data in whole.frames} == {(32, 32)}
        assert part.frames == whole.frames[1:3]
        assert none == ([], "pyav", "nothing is shown between start_s 50 and end_s 60")

    @pytest.mark.parametrize(("first_s", "length_s", "expected"), [(0.7, 1.3, [90, 140]), (0, 1.0, [20, 70])])
    def test_edit_list_of_an_mp4_is_applied(self, tmp_path, first_s, length_s, expected):
        path = make_video(tmp_path / "v.mp4", g="10", bf="2")
        edit(path, first_s, length_s)
        pictures = extract(path, [(0, NAN)], 2, 32)[0].frames
        assert levels(pictures)[: len(expected)] == pytest.approx(expected, abs=12)
        assert len(set(levels(pictures))) == len(pictures)

    def test_damaged_time_stamps_do_not_fill_the_disk(self, tmp_path):
        """By the mp4, its first frame is shown for 2^31 ticks, of 10,240 a second."""
        path = make_video(tmp_path / "v.mp4", bf="0")
        data = bytearray(path.read_bytes())
        struct.pack_into(">II", data, data.index(b"stts") + 12, 1, 1 << 31)
        path.write_bytes(data)
        ((frames, _, reason),) = extract(path, [(0, NAN)], 10, 32)
        assert not frames and reason.startswith("damaged: 2,097,")

    def test_missing_file_has_a_reason(self, tmp_path):
        assert extract(tmp_path / "absent.mp4", [(0, 1), (2, 3)], 2, 32) == [([], "", "no such file")] * 2

    def test_real_clips_good_and_broken(self, shared_clips):
        known = pd.read_csv(shared_clips / "manifest.csv").set_index("file")
        for name, row in known.iterrows():
            ((pictures, _, reason),) = extract(shared_clips / name, [(0, NAN)], 3, 56)
            if row["decodes_cleanly"] == "yes":
                assert len(pictures) == pytest.approx(3 * row["duration_s"], abs=1.6) and not reason, name
            else:
                assert pictures or reason, name

    @pytest.mark.parametrize("shape", [(80, 121), (427, 240), (30, 20), (33, 33)])
    def test_squared_is_clips_preprocessing(self, shape):
        picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
        resize = transforms.Resize(40, transforms.InterpolationMode.BICUBIC)
        expected = transforms.CenterCrop(40)(resize(Image.fromarray(picture)))
        assert np.array_equal(np.asarray(squared(picture, 40)), np.asarray(expected))


class TestShards:
    @pytest.fixture
    def store(self, tmp_path):
        for name, count in (("a", 20), ("b.mp4", 10)):
            make_video(tmp_path / "v.mp4", count).rename(tmp_path / name)
        clips = whole(tmp_path / "a", tmp_path / "b.mp4", tmp_path / "c")
        for shard in (0, 1):
            write_shard(clips[shard::2], 2, 32, tmp_path / f"out/{shard:04d}.lmdb")
        report = combine([tmp_path / "out/0000.csv", tmp_path / "out/0001.csv"], tmp_path / "out")
        report.to_csv(tmp_path / "out/report.csv", index=False)
        return FrameStore(tmp_path / "out/report.csv")

    @pytest.fixture
    def directory(self, store, tmp_path):
        return tmp_path / "out"

    def test_random_access(self, store):
        assert store.counts == {"a": 4, "b.mp4": 2}
        names = sorted(path.name for path in store.path.parent.iterdir())
        assert names == ["0000.csv", "0000.lmdb", "0001.csv", "0001.lmdb", "report.csv"]
        read = store.read("a", [3, 0, 3])
        assert (read.shape, read.dtype) == ((3, 3, 32, 32), np.uint8)
        assert read[:, :, -5:].mean((1, 2, 3)) == pytest.approx([170, 20, 170], abs=3)
        with pytest.raises(KeyError, match="has 4 frames"):
            store.read("a", [4])

    def test_reading_k_frames_decodes_k_frames(self, store, monkeypatch):
        opened = []
        monkeypatch.setattr(frames, "picture", lambda data: opened.append(1) or np.zeros((32, 32, 3), np.uint8))
        store.read("a", [1, 2])
        assert len(opened) == 2

    @pytest.mark.parametrize("name", ["0000.lmdb", "0000.csv", "report.csv"])
    def test_damaged_shard_is_an_error_or_reads_the_same(self, store, directory, name):
        def read(store):
            return {video: store.read(video, range(count)).tobytes() for video, count in store.counts.items()}

        manifest = pd.DataFrame({"split": "test", "video_id": ["a", "b.mp4", "c"]})
        expected, content, mistakes = read(store), (directory / name).read_bytes(), 0
        for damage in damaged(content, 60):
            frames.open_shard.cache_clear()
            (directory / name).write_bytes(damage)
            try:
                opened = FrameStore(directory / "report.csv")
                frames.check_complete(manifest, opened.report, ["test"], opened.path)
                assert read(opened) == expected
            except UserError as error:
                assert str(error).startswith(f"{directory}/0000.lmdb" if name != "report.csv" else str(directory))
                mistakes += 1
        assert mistakes > 40  # zeros may replace zeros, and the decoder's name in the report may change
        (directory / "0000.lmdb").unlink()
        with pytest.raises(UserError, match=r"stored frames cannot be read"):
            FrameStore(directory / "report.csv")

    @pytest.mark.parametrize("suffixes", [[".lmdb"], [".csv"], [".lmdb", ".csv"]])
    def test_shard_copied_over_another_is_named(self, directory, suffixes):
        for suffix in suffixes:
            shutil.copy(directory / f"0000{suffix}", directory / f"0001{suffix}")
        with pytest.raises(UserError, match=r"0001.lmdb: .* it does not belong to 0001.csv .*; delete 0001.lmdb, then"):
            FrameStore(directory / "report.csv")

    def test_shard_of_other_settings_is_named(self, directory, tmp_path):
        write_shard(whole(tmp_path / "b.mp4"), 5, 32, tmp_path / "5fps/0001.lmdb")
        for suffix in (".lmdb", ".csv"):
            shutil.copy(tmp_path / f"5fps/0001{suffix}", directory)
        agrees = r"report.csv: .* it does not agree with 0001.csv; delete report.csv and 0001.lmdb, then make it again"
        with pytest.raises(UserError, match=agrees):
            FrameStore(directory / "report.csv")

    def test_shard_without_checksums_is_read_unless_it_is_truncated(self, store, directory):
        before = store.read("a", [0, 1, 2, 3])
        shard = directory / "0000.lmdb"
        shard.write_bytes(shard.read_bytes()[: -frames.SEAL.size])
        frames.open_shard.cache_clear()
        assert np.array_equal(FrameStore(directory / "report.csv").read("a", [0, 1, 2, 3]), before)
        shard.write_bytes(shard.read_bytes()[:-4096])
        frames.open_shard.cache_clear()
        with pytest.raises(UserError, match=r"0000.lmdb: .* it is cut short: [\d,]+ of [\d,]+ bytes; delete 0000.lmdb"):
            FrameStore(directory / "report.csv")

    def test_shard_takes_little_address_space_and_grows(self, directory, tmp_path):
        """Readers may have a limit, `ulimit -v`."""
        assert frames.open_shard(directory / "0000.lmdb").info()["map_size"] <= 1 << 24
        with frames.lmdb.open(str(tmp_path / "s.lmdb"), subdir=False, lock=False, map_size=1 << 16) as shard:
            shards.put(shard, "v", [bytes([number]) * 60_000 for number in range(5)])
        with frames.open_shard(tmp_path / "s.lmdb").begin() as transaction:
            assert [transaction.get(frames.key("v", number))[0] for number in range(5)] == [0, 1, 2, 3, 4]

    def test_report_without_a_video_of_the_manifest_is_an_error(self, store):
        manifest = pd.DataFrame({"split": ["train", "test", "test", "test"], "video_id": ["x", "a", "b.mp4", "c"]})
        frames.check_complete(manifest, store.report, ["test"], store.path)  # c gave no frame, for a reason
        told = r"report.csv: .*: it lacks 2 of the 4 videos of test and train \(first missing: 'x'\); delete report"
        with pytest.raises(UserError, match=told):
            frames.check_complete(manifest, store.report[:2], ["test", "train"], store.path)
        with pytest.raises(UserError, match="it lacks 1 of the 3 videos of test"):
            frames.check_complete(manifest, store.report.assign(reason=""), ["test"], store.path)

    def test_videos_without_frames_are_named_and_too_many_are_an_error(self, directory):
        report = combine([directory / "0000.csv", directory / "0001.csv"], directory)
        named = "1 of 3 videos (33.3%) gave no frame"
        assert unreadable(report, {"a", "b.mp4", "c"}, 0.34) == [named, "  c: no such file"]
        with pytest.raises(UserError) as error:
            unreadable(report, {"a", "b.mp4", "c"}, 0.33)
        assert str(error.value).splitlines() == [
            f"{named}, more than the 33.0% that max_unreadable_share allows:",
            "  c: no such file",
        ]
        assert unreadable(report, {"a", "b.mp4"}, 0) == ["0 of 2 videos (0.0%) gave no frame"]

    def test_store_works_in_worker_processes(self, store):
        store.read("a", [0])
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                assert np.array_equal(pool.apply(store.read, ("a", [3])), store.read("a", [3]))

    def test_next_run_makes_a_shard_again_that_the_machine_failed_to_read(self, tmp_path, monkeypatch):
        """The workflow's rule depends on the file LOG.failed, which the command touches."""
        log, failed = tmp_path / "log", tmp_path / f"log{FAILED}"
        manifest_of_one(tmp_path)
        parser = argparse.ArgumentParser()
        command.options(parser)
        add_log(parser)
        words = f"{tmp_path}/0000.lmdb --shards 1 --fps 2 --size 32 --log {log} --manifests {tmp_path}/manifest.csv"
        for well in (False, True):

            def watched(work, items, *_, well=well):
                for item in items:
                    yield item, work(item, idle) if well else MachineFault("Input/output error")

            monkeypatch.setattr(shards, "watched", watched)
            command.job(parser.parse_args(words.split()))
            assert failed.exists() != well
            failed.unlink(missing_ok=True)
        assert pd.read_csv(tmp_path / "0000.csv")["frames"].tolist() == [4]

    @pytest.mark.parametrize(("free", "reason"), [(0, "No space left on device"), (1 << 40, "Input/output error")])
    def test_full_disk_is_named(self, tmp_path, monkeypatch, free, reason):
        """A limit of file sizes makes writes as short as a full disk does."""
        path, usage = make_video(tmp_path / "v.mp4"), shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shards.shutil, "disk_usage", lambda _: usage)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, limits[1]))
        try:
            with pytest.raises(OSError, match=rf"{reason}: .*/0000.lmdb"):
                write_shard(whole(path), 10, 56, tmp_path / "0000.lmdb")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]

    def test_benchmarks_that_share_frames_must_agree_about_their_clips(self, tmp_path, mistake):
        manifest_of_one(tmp_path)
        other = pd.read_csv(tmp_path / "manifest.csv").assign(end_s=1.0)
        other.to_csv(tmp_path / "other.csv", index=False)
        words = f"frames {tmp_path}/0000.lmdb --shards 1 --fps 2 --size 32 --manifests"
        line = mistake(cli.main, *words.split(), tmp_path / "manifest.csv", tmp_path / "other.csv")
        assert line.endswith("share these frames (`dataset` in the config): video_id 'v' stands for several clips")

    def test_name_too_long_for_a_key_is_an_error(self, tmp_path):
        with pytest.raises(UserError, match="longer than 504 bytes"):
            write_shard(whole("x" * 600), 2, 32, tmp_path / "0000.lmdb")


class TestChange:
    """A shard made again decodes changed videos and keeps the frames of the others."""

    @pytest.fixture
    def clips(self, tmp_path):
        for number in range(3):
            make_video(tmp_path / f"{number}.mp4", count=10 * (number + 1))
        files = (tmp_path / f"{number}.mp4" for number in range(4))
        return whole(*files).assign(video_id=["a.mp4", "a.mp4/b", "c.mp4", "gone.mp4"])

    @pytest.fixture
    def decoded(self, monkeypatch):
        """The names of the files that were decoded since the last call."""
        names = []

        def here(work, items, *_):
            for item in items:
                names.append(Path(item[0]).name)
                yield item, work(item, idle)

        def look():
            found = names[:]
            names.clear()
            return found

        monkeypatch.setattr(shards, "watched", here)
        return look

    def counts(self, tmp_path):
        frames.open_shard.cache_clear()
        report = combine([tmp_path / "0000.csv"], tmp_path)
        report.to_csv(tmp_path / "report.csv", index=False)
        store = FrameStore(tmp_path / "report.csv")
        assert all(len(store.read(name, range(count))) == count for name, count in store.counts.items())
        return report.set_index("video_id")["frames"].to_dict()

    def test_replaced_repaired_deleted_and_new_files(self, clips, decoded, tmp_path):
        shard = tmp_path / "0000.lmdb"
        write_shard(clips, 2, 32, shard)
        assert self.counts(tmp_path) == {"a.mp4": 2, "a.mp4/b": 4, "c.mp4": 6, "gone.mp4": 0}
        assert decoded() == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
        make_video(tmp_path / "0.mp4", count=20)
        make_video(tmp_path / "3.mp4", count=10)
        (tmp_path / "2.mp4").unlink()
        before = shard.read_bytes()
        write_shard(clips, 2, 32, shard)
        assert self.counts(tmp_path) == {"a.mp4": 4, "a.mp4/b": 4, "c.mp4": 0, "gone.mp4": 2}
        assert decoded() == ["0.mp4", "2.mp4", "3.mp4"] and shard.read_bytes() != before
        write_shard(clips.iloc[:2], 2, 32, shard)
        assert decoded() == [] and self.counts(tmp_path) == {"a.mp4": 4, "a.mp4/b": 4}

    def test_shard_stays_when_all_its_videos_are_gone(self, clips, tmp_path):
        shard = tmp_path / "0000.lmdb"
        write_shard(clips, 2, 32, shard)
        before = shard.read_bytes()
        for video in tmp_path.glob("*.mp4"):
            video.unlink()
        with pytest.raises(UserError, match=r"0000.lmdb: all of its 4 videos are gone \(first: .*0.mp4\), so it stays"):
            write_shard(clips, 2, 32, shard)
        assert shard.read_bytes() == before

    def test_shard_without_frames_is_made_again(self, clips, tmp_path):
        for video in tmp_path.glob("*.mp4"):
            video.unlink()
        for part in (clips, clips[1:]):  # in between, one has arrived under a name of another shard
            write_shard(part, 2, 32, tmp_path / "0000.lmdb")
        assert set(self.counts(tmp_path).values()) == {0}

    def test_another_revision_setting_or_bound_decodes_again(self, clips, decoded, tmp_path, monkeypatch):
        shard, clips = tmp_path / "0000.lmdb", clips[:1]
        write_shard(clips, 2, 32, shard)
        assert decoded() == ["0.mp4"]
        for change in ({"fps": 3}, {"size": 40}, {"revision": 99}, {"end_s": 0.7}):
            with monkeypatch.context() as patch:
                patch.setattr(revisions, "FRAMES", change.get("revision", revisions.FRAMES))
                changed = clips.assign(end_s=change.get("end_s", NAN))
                for names in (["0.mp4"], []):
                    write_shard(changed, change.get("fps", 2), change.get("size", 32), shard)
                    assert decoded() == names, change

    def test_damaged_shard_or_report_is_decoded_again(self, clips, decoded, tmp_path):
        shard = tmp_path / "0000.lmdb"
        for spoil in (
            lambda report: pd.read_csv(report).drop(columns="state").to_csv(report, index=False),
            Path.unlink,
            lambda report: shard.write_bytes(shard.read_bytes().replace(b"JFIF", b"JFIG", 1)),
        ):
            write_shard(clips, 2, 32, shard)
            decoded()
            spoil(tmp_path / "0000.csv")
            write_shard(clips, 2, 32, shard)
            assert len(decoded()) == 4 and self.counts(tmp_path)["c.mp4"] == 6

    def test_shard_of_a_video_does_not_depend_on_others(self):
        paths = pd.Series([f"videos/{number}.mp4" for number in range(100)])
        places = in_shard(paths, 7)
        assert set(places) == set(range(7))
        assert in_shard(paths[50:], 7).tolist() == places[50:].tolist()
