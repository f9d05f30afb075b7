"""Clustering on a GPU: the kernel, by Triton's interpreter on a CPU, does what the torch path does, and nothing in the
encoder makes the host wait. Where there is a GPU, it is asked too."""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from unittest import mock

import pytest
import torch
from support import interpreted
from support.cells import STAGE
from support.gpu import on_a_gpu
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from centerclip.backbones.clip import CenterCLIP, build
from centerclip.bench.contract import EQUAL, LOOKED_AT, SOLVER, HostWaits, Waits, pretended_kernel
from centerclip.data.video.batches import normalise
from centerclip.evaluate.costs import smooth_videos
from centerclip.method.errors import SlowWarning
from centerclip.method.reduction import kmedoids as by_name
from centerclip.method.reduction.kmedoids import (
    alternate,
    alternate_in_steps,
    in_one_launch,
    kernel_runs,
    longest,
    pairwise_distances,
)
from centerclip.method.reduction.spectral import spectral
from centerclip.method.stage import Model
from centerclip.settings.config import read_config
from centerclip.settings.resolve import cell

with_triton = pytest.mark.skipif(not find_spec("triton"), reason="no Triton here: the torch path is all there is")
KMEDOIDS = "centerclip.method.reduction.kmedoids"
SPECTRAL = replace(STAGE, algorithm="spectral", options={"sigma": None})  # whose eigenvalues lie apart
PAPER = ["zeroshot", "kmedoids-s4", "spectral-s4", "pooling", "sparse_sampling", "temporal_shift", "token_shift"]
PAPER += ["kmedoids-mean", "kmedoids-cosine", "kmedoids-normalised", "kmedoids-embedding", "kmedoids-progressive"]


