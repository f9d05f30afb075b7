"""Token-reduction algorithms, one file each, found by name: `clustering/NAME.py` defines the function `NAME`.

A clustering, for a stage of the model: `NAME(tokens, clusters, **options) -> (medoids, assignment)`. tokens [B, N, D]
of any float dtype are B independent problems, the patches of a segment frame by frame; medoids [B, K] int64 are token
indices in ascending order; assignment [B, N] int64 says into which of the K clusters each token fell. Its options are
its keyword-only arguments. Those called `frames` (how many the N tokens come from) and `training` (whether the model
trains) are no options: the model gives them to those who ask.

A shift, for every block: `NAME(tokens) -> tokens`, tokens [B, T, 1 + N, D] with [CLASS] first; it keeps every token.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

DIRECTORY = Path(__file__).parent
CONTEXT = ("frames", "training")
SAMPLING = ("pooling", "sparse_sampling")  # baselines of the paper, which bring no like tokens together


def names() -> list[str]:
    """The clusterings there are."""
    return [name for name in files() if "clusters" in arguments(name)]


def shifts() -> list[str]:
    """The shifts there are."""
    return [name for name in files() if "clusters" not in arguments(name)]


def files() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.py") if path.stem != "__init__")


@cache
def syntax(name: str) -> list[ast.stmt]:
    """The top level of an algorithm's file: read, not run, so that nothing heavy is imported."""
    return ast.parse((DIRECTORY / f"{name}.py").read_text()).body


def arguments(name: str, kind: str = "args") -> list[str]:
    """The names of the arguments of `name`: positional ones, or of the kind `kwonlyargs`."""
    functions = [node for node in syntax(name) if isinstance(node, ast.FunctionDef) and node.name == name]
    return [argument.arg for function in functions for argument in getattr(function.args, kind)]


def options(name: str) -> list[str]:
    """The options of `name`."""
    return [option for option in arguments(name, "kwonlyargs") if option not in CONTEXT]


def modules(name: str) -> list[str]:
    """`name` and the other files of this directory that its file imports."""
    imports = [node.module or "" for node in syntax(name) if isinstance(node, ast.ImportFrom)]
    others = [module.rpartition(".")[2] for module in imports if module.startswith("centerclip.clustering.")]
    return sorted({name}.union(*map(modules, others)))


@cache
def algorithm(name: str) -> Callable:
    """The function of `name`."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def cluster(name: str, tokens: Tensor, clusters: int, options: dict, **context) -> tuple[Tensor, Tensor]:
    """Medoids and assignment by clustering `name`, which gets those of `context` that it asks for."""
    function = algorithm(name)
    asked = inspect.signature(function).parameters
    return function(tokens, clusters, **options, **{key: value for key, value in context.items() if key in asked})


@contextmanager
def observed(around: Callable) -> Iterator[None]:
    """Within, a call of `cluster` is a call of `around(cluster, ...)`."""
    global cluster
    plain, cluster = cluster, partial(around, cluster)
    try:
        yield
    finally:
        cluster = plain
