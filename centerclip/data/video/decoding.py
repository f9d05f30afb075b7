"""Decodes the pictures that a video file shows at given times, with FFmpeg (PyAV), from front to end.

Nothing here seeks: in many files (open GOPs, intra refresh, MPEG-TS, ASF) a seek leads to wrong frames. Packets are
first read without decoding, because their times tell which frames to keep. Then the file is decoded once. If the
decoded frames have other times, as in damaged files and in containers without times, it is decoded a second time.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.filter.graph import Graph
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from PIL import Image, ImageSequence

from centerclip.data.video.reading import NoFrames, Reader, machine_checked

JUMP = 10  # s; a longer step in time is a break in a transport stream (FFmpeg's dts_delta_threshold)
BACK = 0.1  # s; a longer step back in time is a break in a transport stream
MILLISECOND = 1e-3  # s; containers with a longer tick count frames, which is exact
EPSILON = 1e-6  # s; above the sum of rounding errors, below the length of any frame
GAP = 1  # s; a frame shown for longer than this, and ten times longer than the median, is a gap
SPARE = 64 << 20  # bytes that a decoder may need besides frames
PICTURES = ("apng", "gif", "image2")  # formats of one picture or several, as are all *_pipe
COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
HDR = (16, 18)  # the transfer functions PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)


class Shown(NamedTuple):
    """When each frame of a video is shown."""

    starts: np.ndarray  # [n] float64, s, ascending; 0 is where a player starts, maybe with sound before any frame
    end: float  # s; when the last frame disappears


class Decoded(NamedTuple):
    """The frames of a video."""

    parts: list[list]  # for each part asked for, its converted frames
    shown: Shown
    decoder: str
    container: str
    codec: str
    remark: str = ""  # what is wrong with the frames


Select = Callable[[Shown], list[np.ndarray]]  # gives each part of a video its frames: ascending indices, maybe repeated
Convert = Callable[[np.ndarray], object]  # takes a picture [H, W, 3] uint8


def idle() -> None:
    """A `beat` that does nothing."""


def decode(path: Path, select: Select, convert: Convert, beat: Callable[[], None] = idle) -> Decoded:
    """The frames that `select` chooses of a video, upright and in SDR, each as `convert` returns it. Raises Lost.

    `beat` is called for each packet that is read and each frame that is decoded.
    """
    with Reader(path) as file:
        head = file.read(12)
    if not head:
        raise NoFrames("empty file (0 bytes)")
    try:
        with machine_checked():
            if head[:4] == b"RIFF" and head[8:] == b"WEBP":
                return decode_webp(path, select, convert, beat)
            return decode_video(Video(path, beat), select, convert)
    except av.FFmpegError as error:
        raise NoFrames(f"not a video: {error.strerror}") from None


def decode_video(video: "Video", select: Select, convert: Convert) -> Decoded:
    """`decode` with PyAV. Raises NoFrames, and av.FFmpegError for a file that cannot be opened."""
    stamps, shown = video.planned()
    wanted = {stamps[index] for index in chosen(select(shown))} if stamps else set()
    kept, times = {}, []
    for index, frame in enumerate(video.frames()):
        times.append((frame.pts, frame.duration))
        if frame.pts in wanted:
            kept[index] = convert(video.picture(frame))
    if not times:
        raise NoFrames("no frame decodes")
    if len(times) == 1 and video.still:
        raise NoFrames("a still picture, not a video")
    shown, breaks = video.timeline(times)
    parts = select(shown)
    if missing := chosen(parts) - kept.keys():  # the frames have other times than the packets
        for index, frame in enumerate(video.frames()):
            if index in missing:
                kept[index] = convert(video.picture(frame))
    frames = [[kept[index] for index in part] for part in parts]
    return Decoded(frames, shown, "pyav", video.container, video.codec, remark(video, shown, breaks))


def chosen(parts: Iterable[np.ndarray]) -> set[int]:
    """The indices of the frames of all parts."""
    return {int(index) for part in parts for index in part}


def exact(starts: np.ndarray, rate: float, tick: float) -> np.ndarray:
    """The times [n] in s that a container rounded to `starts`, multiples of `tick` (1 ms in Matroska): the times of a
    constant `rate` if these round to `starts`, otherwise the earliest times that do."""
    regular = np.arange(len(starts)) / rate
    if np.abs(starts - regular).max() <= tick / 2 + EPSILON:
        return regular
    return np.maximum(starts - min(tick / 2, MILLISECOND / 2), 0)


def remark(video: "Video", shown: Shown, breaks: int) -> str:
    """What is wrong with a video, and how often; '' if nothing is."""
    steps = np.diff(shown.starts)
    gaps = steps[steps > max(GAP, 10 * np.median(steps))] if len(steps) else steps
    counts = {
        f"packets that do not decode: {video.lost}": video.lost,
        f"frames with damage: {video.corrupt}": video.corrupt,
        f"reading stopped early: {video.stopped}": video.stopped,
        f"breaks in time: {breaks}": breaks,
        f"gaps in time: {len(gaps)}, {gaps.max(initial=0):.1f} s at most": len(gaps),
        "HDR that could not be tone-mapped": video.untoned,
    }
    remarks = ", ".join(line for line, count in counts.items() if count)
    return f"partly damaged, {remarks}" if video.lost or video.corrupt or video.stopped else remarks


class Video:
    """A video file. `frames` reads it from front to end each time; `lost`, `corrupt` and `stopped` describe the last
    reading. Raises Lost, at the latest at the end of a reading, and av.FFmpegError for a file that is not a video."""

    def __init__(self, path: Path, beat: Callable[[], None]):
        self.path, self.beat = path, beat
        self.untoned = False
        with self.opened() as stream:
            form = stream.container.format
            self.container, self.codec = form.name, stream.codec_context.codec.canonical_name
            self.time_base, self.start = stream.time_base, presentation_start(stream.container)
            self.first, self.reordered = stream.start_time, stream.codec_context.has_b_frames
            self.rate = float(stream.guessed_rate or 25)  # 25 for a raw stream, which has no times
            self.breaks = bool(form.flags & av.format.Flags.ts_discont.value)
            self.still = self.container in PICTURES or self.container.endswith("_pipe")

    @contextmanager
    def opened(self) -> Iterator[av.VideoStream]:
        """Open the file and yield the stream to decode."""
        with machine_checked(), Reader(self.path) as file:
            options = {"protocol_whitelist": "file"}  # so that a playlist opens no connection
            with av.open(file, "r", metadata_errors="replace", options=options) as container:
                yield video_stream(container)

    def planned(self) -> tuple[list[int], Shown | None]:
        """The ascending time stamps of the frames and when each is shown, by the packets; [] and None if these have no
        unique times."""
        times = []
        try:
            with self.opened() as stream:
                for packet in stream.container.demux(stream):
                    self.beat()
                    if packet.size and not packet.is_discard:  # a cut without re-encoding leaves frames to discard
                        times.append((packet.pts, packet.duration))
        except av.FFmpegError:
            return [], None
        stamps = {pts for pts, _ in times}
        if not times or None in stamps or len(stamps) < len(times):
            return [], None
        return sorted(stamps), self.timeline(sorted(times))[0]

    def timeline(self, times: list[tuple[int | None, int]]) -> tuple[Shown, int]:
        """When frames are shown, and the number of breaks in their time, from the (time stamp, duration) of each frame
        in units of the stream, in the order of decoding."""
        step = 1 / self.rate
        stamps = [pts for pts, _ in times]
        known = [index for index, pts in enumerate(stamps) if pts is not None]
        if not known:  # a raw stream
            starts = np.arange(len(times)) * step
            return Shown(starts, starts[-1] + step), 0
        seconds = np.interp(range(len(times)), known, [float(stamps[index] * self.time_base) for index in known])
        steps = np.diff(seconds)
        broken = (steps < -BACK) | (steps > JUMP) if self.breaks else steps < -JUMP
        steps[broken] = np.median(steps[~broken]) if (~broken).any() else step
        # Frames are decoded in the order they are shown, but AVI may give them times in another order.
        starts = np.sort(np.concatenate([[0], steps.cumsum()]))
        starts = exact(starts - starts[0], self.rate, float(self.time_base)) + self.lead(stamps[known[0]])
        last = float((times[-1][1] or 0) * self.time_base) or (np.ptp(starts) / len(steps) if len(steps) else step)
        return Shown(starts, starts[-1] + last), int(broken.sum())

    def lead(self, first: int) -> float:
        """How many s after the start of the presentation the frame with the time stamp `first` is shown."""
        if self.start is None:
            return 0
        # AVI has only times of decoding, by which reordered frames seem late.
        if self.first is not None and 0 < (first - self.first) * self.time_base * self.rate <= self.reordered + EPSILON:
            first = self.first
        lead = float(first * self.time_base - self.start)
        return 0 if lead < 0 or (self.breaks and lead > JUMP) else lead

    def frames(self) -> Iterator[av.VideoFrame]:
        """The frames in the order they are shown."""
        self.lost, self.corrupt, self.stopped = 0, 0, ""
        with self.opened() as stream:
            decoder = stream.codec_context
            decoder.thread_count = 1  # jobs share the cores, and damage costs the same frames everywhere
            packets = stream.container.demux(stream)
            while True:
                try:
                    with machine_checked():
                        packet = next(packets)
                except StopIteration:
                    return
                except av.FFmpegError as error:
                    self.stopped = error.strerror
                    return
                try:
                    with machine_checked():
                        decoded = packet.decode()
                except av.FFmpegError:
                    need_memory(decoder)
                    self.lost += 1  # the frames around it are good
                    continue
                for frame in decoded:
                    self.beat()
                    if frame.is_corrupt:
                        need_memory(decoder)
                        self.corrupt += 1
                    yield frame

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame [H, W, 3] uint8 as a player shows it: upright, and HDR tone-mapped."""
        picture = (self.toned(frame) if frame.color_trc in HDR else frame).to_ndarray(format="rgb24")
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
        return upright(picture, struct.unpack("=9i", bytes(matrix))) if matrix else picture

    def toned(self, frame: av.VideoFrame) -> av.VideoFrame:
        """An HDR frame in BT.709, or the frame itself if FFmpeg's scaler cannot convert it."""
        try:
            with machine_checked():
                graph = tone_mapping(frame.width, frame.height, frame.format.name)
                graph.push(frame)
                return graph.pull()
        except av.FFmpegError:
            self.untoned = True
            return frame


