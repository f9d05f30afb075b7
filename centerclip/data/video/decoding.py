"""The pictures that a video file shows at given times, exactly as FFmpeg (PyAV) decodes them from front to end.

Nothing here seeks: after a seek, other frames may come out than were asked for (open GOPs, intra refresh, MPEG-TS,
ASF). Instead, packets are read without decoding them, and say when each frame is shown and so which frames to keep.
Then the file is decoded once, and those frames are kept. If their own times are others, as in damaged files and
containers without times, the file is decoded a second time.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
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

JUMP = 10  # s; a longer step in time is a break in a transport stream, as FFmpeg's dts_delta_threshold has it
BACK = 0.1  # s; a longer step back in time is a break in a transport stream
MILLISECOND = 1e-3  # s; a container with a longer tick counts frames, which is exact
EPSILON = 1e-6  # s; more than rounding errors add up to, and less than any frame lasts
GAP = 1  # s; a frame that is shown for longer than this, and ten times longer than usual, is a gap
SPARE = 64 << 20  # bytes; what a decoder may need besides frames
PICTURES = ("apng", "gif", "image2")  # formats that may hold one picture or several, as do all *_pipe
COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
HDR = (16, 18)  # the transfer functions PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)
# (codec, container) whose decoder may skip frames that no other refers to: it knows them (nal_ref_idc 0), and the
# container has the right times.
SPARING = {("h264", "mov,mp4,m4a,3gp,3g2,mj2"), ("h264", "matroska,webm")}


class Shown(NamedTuple):
    """When each frame of a video is shown."""

    starts: np.ndarray  # [n] float64, s, ascending; 0 is where a player starts: maybe with sound, before any frame
    end: float  # s; when the last frame goes


class Decoded(NamedTuple):
    """The frames of a video."""

    parts: list[list]  # for each part asked for, its converted frames
    decoder: str
    remark: str  # what is wrong with the frames, for a report; '' for nothing
    shown: Shown


Select = Callable[[Shown], list[np.ndarray]]  # gives each part of a video its frames: ascending indices, maybe repeated
Convert = Callable[[np.ndarray], object]  # takes a picture [H, W, 3] uint8


def idle() -> None:
    """The `beat` of a decoding that nobody watches."""


def decode(
    path: Path, select: Select, convert: Convert, sparing: bool = False, beat: Callable[[], None] = idle
) -> Decoded:
    """The frames that `select` chooses of a video, upright and in SDR, each as `convert` returns it. Raises Lost.

    `sparing` decodes only what those frames need, and does not notice damage in others. `beat` is called for each
    packet that is read and each frame that is decoded.
    """
    with Reader(path) as file:
        head = file.read(12)
    if not head:
        raise NoFrames("empty file (0 bytes)")
    try:
        with machine_checked():
            if head[:4] == b"RIFF" and head[8:] == b"WEBP":
                return decode_webp(path, select, convert)
            return decode_video(Video(path, beat), select, convert, sparing)
    except av.FFmpegError as error:
        raise NoFrames(f"not a video: {error.strerror}") from None


def decode_video(video: "Video", select: Select, convert: Convert, sparing: bool) -> Decoded:
    """`decode` with PyAV. Raises NoFrames, and av.FFmpegError for a file that cannot be opened."""
    stamps, shown = video.planned()
    parts = select(shown) if stamps else []
    wanted = {stamps[index]: index for index in chosen(parts)}
    if sparing and video.sparing and wanted and (kept := sparingly(video, wanted, stamps[0], convert)) is not None:
        return Decoded(laid_out(kept, parts), "pyav", "", shown)
    kept, times = {}, []
    for index, frame in enumerate(video.frames()):
        times.append((frame.pts, frame.duration))
        if frame.pts in wanted:
            kept[index] = convert(video.picture(frame))
    if not times:
        raise NoFrames("no frame decodes")
    if len(times) == 1 and video.still:
        raise NoFrames("a still picture, no video")
    shown, breaks = video.timeline(times)
    parts = select(shown)
    if missing := chosen(parts) - kept.keys():  # The packets told other times than the frames.
        for index, frame in enumerate(video.frames()):
            if index in missing:
                kept[index] = convert(video.picture(frame))
    return Decoded(laid_out(kept, parts), "pyav", remark(video, shown, breaks), shown)


def laid_out(kept: dict[int, object], parts: list[np.ndarray]) -> list[list]:
    """The frames of each part."""
    return [[kept[index] for index in part] for part in parts]


def sparingly(video: "Video", wanted: dict[int, int], first: int, convert: Convert) -> dict[int, object] | None:
    """The converted frames of `wanted` (time stamp -> index) by index, decoding only what they and the `first` frame
    need. None if anything is not as the packets say, because then other frames may be the right ones."""
    kept, seen, last = {}, [], max(wanted)
    with closing(video.frames(needed := {first, *wanted})) as frames:
        for frame in frames:
            if frame.pts is None:
                return None
            seen.append(frame.pts)
            if frame.pts in wanted:
                kept[wanted[frame.pts]] = convert(video.picture(frame))
            elif frame.pts > last:
                break
    as_planned = not video.damage and needed <= set(seen) and seen == sorted(set(seen))
    return kept if as_planned else None


def exact(starts: np.ndarray, rate: float, tick: float) -> np.ndarray:
    """The times [n] in s that a container rounded to `starts`, multiples of `tick` (1 ms in Matroska): those of a
    constant `rate` if they round to `starts`, otherwise the earliest that do."""
    regular = np.arange(len(starts)) / rate
    if np.abs(starts - regular).max() <= tick / 2 + EPSILON:
        return regular
    return np.maximum(starts - min(tick / 2, MILLISECOND / 2), 0)


def chosen(parts: Iterable[np.ndarray]) -> set[int]:
    """The indices of the frames of all parts."""
    return {int(index) for part in parts for index in part}


def remark(video: "Video", shown: Shown, breaks: int) -> str:
    """What is wrong with a video and how often; '' for nothing."""
    long = gaps(shown)
    counts = {
        f"packets that do not decode: {video.lost}": video.lost,
        f"frames with damage: {video.corrupt}": video.corrupt,
        f"reading stopped early: {video.stopped}": video.stopped,
        f"breaks in time: {breaks}": breaks,
        f"gaps in time: {len(long)}, {long.max(initial=0):.1f} s at most": len(long),
        "HDR that could not be tone-mapped": video.untoned,
    }
    remarks = ", ".join(line for line, count in counts.items() if count)
    return f"partly damaged, {remarks}" if video.damage else remarks


def gaps(shown: Shown) -> np.ndarray:
    """For each frame [g] that is shown for much longer than the others, how long it is shown, in s."""
    steps = np.diff(shown.starts)
    return steps[steps > max(GAP, 10 * np.median(steps))] if len(steps) else steps


class Video:
    """A video file, which `frames` reads from front to end each time; `lost`, `corrupt` and `stopped` describe the last
    reading. Raises Lost, at the latest at the end of a reading, and av.FFmpegError for a file that is no video."""

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
            self.sparing = (self.codec, self.container) in SPARING
            self.still = self.container in PICTURES or self.container.endswith("_pipe")

    @contextmanager
    def opened(self) -> Iterator[av.VideoStream]:
        """Open the file and yield the stream to decode."""
        with machine_checked(), Reader(self.path) as file:
            options = {"protocol_whitelist": "file"}  # so that a playlist opens no connection
            with av.open(file, "r", metadata_errors="replace", options=options) as container:
                yield video_stream(container)

    @property
    def damage(self) -> bool:
        """Whether anything was wrong in the last reading."""
        return bool(self.lost or self.corrupt or self.stopped)

    def planned(self) -> tuple[list[int], Shown | None]:
        """The ascending time stamps of the frames, and when each is shown, as the packets say; [] and None if they do
        not say it."""
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
        """When frames are shown, and how many breaks there are in their time, of the (time stamp, duration) of each in
        units of the stream, in the order they come out."""
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
        # Frames come out in the order they are shown, but the times that AVI gives them may be in another order.
        starts = np.sort(np.concatenate([[0], steps.cumsum()]))
        starts = exact(starts - starts[0], self.rate, float(self.time_base)) + self.lead(stamps[known[0]])
        last = float((times[-1][1] or 0) * self.time_base) or (np.ptp(starts) / len(steps) if len(steps) else step)
        return Shown(starts, starts[-1] + last), int(broken.sum())

    def lead(self, first: int) -> float:
        """How many s after the start of the presentation the frame with the time stamp `first` is shown."""
        if self.start is None:
            return 0
        # AVI has times of decoding alone, by which reordered frames seem to be late.
        if self.first is not None and 0 < (first - self.first) * self.time_base * self.rate <= self.reordered + EPSILON:
            first = self.first
        lead = float(first * self.time_base - self.start)
        return 0 if lead < 0 or (self.breaks and lead > JUMP) else lead

    def frames(self, needed: set[int] | None = None) -> Iterator[av.VideoFrame]:
        """The frames in the order they are shown. Of those without a time stamp in `needed`, if it is given, only
        frames to which others refer."""
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
                if needed is not None:
                    decoder.skip_frame = "DEFAULT" if packet.pts in needed or not packet.size else "NONREF"
                try:
                    with machine_checked():
                        decoded = packet.decode()
                except av.FFmpegError:
                    need_memory(decoder)
                    self.lost += 1  # The frames around it are good.
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
    """Raise MemoryError unless two more frames fit: many decoders call a full memory damage."""
    np.empty(8 * decoder.width * decoder.height + SPARE, np.uint8)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that a player would show, no cover picture. Raises NoFrames if no stream can be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & COVERS]
    if not streams:
        raise NoFrames("no video stream")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise NoFrames("a codec that FFmpeg does not know")
    return stream


def presentation_start(container: av.container.InputContainer) -> Fraction | None:
    """When a player starts, in s on the clock of the time stamps; None if no stream says when it starts.

    As in FFmpeg, the first stream counts, subtitles or data at most a second before sound and pictures, and no cover.
    """
    starts = {True: [], False: []}
    for stream in container.streams:
        if stream.start_time is not None and not stream.disposition & COVERS:
            starts[stream.type in ("video", "audio")].append(stream.start_time * stream.time_base)
    start, text = (min(found, default=None) for found in starts.values())
    return text if start is not None and text is not None and start - 1 < text < start else start


@lru_cache(4)  # because making one takes a second
def tone_mapping(width: int, height: int, pixels: str) -> Graph:
    """The FFmpeg filters that convert HDR frames of this shape to RGB in BT.709."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1, 1000))
    scale = graph.add("scale", "out_primaries=bt709:out_transfer=bt709:out_color_matrix=bt709")
    graph.link_nodes(source, scale, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    return graph


def upright(picture: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """A picture [H, W, 3] turned, by a multiple of 90 degrees, and mirrored as a display matrix says, whose rows a b u,
    c d v and x y w show the point (x, y) at (a x + c y, b x + d y)."""
    a, b, _, c, d = matrix[:5]
    if abs(a) < abs(b):
        picture, right, down = picture.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return picture[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def decode_webp(path: Path, select: Select, convert: Convert) -> Decoded:
    """`decode` of an animated WebP with Pillow, because FFmpeg cannot decode it."""
    try:
        with Reader(path) as file, Image.open(file, formats=["WEBP"]) as image:
            if getattr(image, "n_frames", 1) == 1:
                raise NoFrames("a still picture, no video")
            pictures, lengths = [], []
            for frame in ImageSequence.Iterator(image):
                pictures.append(np.asarray(frame.convert("RGB")))
                lengths.append((frame.info["duration"] or 100) / 1e3)  # s; browsers show one without for 100 ms
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NoFrames(f"not a video: {error}") from None
    ends = np.cumsum(lengths)
    shown = Shown(np.concatenate([[0], ends[:-1]]), float(ends[-1]))
    parts = select(shown)
    made = {index: convert(pictures[index]) for index in sorted(chosen(parts))}
    return Decoded(laid_out(made, parts), "pillow", "", shown)
