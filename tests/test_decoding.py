"""Decoding gives the frame that a player shows at a time, in all families of files. The pictures themselves say which
frame they are (support/numbered.py)."""

import errno
import os
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import av
import numpy as np
import pytest
from av.filter.graph import Graph
from av.stream import Disposition
from conftest import shared
from PIL import Image
from support import numbered
from support.numbered import FAMILIES, Family, expected, number, picture, write

from centerclip.data.video import decoding, reading
from centerclip.data.video.decoding import Video, decode, exact
from centerclip.data.video.extraction import choose, extract, spread
from centerclip.data.video.reading import MachineFault, NoFrames

NAN = float("nan")


def all_of(shown):
    return [np.arange(len(shown.starts))]


def at_three(shown):
    return [choose(shown, 3, 0, NAN)]


def numbers(path, select=all_of):
    """The numbers of the chosen frames, and the remark."""
    decoded = decode(path, select, number)
    return decoded.parts[0], decoded.remark


@pytest.fixture
def ts(tmp_path):
    """100 frames of 25 a second in an MPEG transport stream."""
    return write(tmp_path / "v.ts", FAMILIES["H.264 ts"])


class TestFamilies:
    @pytest.mark.parametrize("name", FAMILIES)
    def test_frame_is_the_one_shown_at_its_time(self, name, tmp_path):
        family = FAMILIES[name]
        path = write(tmp_path / f"v.{family.suffix}", family)
        assert numbers(path, at_three) == (expected(family, 3), "")

    @pytest.mark.parametrize("count", [1, 12])
    def test_frames_spread_over_a_video_are_the_middles_of_spans(self, count, tmp_path):
        path = write(tmp_path / "v.mp4", FAMILIES["H.264 mp4"])
        middles = [int((i + 0.5) * 100 / count + 1e-6) for i in range(count)]
        assert numbers(path, lambda shown: [spread(shown, count)])[0] == middles

    @pytest.mark.parametrize(
        ("name", "rate"),
        [
            *(("default.wmv", 25), ("film24_x265_default.mkv", 24), ("hang_x264_default.ts", 25), ("hdr_pq.mp4", 25)),
            *(("mpeg4_bframes24.mkv", 24), ("x264_gop50.ts", 25)),
        ],
    )
    def test_files_made_by_ffmpeg(self, name, rate):
        right = [int((8 * i + 4) * rate / 24 + 1e-6) for i in range(87)]
        found = numbers(shared("frames") / name, at_three)[0]
        assert len(found) >= 3 and found == right[: len(found)]

    def test_parts_of_a_video_are_decoded_together(self, tmp_path):
        path = write(tmp_path / "v.mp4", FAMILIES["H.264 mp4"])
        bounds = [(0, 1), (2, NAN), (0.5, 1.5), (9, NAN)]
        decoded = decode(path, lambda shown: [choose(shown, 3, *clip) for clip in bounds], number)
        times = [[1 / 6, 0.5, 5 / 6], [2 + 1 / 6, 2.5, 2 + 5 / 6, 3 + 1 / 6, 3.5, 3 + 5 / 6], [4 / 6, 1, 8 / 6], []]
        assert decoded.parts == [[int(time * 25 + 1e-6) for time in part] for part in times]


@pytest.fixture
def decoded(monkeypatch):
    """The time stamps of all frames that were decoded."""
    stamps, plain = [], Video.frames

    def counting(self):
        for frame in plain(self):
            stamps.append(frame.pts)
            yield frame

    monkeypatch.setattr(Video, "frames", counting)
    return stamps


@pytest.mark.parametrize(("name", "count"), [("H.264 ts", 100), ("H.264 raw, 30 a second", 200)])
def test_file_is_decoded_once_or_twice_without_times_in_packets(name, count, decoded, tmp_path):
    beats = []
    decode(
        write(tmp_path / f"v.{FAMILIES[name].suffix}", FAMILIES[name]), at_three, number, beat=lambda: beats.append(1)
    )
    assert len(decoded) == count and len(beats) >= 200  # packets and frames


