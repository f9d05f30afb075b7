"""Check on small examples whether an algorithm keeps its contract, for `centerclip check-algorithm`."""

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from centerclip.command import UserError, located
from centerclip.method import reduction
from centerclip.method.reduction import kmedoids
from centerclip.method.reduction.contract import misshapen
from centerclip.settings.schema import option_problem

FRAMES, PATCHES, WIDTH, SEGMENTS, VIDEOS = 3, 8, 16, 2, 2
TOKENS = FRAMES * PATCHES  # of a segment
LOOKED_AT, SOLVER, EQUAL = "aten._local_scalar_dense.default", "aten._linalg_eigh.default", "aten.equal.default"


class HostWaits(RuntimeError):
    """An operation would synchronise with the host."""


class Waits(TorchDispatchMode):
    """Raises HostWaits for operations that synchronise with a GPU: reading a number, solvers, and blocking copies.
    FakeTensorMode itself refuses results whose shape depends on numbers."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if str(function) in (LOOKED_AT, SOLVER, EQUAL):
            raise HostWaits(str(function))
        result = function(*arguments, **keywords)
        tensors = [leaf for leaf in tree_leaves((arguments, result)) if isinstance(leaf, Tensor) and leaf.ndim]
        asynchronous = keywords.get("non_blocking") or (len(arguments) > 2 and arguments[2] is True)
        if len({tensor.device.type for tensor in tensors}) > 1 and not asynchronous:
            raise HostWaits(str(function))
        return result


def pretended_kernel() -> AbstractContextManager:
    """A context in which k-medoids++ gives tensors of the right shapes, as its GPU kernel does, without waiting."""

    def launched(distances: Tensor, first: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
        batch, count, _ = distances.shape
        return first.new_empty(batch, clusters), first.new_empty(batch, count)

    never = mock.Mock(return_value=False)
    return mock.patch.multiple(kmedoids, alternate_in_steps=launched, kernel_runs=never, slow_at_float64=never)


@dataclass(frozen=True)
class Subject:
    """An algorithm of a file with its options."""

    file: Path
    function: Callable
    options: dict
    ascending: bool = True  # whether it keeps the order of tokens

    def __call__(self, tokens: Tensor, clusters: int, training: bool = False, **more: object) -> object:
        """What the function returns for tokens and K."""
        scores = tokens.float().norm(dim=-1).softmax(-1)
        known = {"frames": FRAMES, "segments": SEGMENTS, "classes": 1, "scores": scores, "training": training}
        asked = {name: known[name] for name in known if name in keywords(self.function)}
        with torch.no_grad():
            return self.function(tokens, clusters, **self.options, **asked, **more)

    def drawn(self, tokens: Tensor, clusters: int, training: bool = False, seed: int = 0) -> object:
        """A result with PyTorch's generator at `seed`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self(tokens, clusters, training)

    def wrong(self, tokens: Tensor, clusters: int, training: bool = False) -> str | None:
        """What is wrong with a result, and what is right."""
        result = self.drawn(tokens, clusters, training)
        return misshapen(result, tokens, clusters) or misplaced(*result, self.ascending)

    def clusters(self) -> int:
        """A K that the algorithm takes. Raises its own ValueError if it takes neither of the two tried."""
        with suppress(ValueError):
            self(example(), PATCHES)
            return PATCHES
        self(example(), TOKENS * 3 // 4)
        return TOKENS * 3 // 4


def example() -> Tensor:
    """Tokens of two videos of two segments."""
    return torch.randn(VIDEOS * SEGMENTS, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


def misplaced(kept: Tensor, assignment: Tensor, ascending: bool) -> str | None:
    """The fault in the order of kept [B, K], or in the clusters of kept tokens in assignment [B, N]; None without a
    fault."""
    for tokens, clusters in zip(kept, assignment.gather(1, kept), strict=True):
        if len(tokens.unique()) < len(tokens):
            return f"kept is {tokens.tolist()}; each token once is right"
        if ascending and not (tokens.diff() > 0).all():
            return f'kept is {tokens.tolist()}; ascending is right, or a file that declares ORDER = "own"'
        for cluster, (token, found) in enumerate(zip(tokens.tolist(), clusters.tolist(), strict=True)):
            if found != cluster:
                return f"token {token}, kept for cluster {cluster}, is assigned to {found}; {cluster} is right"
    return None


def blamed(error: Exception, file: Path) -> str:
    """An exception with the line of `file` that raised it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    at = next((frame.lineno for frame in reversed(frames) if Path(frame.filename) == file.resolve()), None)
    return f"{f'{file}:{at}' if at else file}: {type(error).__name__}: {' '.join(str(error).split())}"


def subject(asked: str, options: dict) -> Subject:
    """The algorithm with a name of this package, or of a file NAME.py that defines NAME. Raises UserError."""
    file = Path(asked)
    if file.suffix != ".py":
        if asked not in reduction.names():
            raise UserError(f"{asked!r} is neither a file NAME.py nor one of {', '.join(reduction.names())}")
        file = reduction.DIRECTORY / f"{asked}.py"
    if not file.is_file():
        raise UserError(f"{located(file)}: no such file")
    try:
        module = imported(file)
    except Exception as error:  # raised by the file
        raise UserError(blamed(error, file)) from None
    if not callable(function := getattr(module, file.stem, None)):
        raise UserError(f"{file}: it has to define the function {file.stem}")
    if getattr(module, "KIND", None) not in reduction.KINDS:
        raise UserError(f"{file}: it has to declare {reduction.DECLARED}")
    known = [name for name in keywords(function) if name not in reduction.CONTEXT]
    if unknown := [name for name in options if name not in known]:
        raise UserError(f"{file}: {file.stem} has no option {unknown[0]!r}; its options: {', '.join(known) or 'none'}")
    for name, value in options.items():
        annotation = inspect.signature(function).parameters[name].annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        if wrong := option_problem(text, value):
            raise UserError(f"{file}: option {name}: {wrong}")
    if getattr(module, "SEES", None) == "pixels":
        raise UserError(f"{file}: it sees pixels; only algorithms that see tokens can be checked")
    return Subject(file, function, options, ascending=getattr(module, "ORDER", None) != "own")


def keywords(function: Callable) -> list[str]:
    """The keyword-only arguments of a function."""
    arguments = inspect.signature(function).parameters.values()
    return [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]


def imported(file: Path) -> ModuleType:
    """The module of a file, outside of any package or inside this one."""
    if file.resolve().parent == reduction.DIRECTORY:
        return importlib.import_module(reduction.module(file.stem))
    module = ModuleType(f"checked_{file.stem}")
    module.__file__ = str(file)
    # An import would take bytecode of an earlier version of the same size and second.
    exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return module


def results(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """shapes, types, order and clusters of the result, in float32, bfloat16 and float16, in evaluation and training"""
    for dtype, training in product((torch.float32, torch.bfloat16, torch.float16), (False, True)):
        if wrong := subject.wrong(tokens.to(dtype, copy=True), clusters, training):
            return f"{str(dtype)[6:]}{', training' * training}: {wrong}"
    return None


def ties(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """tokens that are equal: in pairs, all, all zero"""
    pairs, same = tokens[:, torch.arange(TOKENS) // 2], tokens[:, :1].expand_as(tokens).contiguous()
    for name, equal in {"in pairs": pairs, "all": same, "all zero": torch.zeros_like(tokens)}.items():
        if wrong := subject.wrong(equal, clusters):
            return f"equal {name}: {wrong}"
    return None


def extremes(subject: Subject, tokens: Tensor, _: int) -> str | None:
    """K = 1 and K = N, or a ValueError for a K that it cannot do"""
    for clusters in (1, TOKENS):
        with suppress(ValueError):
            if wrong := subject.wrong(tokens, clusters):
                return f"K = {clusters}: {wrong}"
    return None


def independence(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """a video in a batch has the result that it has alone"""
    first, second = tokens.split(SEGMENTS)
    for training, other in product((False, True), (second, torch.zeros_like(second))):
        together = subject.drawn(torch.cat([first, other]), clusters, training)
        alone = zip(*(subject.drawn(video, clusters, training) for video in (first, other)), strict=True)
        if not all(map(torch.equal, together, map(torch.cat, alone))):
            return "a video of a batch of 2 got another result than alone; the same is right"
    return None


def determinism(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """the same result again in evaluation, and its input unchanged"""
    first, second = (subject.drawn(tokens, clusters, seed=seed) for seed in (0, 1))
    if not torch.equal(tokens, example()):
        return "it changed its input in place; a copy is right"
    same = all(map(torch.equal, first, second))
    return None if same else "a second call gave another result; the same is right, unless it asks for `training`"


def unknown_options(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """an unknown option is refused"""
    with suppress(TypeError):
        subject(tokens, clusters, no_such_option=1)
        return "it took no_such_option=1; keyword-only arguments by name are right, without **"
    return None


def host_waits(subject: Subject, tokens: Tensor, clusters: int) -> str | None:
    """the host does not wait for a GPU"""
    try:
        if torch.cuda.is_available():
            subject(there := tokens.cuda(), clusters)  # compiles kernels
            torch.cuda.set_sync_debug_mode("error")
            subject(there, clusters)
        else:
            with pretended_kernel(), FakeTensorMode():
                there = torch.empty(tokens.shape, device="cuda")
                with Waits():
                    subject(there, clusters)
    except (HostWaits, DynamicOutputShapeException, DataDependentOutputException) as error:
        return f"{blamed(error, subject.file)}; nothing whose value or shape the host must know is right"
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
    return None


CHECKS = [results, ties, extremes, independence, determinism, unknown_options, host_waits]


def outcomes(subject: Subject) -> Iterator[tuple[str, str | None]]:
    """A sentence for each check, with what is wrong and what is right, or None."""
    for check in CHECKS:
        try:
            wrong = check(subject, example(), subject.clusters())
        except Exception as error:  # raised by the algorithm
            wrong = blamed(error, subject.file)
        yield check.__doc__, wrong
