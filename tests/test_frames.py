"""Stored frames: which are chosen, what they look like, and what happens to files that are no videos."""

import io
import multiprocessing
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision import transforms

from centerclip import frames
from centerclip.frames import DecordReader, FrameStore, NoFrames, PyAVReader, choose, combine, extract, write_shard
from centerclip.manifest import COLUMNS
from centerclip.stage import UserError

NAN = float("nan")
REPOSITORY = Path(frames.__file__).parent.parent


def make_video(path, count=20, rate=10, size=(96, 64), codec="libx264", **options):
    """A video whose i-th frame has grey level 10 i (250 at most), its upper half red."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            picture = np.full((size[1], size[0], 3), min(10 * index, 250), np.uint8)
            picture[: size[1] // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def levels(jpegs):
    """The grey level of each picture's lower half."""
    return [round(float(np.asarray(Image.open(io.BytesIO(data)))[-5:].mean())) for data in jpegs]


def edit(path, first_s, length_s):
    """Have an mp4 play only `length_s` seconds from `first_s` on, all frames still in the file: no re-encoding."""
    data = bytearray(path.read_bytes())
    ticks = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]  # a second
    length, first = data.index(b"elst") + 12, data.index(b"elst") + 16
    struct.pack_into(">I", data, length, round(1000 * length_s))
    struct.pack_into(">i", data, first, struct.unpack_from(">i", data, first)[0] + round(ticks * first_s))
    path.write_bytes(data)


class TestChoose:
    """Ten frames a second for two seconds, at 0.0, 0.1, ..., 1.9."""

    starts = np.arange(20) / 10

    def test_the_middle_of_each_span(self):
        # 2 a second: shown at 0.25, 0.75, 1.25, 1.75 s
        assert choose(self.starts, 2, 0, NAN).tolist() == [2, 7, 12, 17]

    def test_part_of_a_video(self):
        assert choose(self.starts, 2, 0.5, 1.5).tolist() == [7, 12]
        assert choose(self.starts, 2, 1.0, NAN).tolist() == [12, 17]
        assert choose(self.starts, 2, 1.0, 99).tolist() == [12, 17]

    def test_every_frame_at_its_own_rate(self):
        assert choose(self.starts, 10, 0, NAN).tolist() == list(range(20))

    def test_more_often_than_there_are_frames_repeats_them(self):
        assert choose(np.array([0.0, 0.1]), 20, 0, NAN).tolist() == [0, 0, 1, 1]

    def test_a_short_video_gives_its_middle(self):
        assert choose(self.starts[:5], 1, 0, NAN).tolist() == [2]
        assert choose(np.array([0.0]), 3, 0, NAN).tolist() == [0]

    def test_only_what_falls_before_the_end(self):
        # at 0.5 s in a part of 0.8 s; at 0.5 s but not at 1.5 s in one of 1.5 s
        assert choose(self.starts, 1, 0, 0.8).tolist() == [5]
        assert choose(self.starts, 1, 0, 1.5).tolist() == [5]

    @pytest.mark.parametrize("digits", [3, 4, 9])
    def test_rounded_times_choose_the_same_frames(self, digits):
        # 30 frames a second, 3 a second: frame 5 starts just when it is asked for, at 1/6 s
        assert choose(np.round(np.arange(30) / 30, digits), 3, 0, NAN).tolist() == [5, 15, 25]

    def test_variable_frame_rate_goes_by_time(self):
        # one long frame, then a burst: at 0.5 and 1.5 s the first and the last are shown
        assert choose(np.array([0.0, 1.2, 1.3, 1.4]), 1, 0, NAN).tolist() == [0, 3]

    def test_nothing_after_the_end(self):
        assert choose(self.starts, 2, 2.0, NAN).tolist() == []