def damaged(path, packets):
    """The file with the bytes of some of its packets gone."""
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for index in packets:
        data[found[index].pos : found[index].pos + found[index].size] = b"\xff" * found[index].size
    path.write_bytes(data)
    return path


class TestDamage:
    def test_damaged_packets_are_counted_and_other_frames_decode(self, tmp_path):
        path = damaged(write(tmp_path / "v.mp4", Family("mp4", "libx264", {"g": "1"}, frames=50)), range(20, 25))
        found, remark = numbers(path)
        assert found == [*range(20), *range(25, 50)]
        assert remark == "partly damaged, packets that do not decode: 5"
        # what is shown until the next good frame is the last good one
        assert numbers(path, lambda shown: [choose(shown, 25, 0, NAN)])[0] == [*range(20), *[19] * 5, *range(25, 50)]

    def test_truncated_file_gives_its_first_frames(self, ts):
        ts.write_bytes(ts.read_bytes()[: ts.stat().st_size // 2])
        found, _ = numbers(ts)
        assert found == sorted(set(found)) and 30 < len(found) < 70

    def test_gap_in_time_is_counted(self, tmp_path):
        path = write(tmp_path / "v.ts", Family("ts", "mpeg2video", {"g": "1"}))
        data, packet = path.read_bytes(), 188
        third = len(data) // packet // 3 * packet
        path.write_bytes(data[:third] + data[2 * third :])
        found, remark = numbers(path)
        assert found == sorted(set(found)) and (found[0], found[-1]) == (0, 99) and 60 < len(found) < 70
        assert "gaps in time: 1, 1.4 s at most" in remark

    def test_time_stamps_that_restart_continue(self, ts):
        ts.write_bytes(ts.read_bytes() * 2)
        found, remark = numbers(ts)
        assert found == [*range(100), *range(100)] and remark == "breaks in time: 1"
        assert numbers(ts, lambda shown: [choose(shown, 1, 0, NAN)])[0] == [12, 37, 62, 87] * 2

    @pytest.mark.parametrize("spoilt", range(4))
    def test_any_damage_ends_in_frames_or_a_reason(self, spoilt, tmp_path):
        rng = np.random.default_rng(spoilt)
        name = ["H.264 mp4", "H.264 ts", "VP9 webm", "MPEG-4 avi, B frames"][spoilt % 4]
        path = write(tmp_path / f"v.{FAMILIES[name].suffix}", FAMILIES[name])
        data = bytearray(path.read_bytes())
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with suppress(NoFrames):
            assert numbers(path, at_three)[0]


class TestTime:
    @pytest.mark.parametrize(
        ("stamps", "last", "starts", "end"),
        [
            ([0, 1, 2, -98, -97, 903], 0.04, [0, 1, 2, 3, 4, 5], 5.04),  # breaks: 100 s back, 1,000 s ahead
            ([0, 1], 5, [0, 1], 6),  # the last frame lasts as its file says
            ([0, 1, 3], 0, [0, 1, 3], 4.5),  # or as long as the others
            ([0, None, 1], 0.04, [0, 0.5, 1], 1.04),  # a missing time lies between its neighbours
        ],
    )
    def test_timeline_of_a_transport_stream(self, stamps, last, starts, end, ts):
        """90,000 ticks a second."""
        ticks = [(None if stamp is None else stamp * 90_000, round(last * 90_000)) for stamp in stamps]
        shown, breaks = Video(ts, decoding.idle).timeline(ticks)
        assert breaks == (2 if -98 in stamps else 0)
        assert shown.starts == pytest.approx(starts, abs=1e-4) and shown.end == pytest.approx(end, abs=1e-3)

    def test_last_frame_is_shown_to_the_end(self):
        path = shared("frames") / "vfr_slides.mp4"
        decoded = decode(path, lambda shown: [choose(shown, 1, 0, NAN)], lambda _: 1)
        assert decoded.shown.end == pytest.approx(60.04) and len(decoded.parts[0]) == 60

    @pytest.mark.parametrize("rate", [24, 24000 / 1001, 30, 60000 / 1001])
    def test_rounded_times_of_a_constant_rate_become_exact(self, rate):
        true = np.arange(500) / rate
        assert exact(np.round(true, 3), rate, 1e-3) == pytest.approx(true, abs=1e-12)

    def test_rounded_times_of_a_variable_rate_are_never_late(self):
        true = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 200)) - 0.01
        taken = exact(np.round(true, 3), 25, 1e-3)
        assert np.all(taken <= true + 1e-9) and np.all(taken >= true - 1e-3)


