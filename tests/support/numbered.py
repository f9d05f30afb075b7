"""Videos whose pictures show their frame number, in families of containers and codecs.

Four quadrants of colour, and across the middle ten black or white blocks: the number in binary, lowest bit left.
Frame i is shown from i / rate on, so that the right frame at any time is known by construction.
"""

import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

BITS = 10
SIZE = (320, 240)  # width and height, px
COLOURS = np.array([[(220, 30, 30), (30, 180, 30)], [(30, 60, 220), (220, 200, 30)]], np.uint8)


class Family(NamedTuple):
    """How to make a video of a family: suffix, codec and options for FFmpeg."""

    suffix: str
    codec: str
    options: dict | None = None  # of the encoder
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(25)
    size: tuple[int, int] = SIZE
    container: str | None = None  # None: from the suffix
    muxing: dict | None = None  # options of the container
    frames: int = 100


QUIET = "log-level=none"  # for x265, which writes to the terminal
GOP = {"g": "30", "bf": "2"}
FAMILIES = {
    "H.264 mp4": Family("mp4", "libx264", {"g": "30"}),
    "H.264 mkv": Family("mkv", "libx264", {"g": "30"}),
    "H.264 mov, 23.976 a second": Family("mov", "libx264", {"g": "30"}, rate=Fraction(24000, 1001)),
    "H.264 mp4, 59.94 a second": Family("mp4", "libx264", {"g": "30"}, rate=Fraction(60000, 1001), frames=300),
    "H.264 mp4, open GOP": Family("mp4", "libx264", {"x264-params": "open-gop=1:keyint=30:min-keyint=30"}),
    "H.264 mp4, intra refresh": Family("mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=30"}),
    "H.264 mp4, fragments": Family("mp4", "libx264", muxing={"movflags": "frag_keyframe+empty_moov"}),
    "H.264 flv": Family("flv", "libx264", {"g": "30"}),
    "H.264 avi": Family("avi", "libx264", {"g": "30"}),
    "H.264 ts": Family("ts", "libx264", {"g": "30"}),
    "H.264 ts, default GOP": Family("ts", "libx264", frames=300),
    "H.264 ts, interlaced": Family("ts", "libx264", {"x264-params": "interlaced=1:keyint=30"}),
    "H.264 m2ts": Family("m2ts", "libx264", {"g": "30"}, container="mpegts", muxing={"mpegts_m2ts_mode": "1"}),
    "H.264 raw, 30 a second": Family("h264", "libx264", {"g": "30"}, rate=Fraction(30)),
    "HEVC mp4, open GOP": Family("mp4", "libx265", {"x265-params": f"keyint=30:{QUIET}"}),
    "HEVC mkv, open GOP": Family("mkv", "libx265", {"x265-params": f"keyint=30:{QUIET}"}),
    "HEVC ts, open GOP": Family("ts", "libx265", {"x265-params": f"keyint=30:{QUIET}"}),
    "HEVC mp4, closed GOP": Family("mp4", "libx265", {"x265-params": f"keyint=30:open-gop=0:{QUIET}"}),
    "AV1 mp4": Family("mp4", "libsvtav1", {"g": "30", "svtav1-params": "lp=1"}),
    "AV1 webm": Family("webm", "libsvtav1", {"g": "30", "svtav1-params": "lp=1"}),
    "VP9 webm": Family("webm", "libvpx-vp9", {"g": "30"}),
    "VP8 webm": Family("webm", "libvpx", {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "MPEG-4 mp4, B frames": Family("mp4", "mpeg4", GOP),
    "MPEG-4 mkv, B frames": Family("mkv", "mpeg4", GOP),
    "MPEG-4 mov, B frames": Family("mov", "mpeg4", GOP),
    "MPEG-4 avi, B frames": Family("avi", "mpeg4", GOP),
    "MPEG-2 ts, B frames": Family("ts", "mpeg2video", GOP),
    "MPEG-2 vob, B frames": Family("vob", "mpeg2video", GOP),
    "MPEG-2 mxf, B frames": Family("mxf", "mpeg2video", GOP),
    "MPEG-2 raw, 30 a second": Family("m2v", "mpeg2video", GOP, rate=Fraction(30)),
    "MPEG-2 mkv, B frames": Family("mkv", "mpeg2video", GOP),
    "MPEG-1 mpg, B frames": Family("mpg", "mpeg1video", GOP),
    "MPEG-1 mkv, B frames": Family("mkv", "mpeg1video", GOP),
    "WMV2 wmv": Family("wmv", "wmv2", {"g": "30"}),
    "MS-MPEG-4 asf": Family("asf", "msmpeg4", {"g": "30"}),
    "MS-MPEG-4 avi": Family("avi", "msmpeg4", {"g": "30"}),
    "H.263 3gp": Family("3gp", "h263", size=(352, 288)),
    "Sorenson flv": Family("flv", "flv", {"g": "30"}),
    "RealVideo rm": Family("rm", "rv10", size=(352, 288)),
    "Motion JPEG avi": Family("avi", "mjpeg", pixels="yuvj420p"),
    "ProRes mov": Family("mov", "prores_ks", pixels="yuv422p10le", frames=50),
    "FFV1 mkv": Family("mkv", "ffv1", frames=50),
    "DV": Family("dv", "dvvideo", size=(720, 576), frames=50),
    "GIF": Family("gif", "gif", pixels="rgb8", rate=Fraction(20), frames=50),
    "animated PNG": Family("apng", "apng", pixels="rgb24", frames=50),
    "animated WebP": Family("webp", "libwebp_anim", pixels="yuv420p", frames=50),
}


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The frame [H, W, 3] uint8 with the number `index`."""
    width, height = size
    drawn = COLOURS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    side = 0.8 * min(size) / BITS
    edges = [int(width / 2 + (bit - BITS / 2) * side) for bit in range(BITS + 1)]
    for bit, (left, right) in enumerate(pairwise(edges)):
        drawn[height // 2 - 16 : height // 2 + 16, left:right] = 255 * (index >> bit & 1)
    return drawn


def number(picture: np.ndarray) -> int:
    """The number in a picture [H, W, 3] uint8 of any size, whole or cropped to its centre square."""
    height, width = picture.shape[:2]
    side = 0.8 * min(height, width) / BITS
    middle = picture[height // 2 - 2 : height // 2 + 3]
    centres = [int(width / 2 + (bit + 0.5 - BITS / 2) * side) for bit in range(BITS)]
    return sum(int(middle[:, x - 2 : x + 3].mean() > 128) << bit for bit, x in enumerate(centres))


def write(path: Path, family: Family) -> Path:
    """Make a video of a family."""
    with av.open(str(path), "w", format=family.container, options=family.muxing or {}) as container:
        stream = container.add_stream(family.codec, rate=family.rate, options=family.options or {})
        stream.width, stream.height = family.size
        stream.pix_fmt = family.pixels
        stream.codec_context.thread_count = 1
        for index in range(family.frames):
            frame = av.VideoFrame.from_ndarray(picture(index, family.size), format="rgb24")
            frame.pts, frame.time_base = index, 1 / family.rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # SVT-AV1 as root takes real-time priority
    return path


def expected(family: Family, fps: float) -> list[int]:
    """The numbers of the frames shown at (i + 0.5) / fps seconds; at a border of two frames, the later."""
    times = (np.arange(np.ceil(family.frames / float(family.rate) * fps - 0.5 - 1e-6)) + 0.5) / fps
    return [int(time * float(family.rate) + 1e-6) for time in times]