def need_memory(decoder: av.VideoCodecContext) -> None:
    """Raise MemoryError unless two more frames fit, because many decoders report a full memory as damage."""
    np.empty(8 * decoder.width * decoder.height + SPARE, np.uint8)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that a player shows, not a cover picture. Raises NoFrames if no stream can be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & COVERS]
    if not streams:
        raise NoFrames("no video stream")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise NoFrames("a codec that FFmpeg does not know")
    return stream


def presentation_start(container: av.container.InputContainer) -> Fraction | None:
    """When a player starts, in s on the clock of the time stamps; None if no stream has a start.

    As in FFmpeg, this is the start of the first stream. Covers do not count, and subtitles or data only within a second
    before sound and pictures.
    """
    starts = {True: [], False: []}
    for stream in container.streams:
        if stream.start_time is not None and not stream.disposition & COVERS:
            starts[stream.type in ("video", "audio")].append(stream.start_time * stream.time_base)
    start, text = (min(found, default=None) for found in starts.values())
    return text if start is not None and text is not None and start - 1 < text < start else start


@lru_cache(4)  # building a graph takes a second
def tone_mapping(width: int, height: int, pixels: str) -> Graph:
    """The FFmpeg filters that convert HDR frames of this shape to RGB in BT.709."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1, 1000))
    scale = graph.add("scale", "out_primaries=bt709:out_transfer=bt709:out_color_matrix=bt709")
    graph.link_nodes(source, scale, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    return graph


def upright(picture: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """A picture [H, W, 3] turned by a multiple of 90 degrees and mirrored as a display matrix says. The rows a b u,
    c d v and x y w of the matrix show the point (x, y) at (a x + c y, b x + d y)."""
    a, b, _, c, d = matrix[:5]
    if abs(a) < abs(b):
        picture, right, down = picture.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return picture[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def decode_webp(path: Path, select: Select, convert: Convert, beat: Callable[[], None]) -> Decoded:
    """`decode` of an animated WebP with Pillow, because FFmpeg cannot decode it."""
    try:
        with Reader(path) as file, Image.open(file, formats=["WEBP"]) as image:
            if getattr(image, "n_frames", 1) == 1:
                raise NoFrames("a still picture, not a video")
            pictures, lengths = [], []
            for frame in ImageSequence.Iterator(image):
                beat()
                pictures.append(np.asarray(frame.convert("RGB")))
                lengths.append((frame.info["duration"] or 100) / 1e3)  # s; browsers show one without for 100 ms
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NoFrames(f"not a video: {error}") from None
    ends = np.cumsum(lengths)
    shown = Shown(np.concatenate([[0], ends[:-1]]), float(ends[-1]))
    parts = select(shown)
    made = {index: convert(pictures[index]) for index in chosen(parts)}
    return Decoded([[made[index] for index in part] for part in parts], shown, "pillow", "webp", "webp")
