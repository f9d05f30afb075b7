"""Damages files, the same way in every run."""

import random
from collections.abc import Iterator


def damaged(content: bytes, count: int) -> Iterator[bytes]:
    """`content` with a flipped bit, a random, missing or zero part, or cut short: `count` times."""
    rng = random.Random(0)
    for number in range(count):
        first, length = rng.randrange(len(content)), rng.randrange(1, 2000)
        rest, flipped = content[first + length :], content[first] ^ 1 << rng.randrange(8)
        size = min(length, len(content) - first)
        ends = bytes([flipped]) + content[first + 1 :], rng.randbytes(size) + rest, rest, bytes(size) + rest, b""
        yield content[:first] + ends[number % 5]
