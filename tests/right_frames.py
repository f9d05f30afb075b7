"""Which frames come out of each family of files, now and as this project read them before: a table, by one command.

    python tests/right_frames.py --frames ../shared/frames --out docs/benchmarks/2026-11-25-right-frames.md

The files say in their pictures which frame they show (numbered.py). Before: decord, which seeks, behind two guards, and
PyAV where it refused; a file that gives no frame for 20 s is ended.
"""

import argparse
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import decord
import numpy as np
from support.numbered import FAMILIES, Family, expected, number, write
from tqdm import tqdm

from centerclip.data.video.decoding import NoFrames, Shown, decode
from centerclip.data.video.extraction import choose
from centerclip.data.video.watch import watched

FPS, NAN = 3, float("nan")


class File(NamedTuple):
    """A file of the table."""

    name: str
    path: Path
    family: Family | None  # whose frames are right; None where frames have no numbers
    fps: float = FPS
    mirrored: bool = False


def now(path: Path, fps: float, convert: Callable) -> list:
    return decode(path, lambda shown: [choose(shown, fps, 0, NAN)], convert).parts[0]


def chosen_before(shown: Shown, fps: float) -> np.ndarray:
    """The last frame was taken to last as long as the mean, and times to be a millisecond late."""
    mean = np.diff(shown.starts).mean() if len(shown.starts) > 1 else 1 / fps
    return choose(Shown(shown.starts - 1e-3, shown.starts[-1] + mean), fps, 0, NAN)


def before(path: Path, fps: float, convert: Callable) -> list:
    with av.open(str(path), metadata_errors="replace") as container:
        hidden = any(packet.is_discard for packet in container.demux(container.streams.best("video")))
    try:
        video = decord.VideoReader(str(path), num_threads=1)
        starts = video.get_frame_timestamp(range(len(video)))[:, 0].astype(float)
        if not hidden and starts[0] >= 0 and (np.diff(starts) > 0).all():
            indices = chosen_before(Shown(starts - starts[0], starts[-1] - starts[0]), fps)
            return [convert(frame) for index in indices for frame in video.get_batch([index]).asnumpy()]
    except decord.DECORDError:
        pass
    with av.open(str(path), metadata_errors="replace") as container:
        frames = list(container.decode(container.streams.best("video")))
    times = [frame.time for frame in frames]
    starts = np.sort(np.array(times if None not in times else np.arange(len(times)) / 25, float))
    indices = chosen_before(Shown(starts - starts[0], starts[-1] - starts[0]), fps)
    return [convert(np.rot90(frames[i].to_ndarray(format="rgb24"), frames[i].rotation // 90)) for i in indices]


def read(item: tuple[File, bool], beat: Callable[[], None]) -> str:
    """What comes out of a file, in words."""
    decord.logging.set_level(decord.logging.FATAL)
    file, is_now = item
    way = now if is_now else before

    def convert(picture: np.ndarray) -> tuple[int, list[int]]:
        return number(picture[:, ::-1] if file.mirrored else picture), picture[60, 80].tolist()

    try:
        found = way(file.path, file.fps, convert)
    except (NoFrames, av.FFmpegError) as error:
        return f"“{error.strerror if isinstance(error, av.FFmpegError) else error}”"
    if file.family is None:
        return f"{len(found)} frames"
    right = expected(file.family, file.fps)
    wrong = sum(given != wanted for (given, _), wanted in zip(found, right, strict=False)) + abs(
        len(found) - len(right)
    )
    colour = f", red is {tuple(found[0][1])}" if "HDR" in file.name else ""
    return f"{f'**{wrong} of {len(right)}**' if wrong else 'none'}{colour}"


def files(directory: Path, frames: Path | None) -> list[File]:
    """The generated files, and those of `frames`."""
    made = []
    for place, (name, family) in enumerate(tqdm(FAMILIES.items(), "make", unit="file")):
        made.append(File(name, write(directory / f"{place}.{family.suffix}", family), family))
    if frames is None:
        return made

    def like(count: int, rate: int) -> Family:
        return Family("", "", rate=Fraction(rate), frames=count)

    return [
        *made,
        File("x264_gop50.ts", frames / "x264_gop50.ts", like(600, 25)),
        File("hang_x264_default.ts", frames / "hang_x264_default.ts", like(600, 25)),
        File("film24_x265_default.mkv", frames / "film24_x265_default.mkv", like(700, 24)),
        File("default.wmv", frames / "default.wmv", like(600, 25)),
        File("mpeg4_bframes24.mkv", frames / "mpeg4_bframes24.mkv", like(700, 24)),
        File("anim.webp", frames / "anim.webp", like(50, 10)),
        File("mirrored_hflip.mp4", frames / "mirrored_hflip.mp4", like(30, 25), mirrored=True),
        File("hdr_pq.mp4 (HDR; red is (220, 30, 30))", frames / "hdr_pq.mp4", like(30, 25)),
        File("audio_with_cover.mp4 (no video)", frames / "audio_with_cover.mp4", None),
        File("vfr_slides.mp4 (60 s, 1 a second)", frames / "vfr_slides.mp4", None, fps=1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, help="a directory of the files with names in the table")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        listed = files(Path(directory), arguments.frames)
        items = [(file, is_now) for file in listed for is_now in (False, True)]
        reading = tqdm(watched(read, items, 2, 20), "read", len(items), unit="file")
        said = {(file.name, is_now): str(words) for (file, is_now), words in reading}
    lines = [
        "# Which frames come out of which files, 2026-11-25",
        "",
        "    python tests/right_frames.py --frames DIRECTORY --out docs/benchmarks/2026-11-25-right-frames.md",
        "",
        "Every picture says which frame it is, so that no decoder is asked what is right. At 3 frames a second, how",
        "many frames are not the one shown at their time, before (decord, which seeks, behind guards, and PyAV where",
        "it refused) and now (PyAV from front to end). The first rows are files that the command makes with PyAV's",
        "encoders, 25 frames a second unless named; the last were made with ffmpeg 5.1.",
        "",
        "| files | wrong before | wrong now |",
        "|:--|:--|:--|",
        *(f"| {file.name} | {said[file.name, False]} | {said[file.name, True]} |" for file in listed),
    ]
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    import right_frames  # so that other processes find what is pickled

    right_frames.main()