def with_sound(path, video_s):
    """40 numbered frames, ten a second, the first at `video_s`; silence from 0 s on; a cover at 0 s where there may be
    one."""
    source = write(path.with_name("alone.mp4"), Family("mp4", "libx264", {"bf": "2"}, rate=Fraction(10), frames=40))
    with av.open(str(source)) as plain, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(plain.streams.video[0])
        sound = container.add_stream("mp2" if path.suffix == ".ts" else "pcm_s16le", rate=16000)
        packets = []
        for start in range(0, 64000, 1152):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 16000, start
            packets += sound.encode(frame)
        for packet in plain.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = (time + round(video_s / packet.time_base) for time in (packet.pts, packet.dts))
                packet.stream = video
                packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mov", "mkv", "ts"])
class TestClock:
    """Times count from where a player starts, which may be before the first frame."""

    def test_video_that_begins_after_its_sound(self, suffix, tmp_path):
        """From 1.5 s on. At 0.25 s nothing is shown, and the first frame counts."""
        path = with_sound(tmp_path / f"v.{suffix}", 1.5)

        def select(shown):
            return [choose(shown, 1, time - 0.5, time + 0.5) for time in (0.55, 1.65, 2.55, 5.45, 7)]

        assert decode(path, select, number).parts == [[0], [1], [10], [39], []]
        assert decode(path, all_of, number).shown.end == pytest.approx(5.5, abs=0.04)

    def test_frames_of_search_are_spread_over_the_video_not_the_sound(self, suffix, tmp_path):
        path = with_sound(tmp_path / f"v.{suffix}", 1.5)
        assert numbers(path, lambda shown: [spread(shown, 4)])[0] == [5, 15, 25, 35]

    def test_sound_that_begins_later_changes_nothing(self, suffix, tmp_path):
        path = with_sound(tmp_path / f"v.{suffix}", 0)
        assert numbers(path, lambda shown: [choose(shown, 1, 0.05, NAN)])[0] == [5, 15, 25, 35]


def test_presentation_does_not_start_with_a_cover():
    cover, picture = Disposition.attached_pic, Disposition(0)

    def starts(*streams):
        made = [SimpleNamespace(type=kind, start_time=time, time_base=Fraction(1), disposition=disposition)
                for kind, time, disposition in streams]  # fmt: skip
        return decoding.presentation_start(SimpleNamespace(streams=made))

    assert starts(("video", 0, cover), ("audio", 2, picture), ("video", 3, picture)) == 2
    assert starts(("video", None, picture)) is None
    assert starts(("video", Fraction(5, 2), picture), ("subtitle", 2, picture)) == 2
    assert starts(("video", 3, picture), ("subtitle", 0, picture)) == 3  # an outlier, as in FFmpeg


class Failing:
    """A file whose reads beyond `good` bytes end in `answer`: an error, or a value."""

    def __init__(self, file, good, answer):
        self.file, self.good, self.answer = file, good, answer

    def read(self, count):
        if count >= 0 and (left := self.good - self.file.tell()) > 0:
            return self.file.read(min(count, left))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def __getattr__(self, name):
        return getattr(self.file, name)


