"""Token-reduction algorithms, one file each, found by name: `reduction/NAME.py` defines the function `NAME`.

`NAME(tokens, clusters, **options) -> (medoids, assignment)`: tokens [B, N, D] of any float dtype are B independent
problems, the patches of a segment frame by frame; medoids [B, K] int64 are token indices, in the order in which what is
kept goes on, which is ascending but for `tome`; assignment [B, N] int64 says into which of the K clusters each token
fell, cluster k being that of medoid k. Its options are its keyword-only arguments. Those called `frames` (how many the
N tokens come from), `segments` (how many a video has; they follow each other in B), `classes` ([CLASS] tokens in front
of each segment's), `scores` ([B, N] float32, what each token gets of the attention of its frame's [CLASS] in the block
around the stage, the mean over heads) and `training` (whether the model trains) are no options: the model gives them to
those who ask. Only a stage inside a block can use an algorithm that asks for `scores`. What is drawn at random should
not depend on B: a step may encode its videos a few at a time, each time from the same state of the generator.

The file says with `KIND = "clustering"` that the algorithm brings like tokens together, with `KIND = "merging"` that it
does and is the method of another paper, about which CenterCLIP claims nothing, or with `KIND = "sampling"` that it does
not. An algorithm that says `SEES = "pixels"` is of the form of `rlt`; one that says `ORDER = "own"` keeps tokens in
another order than the ascending one. `KEEPS = "half"` says that at least half of the tokens stay, `KEEPS = "patches"`
that K is the patches of a frame. `REVISION` is a number that is raised when the algorithm keeps other tokens than
before; without it, results depend on the content of the file. `centerclip check-algorithm` tries the contract on small
examples. This module reads the files without running them, so that checking a config imports nothing heavy.
"""

import ast
import hashlib
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from centerclip.method.errors import UserError

DIRECTORY = Path(__file__).parent
CLUSTERING, MERGING, SAMPLING = KINDS = "clustering", "merging", "sampling"
DECLARED = " or ".join(f'KIND = "{kind}"' for kind in KINDS)
HALF, PATCHES = "half", "patches"
CONTEXT = ("frames", "segments", "classes", "scores", "training")


def names() -> list[str]:
    """The algorithms there are: every file that defines a function of its name. Other files are their helpers."""
    return sorted(path.stem for path in DIRECTORY.glob("*.py") if function(path.stem))


def module(name: str) -> str:
    """The full name of the module of algorithm `name`."""
    return f"{__name__}.{name}"


def algorithm(name: str) -> Callable:
    """The function of algorithm `name`."""
    return getattr(importlib.import_module(module(name)), name)


def kind(name: str) -> str:
    """The one of KINDS that the file of algorithm `name` declares. Raises UserError if it declares none."""
    if (declared := constant(name, "KIND")) in KINDS:
        return declared
    raise UserError(f"{DIRECTORY / f'{name}.py'}: it has to declare {DECLARED}")


def with_imports(name: str) -> list[str]:
    """Algorithm `name` and the files of this directory that it imports at its top level, directly or not."""
    files, beginning = [name], f"{__name__}."
    for file in files:
        froms = (node.module or "" for node in syntax(file) if isinstance(node, ast.ImportFrom))
        helpers = [module.removeprefix(beginning) for module in froms if module.startswith(beginning)]
        files += [helper for helper in helpers if helper not in files]
    return sorted(files)


def revision(name: str) -> int | str:
    """The REVISION that the file of algorithm `name` states; without one, 16 hex digits that change with the file."""
    stated = constant(name, "REVISION")
    return hashlib.sha256((DIRECTORY / f"{name}.py").read_bytes()).hexdigest()[:16] if stated is None else stated


def sees_pixels(name: str) -> bool:
    """Whether algorithm `name` is given the frames and not the tokens."""
    return name in names() and constant(name, "SEES") == "pixels"


def keeps(name: str) -> object:
    """HALF or PATCHES where algorithm `name` keeps no fewer; None where it keeps any number."""
    return constant(name, "KEEPS")


def constant(name: str, constant: str) -> object:
    """The value of a constant in the file of algorithm `name`; None if it has none."""
    for statement in syntax(name):
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=value)) if found == constant:
                return value
    return None


def options(name: str) -> list[str]:
    """The options of algorithm `name`."""
    return [argument.arg for argument in function(name).args.kwonlyargs if argument.arg not in CONTEXT]


def annotation(name: str, option: str) -> str:
    """The type that the file of algorithm `name` writes at an option, as text; empty if it writes none."""
    (found,) = (argument.annotation for argument in function(name).args.kwonlyargs if argument.arg == option)
    return ast.unparse(found) if found else ""


def context(name: str) -> list[str]:
    """Those of CONTEXT that algorithm `name` asks for."""
    return [argument.arg for argument in function(name).args.kwonlyargs if argument.arg in CONTEXT]


def function(name: str) -> ast.FunctionDef | None:
    """The definition of the function of algorithm `name`; None if its file has none."""
    definitions = (node for node in syntax(name) if isinstance(node, ast.FunctionDef))
    return next((node for node in definitions if node.name == name), None)


@cache
def syntax(name: str) -> list[ast.stmt]:
    """The top level of a file, parsed. Raises UserError for one that is not Python."""
    path = DIRECTORY / f"{name}.py"
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}") from None