class TestExtract:
    def test_a_video_frame_by_frame(self, tmp_path):
        pictures, decoder, remark = extract(make_video(tmp_path / "v.mp4"), 2, 32, 0, NAN)
        assert (decoder, remark) == ("decord", "")
        assert [Image.open(io.BytesIO(data)).size for data in pictures] == [(32, 32)] * 4
        assert levels(pictures) == pytest.approx([20, 70, 120, 170], abs=3)

    def test_what_decord_cannot_open_comes_out_through_pyav(self, tmp_path):
        pictures, decoder, remark = extract(make_video(tmp_path / "v.mp4", codec="libsvtav1"), 2, 32, 0, NAN)
        assert (decoder, remark) == ("pyav", "")
        assert levels(pictures) == pytest.approx([20, 70, 120, 170], abs=6)

    @pytest.mark.parametrize(("codec", "bf"), [("mpeg4", 2), ("libx264", 2), ("mpeg4", 0)])
    def test_avi_has_no_times_of_its_own(self, tmp_path, codec, bf):
        """decord seeks to wrong frames in an AVI with B frames."""
        pictures, decoder, _ = extract(make_video(tmp_path / "v.avi", codec=codec, bf=str(bf)), 2, 32, 0, NAN)
        assert decoder == ("pyav" if bf else "decord")
        assert levels(pictures) == pytest.approx([20, 70, 120, 170], abs=6)

    @pytest.mark.parametrize(
        ("first_s", "length_s", "expected"), [(0.7, 1.3, [90, 140]), (0, 1.0, [20, 70]), (0.7, 0.5, [90])]
    )
    def test_an_edited_mp4_gives_what_a_player_shows(self, tmp_path, first_s, length_s, expected):
        """decord would give the last frame again and again for those that are cut away."""
        path = make_video(tmp_path / "v.mp4", g="10", bf="2")
        edit(path, first_s, length_s)
        pictures, _, _ = extract(path, 2, 32, 0, NAN)
        assert levels(pictures)[: len(expected)] == pytest.approx(expected, abs=12)
        assert len(set(levels(pictures))) == len(pictures)

    def test_an_unknown_codec_is_a_reason(self, tmp_path):
        path = make_video(tmp_path / "v.mp4")
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
        with pytest.raises(NoFrames, match="a codec that FFmpeg does not know"):
            extract(path, 2, 32, 0, NAN)

    def test_a_damaged_file_gives_the_frames_that_decode_and_a_remark(self, tmp_path):
        path = make_video(tmp_path / "v.mp4", g="1")
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        data = bytearray(path.read_bytes())
        for packet in packets[5:10]:
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
        path.write_bytes(data)
        pictures, decoder, remark = extract(path, 10, 32, 0, NAN)
        assert (decoder, remark) == ("pyav", "partly damaged, packets that do not decode: 5")
        # 0.4 s is shown until the next good frame at 1.0 s
        assert levels(pictures) == pytest.approx([*range(0, 50, 10), *[40] * 5, *range(100, 200, 10)], abs=3)

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_rotation_is_honoured_by_both(self, tmp_path, degrees):
        """The display matrix in the file turns the picture clockwise: red goes from the top to the right."""
        path = make_video(tmp_path / "v.mp4")
        data = bytearray(path.read_bytes())
        a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
        one = 1 << 16
        matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *matrix)
        path.write_bytes(data)
        for reader in (DecordReader, PyAVReader):
            (picture,) = reader(path).frames([0])
            red = picture[..., 0] > 128
            sides = {0: red[:20], 90: red[:, -20:], 180: red[-20:], 270: red[:, :20]}
            assert {turn: bool(side.all()) for turn, side in sides.items()} == {turn: turn == degrees for turn in sides}

    def test_both_decoders_give_the_same_frame_for_the_same_index(self, shared_clips):
        known = pd.read_csv(shared_clips / "manifest.csv")
        whole = known[(known["decodes_cleanly"] == "yes") & (known["codec"] != "av1")]
        assert len(whole) > 10
        for name in whole["file"]:
            first, second = DecordReader(shared_clips / name), PyAVReader(shared_clips / name)
            starts = first.starts()
            assert np.allclose(starts, second.starts(), atol=2e-3), name
            some = np.unique(np.linspace(0, len(starts) - 1, 7).astype(int)).tolist()
            for one, other in zip(first.frames(some), second.frames(some), strict=True):
                assert np.abs(one.astype(float) - other).mean() < 2, name

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("absent", "no such file"),
            ("empty", r"empty file \(0 bytes\)"),
            ("text", "not a video: "),
            ("truncated", "not a video: |no video stream"),
            ("audio", "no video stream"),
            ("part", "nothing is shown between start_s 50 and end_s 60"),
        ],
    )
    def test_what_gives_no_frame_says_why(self, tmp_path, name, reason):
        path = tmp_path / f"{name}.mp4"
        if name == "empty":
            path.touch()
        if name == "text":
            path.write_text("<html>404</html>" * 100)
        if name in ("truncated", "part"):
            make_video(path)
        if name == "truncated":
            path.write_bytes(path.read_bytes()[:1500])  # the index is at the end of an mp4
        if name == "audio":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("aac", rate=16000)
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.rate = 16000
                container.mux(stream.encode(frame))
                container.mux(stream.encode())
        with pytest.raises(NoFrames, match=reason):
            extract(path, 2, 32, *((50, 60) if name == "part" else (0, NAN)))

    def test_real_clips_good_and_broken(self, shared_clips):
        known = pd.read_csv(shared_clips / "manifest.csv").set_index("file")
        for name, row in known.iterrows():
            try:
                pictures, decoder, _ = extract(shared_clips / name, 3, 56, 0, NAN)
            except NoFrames:
                assert row["decodes_cleanly"] == "no", name
            else:
                assert len(pictures) >= 1 and (decoder == "pyav") == (
                    name in ("exoplayer__sample_av1.mp4", "decord__corrupted.mp4")
                )
                if row["decodes_cleanly"] == "yes":
                    assert len(pictures) == pytest.approx(3 * row["duration_s"], abs=1.6), name

    @pytest.mark.parametrize("shape", [(80, 121), (240, 427), (427, 240), (30, 20), (33, 33)])
    def test_squared_is_clips_preprocessing(self, shape):
        picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
        resize = transforms.Resize(40, transforms.InterpolationMode.BICUBIC)
        expected = transforms.CenterCrop(40)(resize(Image.fromarray(picture)))
        assert np.array_equal(np.asarray(frames.squared(picture, 40)), np.asarray(expected))