class TestMachine:
    """A failed read is not the end of a file: it gives MachineFault, and no frames."""

    @pytest.mark.parametrize("name", ["H.264 mp4", "H.264 ts", "animated WebP"])
    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (OSError(errno.EIO, ""), os.strerror(errno.EIO)),
            (None, os.strerror(errno.EAGAIN)),
            (b"", "reading ended at byte"),
            (MemoryError(), "out of memory"),
        ],
    )
    def test_failed_read_is_a_machine_fault(self, name, answer, reason, tmp_path, monkeypatch):
        path = write(tmp_path / f"v.{FAMILIES[name].suffix}", FAMILIES[name]._replace(frames=60))
        plain, half = open, path.stat().st_size // 2
        with monkeypatch.context() as patch:
            failing = lambda *given, **how: Failing(plain(*given, **how), half, answer)  # noqa: E731
            patch.setattr(reading, "open", failing, raising=False)
            with pytest.raises(MachineFault, match=reason):
                decode(path, at_three, number)
        assert extract(path, [(0, NAN)], 3, 56)[0].frames

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
    def test_file_that_cannot_be_opened_is_a_machine_fault(self, number, ts, monkeypatch):
        monkeypatch.setattr(reading, "open", Mock(side_effect=OSError(number, "")), raising=False)
        with pytest.raises(MachineFault, match=os.strerror(number)):
            decode(ts, at_three, np.copy)

    def test_full_memory_is_a_machine_fault_not_damage(self, ts, monkeypatch):
        """FFmpeg's own error, Python's error, and a decoder that reports damage instead."""
        for error in (av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"), MemoryError()):
            with monkeypatch.context() as patch, pytest.raises(MachineFault, match="out of memory"):
                patch.setattr(Video, "picture", Mock(side_effect=error))
                decode(ts, at_three, number)
        damaged(write(ts.with_suffix(".mp4"), Family("mp4", "libx264", {"g": "1"}, frames=20)), [9])
        assert numbers(ts.with_suffix(".mp4"))[1] == "partly damaged, packets that do not decode: 1"
        monkeypatch.setattr(decoding, "SPARE", 1 << 62)
        with pytest.raises(MachineFault, match="out of memory"):
            numbers(ts.with_suffix(".mp4"))


class TestPicture:
    @pytest.mark.parametrize("turn", range(8))
    def test_display_matrix_is_applied(self, turn, tmp_path):
        """All eight orientations, each against the picture moved point by point."""
        (a, b), (c, d) = [((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0))][turn % 4]
        if turn > 3:
            a, c = -a, -c  # mirrored left to right
        path = write(tmp_path / "v.mp4", Family("mp4", "libx264", {"crf": "1"}, frames=1))
        data = bytearray(path.read_bytes())
        matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
        struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *matrix)
        path.write_bytes(data)
        (shown,) = decode(path, all_of, np.copy).parts[0]
        plain = picture(0)
        height, width = plain.shape[:2]
        y, x = np.mgrid[:height, :width]
        right, down = a * x + c * y, b * x + d * y  # where each point goes
        right, down = right - right.min(), down - down.min()
        moved = np.empty((down.max() + 1, right.max() + 1, 3), np.uint8)
        moved[down, right] = plain
        assert shown.shape == moved.shape
        assert np.abs(shown.astype(int) - moved).mean() < 4

    @pytest.mark.parametrize(("transfer", "name"), [(18, "arib-std-b67"), (16, "smpte2084")])
    @pytest.mark.slow
    def test_hdr_is_tone_mapped(self, transfer, name, tmp_path):
        family = Family("mp4", "libx265", pixels="yuv420p10le")
        path = write_hdr(tmp_path / "v.mp4", family, transfer, name)
        (shown,) = decode(path, lambda _: [np.array([5])], np.copy).parts[0]
        assert number(shown) == 5 and shown[120].max() > 245
        for y, x in ((60, 80), (60, 240), (200, 80), (200, 240)):
            assert shown[y, x].astype(int) == pytest.approx(picture(5)[y, x].astype(int), abs=24)

    @pytest.mark.slow
    def test_hdr_that_cannot_be_tone_mapped_has_a_remark(self, tmp_path, monkeypatch):
        path = write_hdr(tmp_path / "v.mp4", Family("mp4", "libx265", pixels="yuv420p10le"), 16, "smpte2084")
        monkeypatch.setattr(decoding, "tone_mapping", Mock(side_effect=av.FFmpegError(22, "no such filter")))
        assert numbers(path) == (list(range(6)), "HDR that could not be tone-mapped")


