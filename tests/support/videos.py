"""Small videos for tests."""

from pathlib import Path

import av
import numpy as np


def make_video(path: Path, count=20, rate=10, size=(96, 64), codec="libx264", **options) -> Path:
    """A video whose i-th frame has grey level 10 i (at most 250), its upper half red."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            picture = np.full((size[1], size[0], 3), min(10 * index, 250), np.uint8)
            picture[: size[1] // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
