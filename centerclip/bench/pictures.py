"""What kinds of stored pictures cost and lose: a training sample of each clip's frames read from each kind, in turns in
one run, beside the frames as they are. The first kind is what was stored before; the second is what is stored.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.io import decode_jpeg
from tqdm import tqdm

from centerclip import backbones
from centerclip.backbones.clip import build
from centerclip.command import UserError, positive, run, write_json
from centerclip.data.datasets.files import listing
from centerclip.data.video.batches import normalise
from centerclip.data.video.extraction import QUALITY, SUBSAMPLING, jpeg, spread_frames
from centerclip.data.video.reading import Lost
from centerclip.method.stage import Model

FRAMES = 12  # of a sample
BUSY = (500, 1000, 2000)  # training samples a second that a GPU may want


class Kind(NamedTuple):
    """A way to store a picture and to read it."""

    reader: str
    quality: int
    subsampling: str


KINDS = [
    Kind("pillow", 95, "444"),
    Kind("simplejpeg", QUALITY, SUBSAMPLING),
    *(Kind("simplejpeg", *way) for way in ((95, "444"), (95, "422"), (95, "420"), (90, "444"), (90, "420"))),
    Kind("torchvision", QUALITY, SUBSAMPLING),
    Kind("pillow", QUALITY, SUBSAMPLING),
]


def by_pillow(files: list[bytes]) -> Tensor:
    """The pictures uint8 [T, 3, H, W] of JPEG files, by Pillow."""
    return channels_first([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def by_simplejpeg(files: list[bytes]) -> Tensor:
    """The pictures uint8 [T, 3, H, W] of JPEG files, by simplejpeg."""
    return channels_first([simplejpeg.decode_jpeg(file) for file in files])


def by_torchvision(files: list[bytes]) -> Tensor:
    """The pictures uint8 [T, 3, H, W] of JPEG files, by torchvision."""
    return torch.stack([decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8)) for file in files])


def channels_first(pictures: list[np.ndarray]) -> Tensor:
    """[T, 3, H, W] of pictures [H, W, 3], as `FrameStore.read` returns them."""
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2))


READERS: dict[str, Callable[[list[bytes]], Tensor]] = {
    "pillow": by_pillow,
    "simplejpeg": by_simplejpeg,
    "torchvision": by_torchvision,
}


def samples(folder: Path, size: int) -> dict[str, np.ndarray]:
    """The frames uint8 [T, size, size, 3] of every video in and below `folder` that has as many as a sample, by name.
    Raises UserError if none has, or as `listing`."""
    found = {}
    for name in tqdm(listing(folder).videos, "videos", unit="file"):
        try:
            frames = spread_frames(folder / name, FRAMES, size)
        except Lost:
            continue
        if len(frames) == FRAMES:
            found[name] = frames
    if not found:
        raise UserError(f"{folder}: no video of {FRAMES} frames or more")
    return found


def measure(videos: dict[str, np.ndarray], repeats: int, backbone: str) -> pd.DataFrame:
    """A row a video and kind: milliseconds of a sample (the least of `repeats` turns), its time as a share of the first
    kind's, bytes a frame, their share of the first kind's, mean error of a pixel (of 255) and the cosine of the video's
    vector, of made-up weights, to that of the frames as they are."""
    model, whole = build(Model(backbone), seed=0).eval(), torch.ones(1, FRAMES, dtype=torch.bool)

    @torch.no_grad()
    def vector(frames: Tensor) -> Tensor:
        return model.encode_video(normalise(frames[None]), whole)[0]

    rows = []
    for name, frames in tqdm(videos.items(), "pictures", unit="video"):
        files = {kind: [jpeg(frame, kind.quality, kind.subsampling) for frame in frames] for kind in KINDS}
        times = {kind: [] for kind in KINDS}
        for _ in range(repeats):
            for kind in KINDS:
                start = time.perf_counter()
                default_collate([READERS[kind.reader](files[kind])])
                times[kind].append(time.perf_counter() - start)
        right = channels_first(list(frames))
        direction = vector(right)
        for kind in KINDS:
            read = READERS[kind.reader](files[kind])
            rows.append(
                {
                    "video": name,
                    **kind._asdict(),
                    "ms": 1000 * min(times[kind]),
                    "times as fast": min(times[KINDS[0]]) / min(times[kind]),
                    "bytes": sum(map(len, files[kind])) / FRAMES,
                    "share of bytes": sum(map(len, files[kind])) / sum(map(len, files[KINDS[0]])),
                    "error": (read.int() - right.int()).abs().double().mean().item(),
                    "cosine": (vector(read) @ direction).item(),
                }
            )
    return pd.DataFrame(rows)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a kind, in order: the medians of the videos, and the least cosine."""
    kinds = rows.groupby(list(Kind._fields), sort=False)
    table = kinds[["ms", "times as fast", "bytes", "share of bytes", "error", "cosine"]].median()
    table["least cosine"] = kinds["cosine"].min()
    return table.reset_index()


def cores(ms: float) -> str:
    """How many cores keep a GPU busy, if a sample takes one core so many milliseconds."""
    wanted = ", ".join(f"{rate * ms / 1000:.1f} for {rate:,}" for rate in BUSY)
    return f"{1000 / ms:.0f} samples a second and core; cores for so many samples a second: {wanted}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m centerclip.bench.pictures", description=__doc__)
    parser.add_argument("--videos", required=True, type=Path, help="directory of videos")
    parser.add_argument(
        "--backbone", type=backbones.named, default="ViT-B-32", help="whose vectors are compared (default: ViT-B-32)"
    )
    parser.add_argument("--repeats", type=positive, default=9, help="turns (default: 9)")
    parser.add_argument("--out", type=Path, help="also write everything here, json")

    def job(arguments: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        size = backbones.geometry(arguments.backbone).image_size
        rows = measure(samples(arguments.videos, size), arguments.repeats, arguments.backbone)
        table = medians(rows)
        digits = {"ms": 2, "times as fast": 2, "bytes": 0, "share of bytes": 2, "error": 2}
        print(f"medians of {rows['video'].nunique()} videos, {FRAMES} frames of {size} px a sample\n")
        print(table.round(digits | {"cosine": 5, "least cosine": 5}).to_markdown(index=False))
        print(f"\nstored pictures: {cores(table['ms'][1])}")
        if arguments.out:
            write_json(arguments.out, {"medians": table.to_dict("records"), "videos": rows.to_dict("records")})

    run(parser, job)


if __name__ == "__main__":
    main()