def write_hdr(path, family, transfer, name):
    """Six frames with the colours of `numbered`, as a camera would store them in HDR."""
    rate, (width, height) = family.rate, family.size
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / rate)
    convert = graph.add("scale", f"in_primaries=bt709:in_transfer=bt709:out_primaries=bt2020:out_transfer={name}"
                        ":out_color_matrix=bt2020nc:out_range=tv")  # fmt: skip
    graph.link_nodes(source, convert, graph.add("format", family.pixels), graph.add("buffersink")).configure()
    with av.open(str(path), "w") as container:
        parameters = f"colorprim=9:transfer={transfer}:colormatrix=9:{numbered.QUIET}"
        stream = container.add_stream(family.codec, rate=rate, options={"x265-params": parameters})
        stream.width, stream.height, stream.pix_fmt = width, height, family.pixels
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.color_trc = frame.color_primaries = 1
            graph.push(frame)
            converted = graph.pull()
            converted.pts, converted.time_base, converted.pict_type = index, 1 / rate, 0
            container.mux(stream.encode(converted))
        container.mux(stream.encode())
    return path


def sound(path, cover=False):
    """A second of silence, with a cover picture or without."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
            art.disposition = Disposition.attached_pic
        for start in range(0, 16384, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        if cover:
            container.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            container.mux(art.encode())
        container.mux(stream.encode())
    return path


class TestNoVideo:
    def reason(self, path):
        with pytest.raises(NoFrames) as error:
            decode(Path(path), all_of, number)
        return str(error.value)

    @pytest.mark.parametrize("cover", [False, True])
    def test_sound_and_its_cover_are_not_a_video(self, cover, tmp_path):
        assert self.reason(sound(tmp_path / "v.mp4", cover)) == "no video stream"

    @pytest.mark.parametrize("suffix", ["gif", "webp", "png", "jpg"])
    def test_picture_is_not_a_video(self, suffix, tmp_path):
        Image.fromarray(picture(1)).save(tmp_path / f"v.{suffix}")
        assert self.reason(tmp_path / f"v.{suffix}") == "a still picture, not a video"

    def test_reason_for_a_file_that_cannot_be_read(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.mp4")
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "text.mp4").write_text("<html>404</html>" * 100)
        (tmp_path / "picture.webp").write_bytes(b"RIFF\x10\x00\x00\x00WEBPVP8 nonsense")
        assert self.reason(tmp_path / "absent.mp4") == "no such file"
        assert self.reason(tmp_path / "pipe.mp4") == self.reason(tmp_path / "folder.mp4") == "not a file"
        assert self.reason(tmp_path / "empty.mp4") == "empty file (0 bytes)"
        assert self.reason(tmp_path / "text.mp4").startswith("not a video: ")
        assert self.reason(tmp_path / "picture.webp").startswith("not a video: ")
        assert self.reason(tmp_path / f"{'long' * 99}.mp4") == "File name too long"

    def test_reason_for_an_unknown_codec(self, tmp_path):
        path = write(tmp_path / "v.mp4", FAMILIES["H.264 mp4"])
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
        assert self.reason(path) == "a codec that FFmpeg does not know"


@pytest.mark.parametrize("name", ["http:x.mp4", "concat:a|b.mp4", "a%03d.gif", "pipe:0", "*?[a].gif"])
def test_any_name_is_the_name_of_a_file(name, tmp_path, monkeypatch):
    family = "GIF" if name.endswith("gif") else "H.264 mp4"
    write(tmp_path / "plain", FAMILIES[family]._replace(frames=20, container=FAMILIES[family].suffix))
    (tmp_path / "plain").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert numbers(Path(name))[0] == list(range(20))


def test_playlist_opens_no_connection(tmp_path):
    for name, text in (
        ("v.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
        ("w.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(NoFrames):
            decode(tmp_path / name, all_of, number)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animation_of_uneven_frames(suffix, tmp_path):
    """Three pictures shown for 0.1, 0.5 and 0.3 s."""
    path = tmp_path / f"v.{suffix}"
    first, *rest = [Image.fromarray(picture(index)) for index in (1, 2, 3)]
    first.save(path, save_all=True, append_images=rest, duration=[100, 500, 300], lossless=True)
    assert numbers(path, lambda shown: [choose(shown, 10, 0, NAN)])[0] == [1, 2, 2, 2, 2, 2, 3, 3, 3]
