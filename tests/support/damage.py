"""Damages to files, the same in every run."""

import random
from collections.abc import Iterator


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`content` with a bit that flipped, a part that is random, missing or zero, or cut short: `count` times."""
    rng = random.Random(seed)
    for number in range(count):
        first, length = rng.randrange(len(content)), rng.randrange(1, 2000)
        rest, flipped = content[first + length :], content[first] ^ 1 << rng.randrange(8)
        yield (
            content[:first]
            + (
                bytes([flipped]) + content[first + 1 :],
                rng.randbytes(min(length, len(content) - first)) + rest,
                rest,
                bytes(min(length, len(content) - first)) + rest,
                b"",
            )[number % 5]
        )
