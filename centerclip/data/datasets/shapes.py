"""Videos that are rendered from a seed: in each, two objects act one after the other.

A caption says how each object looks and acts. No single frame tells captions apart: directions, appearing or vanishing,
and the order of the two events show only over time.
"""

import math
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from tqdm import tqdm

from centerclip.command import UserError, atomic_directory
from centerclip.data.datasets import SPLITS, folder

FRAMES, FPS = 24, 12
SUPERSAMPLING = 3
BACKGROUND = (24, 24, 28)
SIZES = {"small": 0.085, "large": 0.16}  # radius, as a share of the picture's side
COLOURS = {
    **{"red": (230, 40, 40), "green": (40, 190, 60), "blue": (50, 90, 240), "yellow": (245, 220, 40)},
    **{"purple": (160, 50, 200), "orange": (250, 140, 20), "cyan": (40, 220, 220), "white": (245, 245, 245)},
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
# motion -> (the travel from start to end in x and y, visible before the event, visible after it)
MOTIONS = {
    "moves left": ((-1, 0), True, True),
    "moves right": ((1, 0), True, True),
    "moves up": ((0, -1), True, True),
    "moves down": ((0, 1), True, True),
    "appears": ((0, 0), False, True),
    "vanishes": ((0, 0), True, False),
}
SYNONYMS = {"small": "little", "large": "big", "moves": "goes", "appears": "shows up", "vanishes": "disappears"}
TEMPLATES = (
    "{first}, then {second}",
    "first {first} and after that {second}",
    "{second} after {first}",
    "{first} before {second}",  # told with synonyms
)


class Event(NamedTuple):
    size: str
    colour: str
    shape: str
    motion: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape} {self.motion}"


EVENTS = [Event(*choice) for choice in product(SIZES, COLOURS, SHAPES, MOTIONS)]


def captions(first: Event, second: Event) -> list[str]:
    """The captions of a scene: the same facts in four wordings."""
    plain = [template.format(first=first, second=second) for template in TEMPLATES]
    words = [SYNONYMS.get(word, word) for word in plain[-1].split()]
    return [*plain[:-1], " ".join(words)]


def scenes(count: int, rng: np.random.Generator) -> list[tuple[Event, Event]]:
    """`count` different scenes of two objects of different colours. Raises UserError if there are fewer."""
    possible = len(EVENTS) ** 2 * (len(COLOURS) - 1) // len(COLOURS)
    if count > possible // 2:
        raise UserError(f"shapes: {count} videos asked for, at most {possible // 2} can be made")
    chosen = {}
    while len(chosen) < count:
        scene = tuple(EVENTS[i] for i in rng.integers(len(EVENTS), size=2))
        if scene[0].colour != scene[1].colour:
            chosen[scene] = None
    return list(chosen)


def outline(shape: str) -> list[tuple[float, float]]:
    """The corners (x, y) of `shape` around the origin, within the unit circle."""
    if shape == "cross":
        a, b = 0.94, 0.33
        return [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b),
                (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]  # fmt: skip
    count, radii, turn = {
        "circle": (48, (0.9,), 0.0),
        "square": (4, (1.0,), math.pi / 4),
        "triangle": (3, (1.0,), -math.pi / 2),
        "star": (10, (1.0, 0.4), -math.pi / 2),
    }[shape]
    polar = [(radii[i % len(radii)], turn + 2 * math.pi * i / count) for i in range(count)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in polar]


def tracks(scene: tuple[Event, Event], rng: np.random.Generator) -> list[np.ndarray]:
    """For each object its centres (x, y) [FRAMES, 2], as shares of the picture's side, NaN while it is invisible. One
    object keeps to the upper half of the picture, one to the lower; the first acts in the first half of the time."""
    upper = int(rng.integers(2))
    time = np.linspace(0, 1, FRAMES)
    paths = []
    for index, event in enumerate(scene):
        (dx, dy), before, after = MOTIONS[event.motion]
        radius = SIZES[event.size]
        low = np.array([radius, radius + (0.0 if index == upper else 0.5)]) + 0.02
        high = np.array([1.0, 0.5 if index == upper else 1.0]) - radius - 0.02
        travel = np.array([dx, dy]) * (high - low) * rng.uniform(0.7, 1.0)
        start = rng.uniform(np.maximum(low, low - travel), np.minimum(high, high - travel))
        progress = np.clip(2 * time - index, 0, 1)[:, None]
        path = start + travel * progress
        path[np.where(progress[:, 0] < 0.5, not before, not after)] = np.nan
        paths.append(path)
    return paths


def render(scene: tuple[Event, Event], resolution: int, rng: np.random.Generator) -> list[Image.Image]:
    """The FRAMES pictures of a scene, `resolution` px square and anti-aliased."""
    side = resolution * SUPERSAMPLING
    frames = []
    for centres in zip(*tracks(scene, rng), strict=True):
        picture = Image.new("RGB", (side, side), BACKGROUND)
        draw = ImageDraw.Draw(picture)
        for event, (x, y) in zip(scene, centres, strict=True):
            if not np.isnan(x):
                radius = SIZES[event.size]
                corners = [((x + radius * u) * side, (y + radius * v) * side) for u, v in outline(event.shape)]
                draw.polygon(corners, fill=COLOURS[event.colour])
        frames.append(picture.reduce(SUPERSAMPLING))
    return frames


def encode(frames: list[Image.Image], path: Path) -> None:
    """Write frames as an H.264 .mp4; the same frames give the same bytes, as only x264's fastest preset does."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "ultrafast", "threads": "1"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def fetch(settings: dict, out: Path) -> None:
    """Render the videos of all splits into `out`, with their captions.csv, whole or not at all. `settings` has `seed`,
    `videos` (a number for each split) and `resolution` (px, even). Raises UserError for numbers that are impossible."""
    if settings["resolution"] % 2:
        raise UserError(f"shapes: resolution {settings['resolution']} is odd, which H.264 cannot encode here")
    rng = np.random.default_rng(settings["seed"])
    splits = [split for split in SPLITS for _ in range(settings["videos"][split])]
    chosen = scenes(len(splits), rng)
    with atomic_directory(out) as temporary:
        (temporary / "videos").mkdir()
        rows = []
        for number, scene in enumerate(tqdm(chosen, desc="render", unit="video")):
            name = f"videos/{splits[number]}{number:05d}.mp4"
            encode(render(scene, settings["resolution"], rng), temporary / name)
            rows += [{"video": name, "split": splits[number], "caption": caption} for caption in captions(*scene)]
        pd.DataFrame(rows).to_csv(temporary / "captions.csv", index=False)


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest of the rendered videos."""
    rows = folder.manifest({"videos": source, "captions": source / "captions.csv"})
    return rows.assign(video_id=[Path(path).stem for path in rows["path"]], caption_id=rows.index.astype(str))
