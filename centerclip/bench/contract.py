"""Whether an algorithm keeps its contract, tried on small examples: for `centerclip check-algorithm`."""

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

FRAMES, PATCHES, WIDTH, SEGMENTS, VIDEOS = 3, 8, 16, 2, 2
TOKENS, PATCH = FRAMES * PATCHES, 8  # of a segment; pixels, the side of a patch of 4
LOOKED_AT, SOLVER, EQUAL = "aten._local_scalar_dense.default", "aten._linalg_eigh.default", "aten.equal.default"


class HostWaits(RuntimeError):
    """The host would synchronise with a GPU."""


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
    pixels: bool = False  # whether it sees frames, as `rlt` does
    ascending: bool = True  # whether it keeps the order of tokens

    def __call__(self, given: Tensor, clusters: int, training: bool = False, **more: object) -> object:
        """What the function makes of tokens and K, or of frames."""
        scores = given.float().norm(dim=-1).softmax(-1)
        known = {"frames": FRAMES, "segments": SEGMENTS, "classes": 1, "scores": scores, "training": training}
        asked = {name: known[name] for name in known if name in keywords(self.function)}
        with torch.no_grad():
            return self.function(given, PATCH if self.pixels else clusters, **self.options, **asked, **more)

    def example(self) -> Tensor:
        """Tokens of two videos of two segments, or frames of two videos."""
        shape = (VIDEOS, FRAMES, 3, 2 * PATCH, 2 * PATCH) if self.pixels else (VIDEOS * SEGMENTS, TOKENS, WIDTH)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def clusters(self) -> int:
        """A K that the algorithm takes. Raises its own ValueError if it takes neither of the two tried."""
        try:
            self(self.example(), PATCHES)
            return PATCHES
        except ValueError:
            self(self.example(), TOKENS * 3 // 4)
            return TOKENS * 3 // 4

    def wrong(self, result: object, given: Tensor, clusters: int) -> str | None:
        """What is wrong with a result, and what is right."""
        if not self.pixels:
            return misshapen(result, given, clusters) or disordered(result[0], self.ascending) or elsewhere(*result)
        shape = [*given.shape[:2], (given.shape[3] // PATCH) * (given.shape[4] // PATCH)]
        if isinstance(result, Tensor) and list(result.shape) == shape and result.dtype == torch.bool:
            return None
        return f"returned {described(result)}; [B, T, N] is right, here {shape} bool"


def blamed(error: Exception, file: Path) -> str:
    """An exception with the line of `file` that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    at = next((frame.lineno for frame in reversed(frames) if Path(frame.filename) == file.resolve()), None)
    return f"{f'{file}:{at}' if at else file}: {type(error).__name__}: {' '.join(str(error).split())}"


def subject(asked: str, options: dict) -> Subject:
    """The algorithm of a name in this package, or of a file NAME.py that defines NAME. Raises UserError."""
    file = Path(asked)
    if file.suffix != ".py":
        if asked not in reduction.names():
            raise UserError(f"{asked!r} is not a file NAME.py, and not one of {', '.join(reduction.names())}")
        file = reduction.DIRECTORY / f"{asked}.py"
    if not file.is_file():
        raise UserError(f"{located(file)}: no such file")
    try:
        module = imported(file)
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: {error.msg}") from None
    except Exception as error:  # of what the file runs
        raise UserError(blamed(error, file)) from None
    if not callable(function := getattr(module, file.stem, None)):
        raise UserError(f"{file}: it has to define the function {file.stem}")
    if getattr(module, "KIND", None) not in reduction.KINDS:
        raise UserError(f"{file}: it has to declare {reduction.DECLARED}")
    known = [name for name in keywords(function) if name not in reduction.CONTEXT]
    if unknown := [name for name in options if name not in known]:
        raise UserError(f"{file}: {file.stem} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    pixels, own_order = getattr(module, "SEES", None) == "pixels", getattr(module, "ORDER", None) == "own"
    return Subject(file, function, options, pixels, not own_order)


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
    # Cached bytecode would count as current if two versions of the file have one size and one second.
    exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return module


def disordered(kept: Tensor, ascending: bool) -> str | None:
    """What is wrong with the order of kept [B, K], and what is right."""
    for tokens in kept:
        if len(tokens.unique()) < len(tokens):
            return f"kept is {tokens.tolist()}; each token once is right"
        if ascending and not (tokens.diff() > 0).all():
            return f'kept is {tokens.tolist()}; ascending is right, or a file that declares ORDER = "own"'
    return None


def elsewhere(kept: Tensor, assignment: Tensor) -> str | None:
    """Which of kept [B, K] is not in its own cluster by assignment [B, N], and what is right."""
    for tokens, clusters in zip(kept, assignment.gather(1, kept), strict=True):
        for cluster, (token, found) in enumerate(zip(tokens.tolist(), clusters.tolist(), strict=True)):
            if found != cluster:
                return f"token {token}, kept for cluster {cluster}, is assigned to {found}; {cluster} is right"
    return None


def described(result: object) -> str:
    """A result in a few words."""
    return f"{list(result.shape)} {str(result.dtype)[6:]}" if isinstance(result, Tensor) else type(result).__name__


def shapes(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """shapes, types and range of what is returned"""
    result = subject(given, clusters)
    return subject.wrong(result, given, clusters) if subject.pixels else misshapen(result, given, clusters)


def order(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """kept tokens ascend, each once"""
    result = subject(given, clusters)
    return misshapen(result, given, clusters) or disordered(result[0], subject.ascending)


def membership(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """each kept token is in its own cluster"""
    result = subject(given, clusters)
    return misshapen(result, given, clusters) or elsewhere(*result)


def ties(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """tokens that are equal: in pairs, all, all zero"""
    pairs = given[:, torch.arange(given.shape[1]) // 2]
    cases = {"in pairs": pairs, "all": given[:, :1].expand_as(given).contiguous(), "all zero": torch.zeros_like(given)}
    for name, tokens in cases.items():
        if wrong := subject.wrong(subject(tokens, clusters), tokens, clusters):
            return f"equal {name}: {wrong}"
    return None


def extremes(subject: Subject, given: Tensor, _: int) -> str | None:
    """K = 1 and K = N, or a ValueError for a K that it cannot do"""
    for clusters in (1, TOKENS):
        with suppress(ValueError):
            if wrong := subject.wrong(subject(given, clusters), given, clusters):
                return f"K = {clusters}: {wrong}"
    return None


def independence(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """a video in a batch has the result that it has alone"""
    rows = 1 if subject.pixels else SEGMENTS
    for training, second in product((False, True), (given[rows:], torch.zeros_like(given[rows:]))):
        both = torch.cat([given[:rows], second])
        together, *alone = (drawn(subject, part, clusters, training) for part in (both, *both.split(rows)))
        for place, own in enumerate(alone):
            part = slice(place * rows, (place + 1) * rows)
            if not all(torch.equal(x[part], y) for x, y in zip(parts(together), parts(own), strict=True)):
                return f"video {place} of a batch of 2 got another result than alone; the same is right"
    return None


def drawn(subject: Subject, given: Tensor, clusters: int, training: bool = False, seed: int = 0) -> object:
    """A result with PyTorch's generator in a given state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return subject(given, clusters, training)


def parts(result: object) -> tuple[Tensor, ...]:
    """The tensors of a result."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def precisions(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """float32, bfloat16 and float16, in evaluation and in training"""
    for dtype, training in product((torch.float32, torch.bfloat16, torch.float16), (False, True)):
        tokens = given.to(dtype, copy=True)
        if wrong := subject.wrong(drawn(subject, tokens, clusters, training), tokens, clusters):
            return f"{str(dtype)[6:]}{', training' * training}: {wrong}"
    return None


def determinism(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """the same result again, in evaluation"""
    first, second = (parts(drawn(subject, given.clone(), clusters, seed=seed)) for seed in (0, 1))
    same = all(map(torch.equal, first, second))
    return None if same else "a second call gave another result; the same is right, unless it asks for `training`"


def inputs(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """what it is given stays as it is"""
    subject(given, clusters)
    return None if torch.equal(given, subject.example()) else "it changed its input in place; a copy is right"


def unknown_options(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """an option that it does not have is refused"""
    try:
        subject(given, clusters, no_such_option=1)
    except TypeError:
        return None
    return "it took no_such_option=1; keyword-only arguments by name are right, without **"


def host_waits(subject: Subject, given: Tensor, clusters: int) -> str | None:
    """the host does not wait for a GPU"""
    try:
        if torch.cuda.is_available():
            given = given.cuda()
            subject(given, clusters)  # kernels are made
            torch.cuda.set_sync_debug_mode("error")
            subject(given, clusters)
        else:
            with pretended_kernel(), FakeTensorMode():
                given = torch.empty(given.shape, device="cuda")
                with Waits():
                    subject(given, clusters)
    except (HostWaits, DynamicOutputShapeException, DataDependentOutputException) as error:
        return f"{blamed(error, subject.file)}; nothing whose value or shape the host must know is right"
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
    return None


OF_PIXELS = [shapes, independence, precisions, determinism, inputs, unknown_options, host_waits]
CHECKS = [shapes, order, membership, ties, extremes, *OF_PIXELS[1:]]


def outcomes(subject: Subject) -> Iterator[tuple[str, str | None]]:
    """Each check, in words, with what is wrong and what is right, or None."""
    for check in OF_PIXELS if subject.pixels else CHECKS:
        try:
            wrong = check(subject, subject.example(), subject.clusters())
        except Exception as error:  # of the algorithm's
            wrong = blamed(error, subject.file)
        yield check.__doc__, wrong
