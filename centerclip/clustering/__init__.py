"""Clustering algorithms, one file each, found by name: `clustering/NAME.py` defines the function `NAME`.

`NAME(tokens, clusters, **options) -> (medoids, assignment)`: tokens [B, N, D] of any float dtype are B independent
problems; medoids [B, K] int64 are token indices in ascending order; assignment [B, N] int64 says into which of the K
clusters each token fell. The options are the function's keyword-only arguments.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path


def names() -> list[str]:
    """The algorithms there are."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def options(name: str) -> list[str]:
    """The options of algorithm `name`, read from its source so that nothing heavy is imported."""
    source = Path(__file__).with_name(f"{name}.py").read_text()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return [argument.arg for function in functions for argument in function.args.kwonlyargs]


def algorithm(name: str) -> Callable:
    """The function of algorithm `name`."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)