class TestShards:
    @pytest.fixture
    def store(self, tmp_path):
        rows = [
            {"video_id": name, "path": str(tmp_path / name), "start_s": 0.0, "end_s": NAN}
            for name in ("a", "b.mp4", "c")
        ]
        for row in rows[:2]:
            make_video(tmp_path / "v.mp4", count=20 if row["video_id"] == "a" else 10).rename(row["path"])
        for shard in (0, 1):
            write_shard(pd.DataFrame(rows)[shard::2], 2, 32, tmp_path / f"out/{shard:04d}.lmdb")
        report = combine([tmp_path / "out/0000.csv", tmp_path / "out/0001.csv"], 0.5, tmp_path / "out")
        report.to_csv(tmp_path / "out/report.csv", index=False)
        return FrameStore(tmp_path / "out/report.csv")

    @pytest.fixture
    def directory(self, store, tmp_path):
        return tmp_path / "out"

    def test_random_access(self, store):
        assert store.counts == {"a": 4, "b.mp4": 2}
        read = store.read("a", [3, 0, 3])
        assert (read.shape, read.dtype) == ((3, 3, 32, 32), np.uint8)
        assert read[:, :, -5:].mean((1, 2, 3)) == pytest.approx([170, 20, 170], abs=3)
        with pytest.raises(KeyError, match="has 4 frames"):
            store.read("a", [4])

    def test_nothing_but_shards_and_reports_is_left(self, directory):
        names = sorted(path.name for path in directory.iterdir())
        assert names == ["0000.csv", "0000.lmdb", "0001.csv", "0001.lmdb", "report.csv"]

    def test_reading_k_frames_decodes_k_frames(self, store, monkeypatch):
        opened = []
        monkeypatch.setattr(frames.Image, "open", lambda data: opened.append(1) or Image.new("RGB", (32, 32)))
        store.read("a", [1, 2])
        assert len(opened) == 2

    def test_a_lost_shard_is_one_line(self, directory):
        frames.open_shard.cache_clear()
        (directory / "0000.lmdb").unlink()
        with pytest.raises(UserError, match=r"0000.lmdb: stored frames cannot be read"):
            FrameStore(directory / "report.csv")

    def test_the_report_names_the_bad_and_stops_above_the_limit(self, directory):
        reports = [directory / "0000.csv", directory / "0001.csv"]
        with pytest.raises(UserError) as error:
            combine(reports, 0.33, directory)
        assert str(error.value).splitlines() == [
            "1 of 3 videos (33.3%) gave no frame, more than the 33.0% that max_bad allows:",
            "  c: no such file",
        ]

    def test_the_report_finds_its_shards_and_takes_empty_ones(self, directory, tmp_path):
        clips = pd.DataFrame(columns=["video_id", "path", "start_s", "end_s"])
        write_shard(clips, 2, 32, tmp_path / "more/0002.lmdb")
        report = combine([tmp_path / "more/0002.csv", directory / "0000.csv"], 0.5, tmp_path / "more")
        assert report["shard"].tolist() == ["../out/0000.lmdb"] * 2
        report.to_csv(tmp_path / "more/report.csv", index=False)
        assert FrameStore(tmp_path / "more/report.csv").read("a", [0]).shape == (1, 3, 32, 32)

    def test_the_store_goes_to_worker_processes(self, store):
        store.read("a", [0])
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                assert np.array_equal(pool.apply(store.read, ("a", [3])), store.read("a", [3]))

    def test_the_command_line(self, tmp_path):
        make_video(tmp_path / "v.mp4")
        pd.DataFrame([["test", "v", str(tmp_path / "v.mp4"), 0, None, "0", ""]], columns=list(COLUMNS)).to_csv(
            tmp_path / "manifest.csv", index=False
        )

        def run(*arguments):
            command = [sys.executable, "-m", "centerclip.frames", *map(str, arguments), "--log", tmp_path / "log"]
            return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)

        shard = tmp_path / "0000.lmdb"
        sampling = ("--size", 32, "--fps", 2, "--shard", 0, "--shards", 1)
        run("shard", "--manifest", tmp_path / "manifest.csv", *sampling, "--out", shard)
        assert "frames=4" in (tmp_path / "log").read_text()
        run("report", "--shards", shard.with_suffix(".csv"), "--max-bad", 0, "--out", tmp_path / "report.csv")
        assert FrameStore(tmp_path / "report.csv").counts == {"v": 4}

    def test_a_killed_extraction_leaves_no_shard(self, tmp_path, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(frames, "extract", killed)
        clips = pd.DataFrame([{"video_id": "a", "path": "a", "start_s": 0.0, "end_s": NAN}])
        with pytest.raises(KeyboardInterrupt):
            write_shard(clips, 2, 32, tmp_path / "0000.lmdb")
        assert list(tmp_path.iterdir()) == []

    def test_a_name_too_long_for_a_key_is_refused(self, tmp_path):
        clips = pd.DataFrame([{"video_id": "x" * 600, "path": "a", "start_s": 0.0, "end_s": NAN}])
        with pytest.raises(UserError, match="too long: 504 bytes"):
            write_shard(clips, 2, 32, tmp_path / "0000.lmdb")
