"""Token-reduction algorithms, one file each, found by name: `reduction/NAME.py` defines the function `NAME`.

    NAME(tokens [B, N, D], clusters, **options) -> (medoids [B, K] int64, assignment [B, N] int64)

B independent problems, each the N tokens of a segment, its patches frame by frame, in any float dtype. `clusters` is K,
1 to N. `medoids` are the tokens that stay, in the order in which they go on: ascending, unless the file says `ORDER =
"own"`. `assignment` is the cluster of each token, 0 to K - 1; cluster k is that of medoid k, and medoid k is in it. A
ValueError tells of a K that the algorithm cannot do. What it draws at random should not depend on B: a step may encode
its videos a few at a time, each time from the same state of the generator.

Keyword-only arguments are options, except these, which the model gives:

    frames    how many the N tokens come from
    segments  of a video, whose rows follow each other in B
    classes   [CLASS] tokens in front of each segment's
    scores    [B, N] float32: each token's share of the attention of its frame's [CLASS], the mean over heads, in the
              block around the stage; only a stage inside a block has them
    training  whether the model trains

Constants of the file say the rest:

    KIND      "clustering": it brings like tokens together; "merging": it does, and is the method of another paper,
              about which CenterCLIP claims nothing; "sampling": it does not
    REVISION  a number that is raised when other tokens are kept; without it, results depend on the file's content
    KEEPS     "half": at least half of the tokens stay; "patches": K is the patches of a frame
    SEES      "pixels": it is given frames, as `rlt`
    STAYS     "mean": `centerclip.reduce` keeps the means of clusters, whose medoids say nothing about them

`centerclip check-algorithm` tries the contract on small examples. This module reads the files without running them, so
that checking a config imports nothing heavy.
"""

import ast
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from centerclip.method.digest import digest
from centerclip.method.errors import UserError

DIRECTORY = Path(__file__).parent
CLUSTERING, MERGING, SAMPLING = KINDS = "clustering", "merging", "sampling"
DECLARED = " or ".join(f'KIND = "{kind}"' for kind in KINDS)
HALF, PATCHES = "half", "patches"
CONTEXT = ("frames", "segments", "classes", "scores", "training")


def names() -> list[str]:
    """The algorithms: every file that defines a function of its own name. Other files are their helpers."""
    return sorted(path.stem for path in DIRECTORY.glob("*.py") if function(path.stem))


def module(name: str) -> str:
    """The full name of the module of an algorithm."""
    return f"{__name__}.{name}"


def algorithm(name: str) -> Callable:
    """The function of an algorithm."""
    return getattr(importlib.import_module(module(name)), name)


def kind(name: str) -> str:
    """The KIND of an algorithm. Raises UserError if its file declares none."""
    if (declared := constant(name, "KIND")) in KINDS:
        return declared
    raise UserError(f"{DIRECTORY / f'{name}.py'}: it has to declare {DECLARED}")


def with_imports(name: str) -> list[str]:
    """An algorithm and the files of this directory that it imports at its top level, directly or not."""
    files, beginning = [name], f"{__name__}."
    for file in files:
        froms = (node.module or "" for node in syntax(file) if isinstance(node, ast.ImportFrom))
        helpers = [module.removeprefix(beginning) for module in froms if module.startswith(beginning)]
        files += [helper for helper in helpers if helper not in files]
    return sorted(files)


def revision(name: str) -> int | str:
    """The REVISION of an algorithm or the digest of its file."""
    stated = constant(name, "REVISION")
    return digest((DIRECTORY / f"{name}.py").read_bytes()) if stated is None else stated


def sees_pixels(name: str) -> bool:
    """Whether an algorithm is given the frames and not the tokens."""
    return name in names() and constant(name, "SEES") == "pixels"


def keeps(name: str) -> object:
    """HALF or PATCHES where an algorithm keeps no fewer; None where it keeps any number."""
    return constant(name, "KEEPS")


def stays(name: str) -> object:
    """What `centerclip.reduce` keeps of a cluster by default: "mean" or "medoid"."""
    return (constant(name, "STAYS") if name in names() else None) or "medoid"


def constant(name: str, constant: str) -> object:
    """The value of a constant in the file of an algorithm; None if the file lacks it."""
    for statement in syntax(name):
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=value)) if found == constant:
                return value
    return None


def options(name: str) -> list[str]:
    """The options of an algorithm."""
    return [argument.arg for argument in function(name).args.kwonlyargs if argument.arg not in CONTEXT]


def context(name: str) -> list[str]:
    """What of CONTEXT an algorithm asks for."""
    return [argument.arg for argument in function(name).args.kwonlyargs if argument.arg in CONTEXT]


def annotation(name: str, option: str) -> str:
    """The type that the file of an algorithm writes at an option, as text; empty if it writes none."""
    (found,) = (argument.annotation for argument in function(name).args.kwonlyargs if argument.arg == option)
    return ast.unparse(found) if found else ""


def function(name: str) -> ast.FunctionDef | None:
    """The definition of the function of an algorithm; None if its file lacks it."""
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
