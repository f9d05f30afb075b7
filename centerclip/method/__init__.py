"""The method of the paper and its rivals: what reduces the tokens of a video, and the encoder around it."""

from collections.abc import Callable
from importlib import import_module


def __getattr__(name: str) -> Callable:
    """An algorithm by its name, such as `kmedoids`: its file is imported when somebody asks for it."""
    reduction = import_module(f"{__name__}.reduction")
    if name in reduction.names():
        return reduction.algorithm(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
