"""What a result depends on of this package's code: modules and what they import, without comments and docstrings."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def digest(modules: Iterable[str], leave_out: Iterable[str] = ()) -> str:
    """16 hex digits that change when the code of `modules`, or of a module of this package that they import, changes.

    Imports inside functions count too. Modules in `leave_out` are not followed. Comments, docstrings and layout do not
    count. Names are full ones, such as "centerclip.train.loop".
    """
    state = hashlib.sha256()
    for name in sorted(reachable(modules, frozenset(leave_out))):
        state.update(f"{name} {executed(name)}\n".encode())
    return state.hexdigest()[:16]


def reachable(modules: Iterable[str], leave_out: frozenset[str] = frozenset()) -> set[str]:
    """The names of `modules` and of all modules of this package that they import, directly or not."""
    pending, visited = list(modules), set(leave_out)
    while pending:
        name = pending.pop()
        if name not in visited:
            visited.add(name)
            pending += imports(name)
    return visited - leave_out


@cache
def imports(name: str) -> list[str]:
    """The modules of this package that module `name` imports, and the packages that it lies in."""
    package = name if source(name).name == "__init__.py" else name.rpartition(".")[0]
    named = [name.rpartition(".")[0]]
    for node in ast.walk(ast.parse(source(name).read_text())):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *filter(None, [node.module])])
            named += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return [module for module in named if module and source(module)]


@cache
def source(name: str) -> Path | None:
    """The file of module `name`; None if it is not of this package."""
    if name.split(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.parent.joinpath(*name.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


@cache
def executed(name: str) -> str:
    """The syntax tree of module `name` without its docstrings, as text."""
    tree = ast.parse(source(name).read_text())
    for node in ast.walk(tree):
        may_hold_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if may_hold_one and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