def shapes() -> list[tuple[int, int, int]]:
    """(problems, tokens, clusters): many small ones, which take least time, and some at the borders of the kernel's
    blocks, 16 to 1,024 tokens wide, and of its tiles, 4 to 64 rows high."""
    small = [(2, 1), (3, 1), (5, 1), (5, 2), (8, 2), (8, 4), (9, 9), (12, 1), (12, 4), (12, 6)]
    borders = [(n, k) for n in (15, 16, 17) for k in (1, 5, n - 1, n)]
    larger = [(31, 31), (32, 5), (33, 32), (33, 33), (64, 16), (65, 31), (65, 33), (128, 32), (129, 15), (129, 17)]
    largest = [(256, 16), (257, 7), (588, 9), (1023, 4), (1024, 5)]
    counted = (20, small), (4, borders), (2, larger), (1, largest)
    return [(count, *shape) for count, group in counted for shape in group]


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """Two processes in which Triton interprets; only they: here it compiles."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            list(pool.map(abs, (1, 2)))  # starts both
        yield pool


@with_triton
def test_medoids_and_assignment_are_the_torch_paths_on_270_problems(interpreter):
    longest_first = sorted(shapes(), key=lambda shape: -shape[0] * shape[1] * shape[2])
    outcomes = list(interpreter.map(partial(interpreted.agreeing, iterations=100), longest_first))
    assert sum(total for _, total in outcomes) >= 270
    wrong = [shape for shape, (same, total) in zip(longest_first, outcomes, strict=True) if same < total]
    assert wrong == []


@with_triton
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_rounds_are_as_many_as_allowed(interpreter, iterations):
    assert interpreter.submit(interpreted.agreeing, (18, 24, 5), iterations).result() == (18, 18)


@with_triton
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("options", [{}, {"distance": "cosine"}, {"distance": 1}, {"normalise": True}])
def test_a_token_that_is_not_finite_is_a_medoid_beside_as_many_others(interpreter, options, bad):
    first, second = interpreter.submit(interpreted.medoids, options, bad, 4).result()
    assert 7 in first and len(set(first)) == 4 and first == sorted(first)
    assert second == kmedoids_of_the_second(options)
    assert interpreter.submit(interpreted.medoids, options, bad, 1).result()[0] == [7]


def kmedoids_of_the_second(options: dict) -> list[int]:
    """What `interpreted.medoids` has to say of the problem that is whole."""
    return by_name.kmedoids(interpreted.problems(2, 12, seed=0)[1:], 4, **options)[0][0].tolist()


@with_triton
@pytest.mark.parametrize("stage", [STAGE, replace(STAGE, keep="mean"), SPECTRAL])
def test_a_video_is_the_same_by_the_kernel(interpreter, stage):
    model = Model("tiny", stages=(stage,))
    with torch.no_grad():
        expected = build(model, seed=0).eval().encode_video(smooth_videos(2, 6, 56))
    assert torch.allclose(interpreter.submit(interpreted.vectors, model, None).result(), expected, atol=1e-6)


@with_triton
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("stage", [STAGE, SPECTRAL])
def test_what_is_not_finite_is_not_lost_without_waiting_for_it(interpreter, stage, bad):
    """The video that has it gets a vector that evaluation refuses; the one beside it is as it was."""
    model = Model("tiny", stages=(stage,))
    broken, whole = interpreter.submit(interpreted.vectors, model, bad).result()
    with torch.no_grad():
        expected = build(model, seed=0).eval().encode_video(smooth_videos(2, 6, 56))
    assert not torch.isfinite(broken).any() and torch.allclose(whole, expected[1], atol=1e-6)


@with_triton
@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("count", [16, 147, 1024])
@pytest.mark.slow
def test_it_compiles_for_gpus_from_turing_on(capability, count, tmp_path, monkeypatch):
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from centerclip.method.reduction.kernel import compiled_for, one_problem

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = ["*fp32", *["*i64"] * 3, "*fp64", *["i32"] * 3, *["constexpr"] * 2]
    signature = dict(zip(one_problem.arg_names, types, strict=True))
    how = compiled_for(count)
    constants = {name: how.pop(name) for name in ("BLOCK", "ROWS")}
    # As a launch has it: tensors start at multiples of 16 bytes, and a count that is one of 16 is told apart.
    multiples = [*range(5), *([5] if count % 16 == 0 else [])]
    attributes = {(place,): [["tt.divisibility", 16]] for place in multiples}
    source = ASTSource(one_problem, signature, constants, attributes)
    compiled = compile(source, GPUTarget("cuda", capability, 32), how)
    assert compiled.asm["cubin"] and compiled.metadata.shared <= 48 << 10  # bytes, which every GPU has


def test_the_torch_path_is_taken_where_there_is_no_gpu_no_triton_no_compiler_or_too_many_tokens(monkeypatch, capsys):
    monkeypatch.setattr(f"{KMEDOIDS}.kernel_runs", lambda device: True)
    assert not in_one_launch(torch.zeros(1, 8, 8))
    with FakeTensorMode():
        largest, larger = (torch.empty(1, count, count, device="cuda") for count in (1024, 1025))
    assert in_one_launch(largest) and not in_one_launch(larger)
    monkeypatch.undo()
    monkeypatch.setattr(f"{KMEDOIDS}.find_spec", lambda name: None)
    assert not kernel_runs.__wrapped__(torch.device("cpu")) and not capsys.readouterr().err


def flipped(*given) -> list[Tensor]:
    return [part.flip(0) for part in alternate_in_steps(*given)]


@with_triton
@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        (..., ""),  # the kernel itself, which no CPU runs
        (mock.Mock(alternate_in_one_launch=flipped), "its kernel chooses other medoids"),
        (None, "import of centerclip"),
    ],
)
def test_a_kernel_that_does_not_work_is_a_warning(kernel, problem, monkeypatch):
    if kernel is not ...:
        monkeypatch.setitem(sys.modules, "centerclip.method.reduction.kernel", kernel)
    with pytest.warns(SlowWarning, match=f"many launches, as Triton does not work here: {problem}"):
        assert not kernel_runs.__wrapped__(torch.device("cpu"))


@with_triton
@pytest.mark.filterwarnings("error")
def test_a_kernel_that_agrees_is_used_and_a_full_gpu_condemns_none(monkeypatch):
    """A batch that found the GPU full comes again in chunks, and the kernel is asked again."""
    kernel = mock.Mock(alternate_in_one_launch=alternate_in_steps)
    monkeypatch.setitem(sys.modules, "centerclip.method.reduction.kernel", kernel)
    assert kernel_runs.__wrapped__(torch.device("cpu"))
    kernel.alternate_in_one_launch = mock.Mock(side_effect=torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        kernel_runs.__wrapped__(torch.device("cpu"))


def waits(work, *given: Tensor) -> list[str]:
    """For what `work` of tensors on a pretended GPU makes the host wait."""
    try:
        with Waits():
            work(*given)
    except HostWaits as wait:
        return [str(wait)]
    return []


@pytest.fixture
def pretended() -> Iterator[None]:
    """A GPU that PyTorch takes for one, of tensors without numbers, with a kernel that gives what it should."""
    with pretended_kernel(), FakeTensorMode():
        yield


def test_a_wait_is_seen(pretended):
    there, here = torch.ones(4, device="cuda"), torch.ones(4)
    assert waits(lambda: there.sum().item()) == [LOOKED_AT] == waits(lambda: bool((there > 0).all()))
    assert waits(lambda: torch.equal(there, there)) == [EQUAL]
    assert waits(lambda: there.cpu()) == ["aten._to_copy.default"] == waits(lambda: here.to("cuda"))
    assert waits(lambda: there.copy_(here)) == ["aten.copy_.default"]
    assert waits(lambda: torch.linalg.eigh(torch.ones(2, 2, device="cuda"))) == [SOLVER]
    assert waits(lambda: there.copy_(here, non_blocking=True)) == waits(lambda: there * 2 + there.sum()) == []
    for masked in (lambda: there[there > 0], lambda: there.nonzero(), lambda: there.unique()):
        with pytest.raises(DynamicOutputShapeException):
            waits(masked)


def test_frames_are_normalised_without_waiting():
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert waits(normalise, torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="cuda")) == []


@pytest.mark.parametrize("name", PAPER)
def test_encoding_waits_for_nothing(pretended, name):
    with torch.device("cuda"):
        asked = variant(name)
        model = CenterCLIP(asked.backbone, asked.stages, asked.shift).eval()
        given = torch.empty(2, 12, 3, 224, 224), torch.ones(2, 12, dtype=torch.bool)
    with torch.no_grad():
        assert waits(model.encode_video, *given) == []


def variant(name: str) -> Model:
    """A variant of the config on MSR-VTT, of random weights."""
    return replace(cell(read_config(()), "msrvtt", name).model, weights=None)


@on_a_gpu
class TestOnAGPU:
    @pytest.mark.parametrize("shape", [(64, 147, 49), (12, 245, 49), (8, 588, 160), (15, 784, 160), (3, 1024, 700)])
    def test_the_kernel_agrees_with_the_torch_path(self, shape, monkeypatch):
        batch, count, clusters = shape
        for tokens in (interpreted.problems(batch, count, 0), torch.randn(batch, count, 768)):
            tokens = tokens.cuda()
            given = pairwise_distances(tokens), longest(tokens), clusters, 100
            assert in_one_launch(given[0])
            ours = alternate(*given)
            with monkeypatch.context() as patch:
                patch.setattr(f"{KMEDOIDS}.in_one_launch", lambda distances: False)
                expected = alternate(*given)
            assert all(map(torch.equal, ours, expected))

    @pytest.mark.parametrize("name", PAPER)
    def test_encoding_waits_for_nothing(self, name):
        model = build(variant(name), seed=0).eval().cuda()
        frames, mask = smooth_videos(2, 12, 224).cuda(), torch.ones(2, 12, dtype=torch.bool, device="cuda")
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            model.encode_video(frames, mask)  # libraries loaded, kernels made
            torch.cuda.set_sync_debug_mode("error")
            try:
                vectors = model.encode_video(frames, mask)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert torch.isfinite(vectors).all()

    @pytest.mark.parametrize("shape", [(8, 147, 49), (4, 245, 49), (2, 588, 160)])
    def test_spectral_has_the_cpus_medoids(self, shape):
        batch, count, clusters = shape
        tokens = torch.randn(batch, count, 768, generator=torch.Generator().manual_seed(0))
        expected = spectral(tokens, clusters, frames=3, sigma=None)[0]
        found = spectral(tokens.cuda(), clusters, frames=3, sigma=None)[0].cpu()
        assert (found[:, :, None] == expected[:, None]).any(-1).double().mean() > 0.99
