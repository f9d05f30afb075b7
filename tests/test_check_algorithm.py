"""`centerclip check-algorithm`: the package's algorithms keep the contract, and each break of it is named."""

import re
import sys
from pathlib import Path

import pytest
import torch

from centerclip.bench import contract as checks
from centerclip.bench.contract import outcomes, subject
from centerclip.cli import main
from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.method.stages import Reduction

GOOD = """
import torch

KIND = "sampling"


def mine(tokens, clusters, *, seed=0):
    kept = torch.arange(clusters, device=tokens.device).expand(len(tokens), -1)
    place = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
    own = place.clamp(max=clusters - 1)
    return kept, own
"""
RETURN = "return kept, own"
NEAREST = "return kept, torch.cdist(tokens.float(), tokens[:, :clusters].float()).argmin(-1)"
OF_THE_BATCH = "return kept + int(tokens.float().sum() > 0), (place - 1).clamp(0, clusters - 1)"
OF_FLOAT32 = "return kept, own if tokens.dtype == torch.float32 else kept"
RANDOM = """shift = int(torch.randint(tokens.shape[1] - clusters + 1, ()))
    return kept + shift, (place - shift).clamp(0, clusters - 1)"""


def failures(path: Path, **options) -> dict[str, str]:
    """The checks that an algorithm fails, by the name of their function, with what they say."""
    names = {check.__doc__: check.__name__ for check in checks.CHECKS}
    return {names[check]: wrong for check, wrong in outcomes(subject(str(path), options)) if wrong}


@pytest.fixture
def written(tmp_path):
    """Writes an algorithm `mine` that is GOOD with one text in place of another."""

    def write(old: str = RETURN, new: str = RETURN) -> Path:
        assert old in GOOD
        path = tmp_path / "mine.py"
        path.write_text(GOOD.replace(old, new))
        return path

    return write


@pytest.mark.parametrize("name", [name for name in reduction.names() if not reduction.sees_pixels(name)])
def test_the_packages_algorithms_pass(name):
    assert failures(name) == {}


def test_options_are_given():
    assert failures("kmedoids", distance="cosine") == {}


@pytest.mark.parametrize(
    ("annotation", "value", "line"),
    [
        ("float", "fast", "option seed: 'fast' should be a valid number"),
        ("'float'", "fast", "option seed: 'fast' should be a valid number"),
        ("typing.Annotated[int, '>= 1']", 0, "option seed: 0 should be greater than or equal to 1"),
        ("typing.Literal['a', 'b']", "c", "option seed: 'c' should be 'a' or 'b'"),
        ("torch.Tensor", "anything", None),
    ],
)
def test_an_option_of_another_type_is_one_line(annotation, value, line, written):
    path = written("import torch", "import torch, typing")
    path.write_text(path.read_text().replace("seed=0", f"seed: {annotation} = 0"))
    if line is None:
        subject(str(path), {"seed": value})
        return
    with pytest.raises(UserError, match=re.escape(f"{path}: {line}")):
        subject(str(path), {"seed": value})


@pytest.mark.parametrize(
    ("new", "check", "line"),
    [
        ("return kept", "results", "returned Tensor; two tensors are right, kept [B, K] and assignment [B, N]"),
        ("return kept.int(), own", "results", "kept is [4, 8] int32 on cpu; [4, 8] int64 on cpu is right"),
        ("return kept, kept", "results", "assignment is [4, 8] int64 on cpu; [4, 24] int64 on cpu is right"),
        ("return kept + 20, own", "results", "kept has numbers from 20 to 27; 0 to 23 is right"),
        ("return kept - 1, own", "results", "kept has numbers from -1 to 6; 0 to 23"),
        ("return kept, place", "results", "assignment has numbers from 0 to 23; 0 to 7 is right"),
        ("1 / 0", "results", "mine.py:11: ZeroDivisionError: division by zero"),
        ("return kept.flip(1), clusters - 1 - own", "results", "ascending is right"),
        ("return kept // 2 * 2, own", "results", "kept is [0, 0, 2, 2, 4, 4, 6, 6]; each token"),
        ("return kept, own * 0", "results", "token 1, kept for cluster 1, is assigned to 0; 1 is right"),
        (NEAREST, "ties", "equal in pairs: token 1, kept for cluster 1, is assigned to 0; 1 is right"),
        ("return kept, own.clamp(min=1)", "extremes", "K = 1: assignment has numbers from 1 to 1; 0 to 0 is right"),
        (OF_THE_BATCH, "independence", "a video of a batch of 2 got another result than alone; the same is right"),
        (OF_FLOAT32, "results", "bfloat16: assignment is [4, 8] int64 on cpu; [4, 24] int64 on cpu is right"),
        (RANDOM, "determinism", "a second call gave another result; the same is right, unless it asks for `training`"),
        ("tokens *= 2; " + RETURN, "determinism", "it changed its input in place; a copy is right"),
        ("float(tokens.sum()); " + RETURN, "host_waits", "mine.py:11: HostWaits: aten._local_scalar_dense.default"),
        ("tokens[tokens > 0]; " + RETURN, "host_waits", "mine.py:11: DynamicOutputShapeException: "),
        ("tokens.cpu(); " + RETURN, "host_waits", "mine.py:11: HostWaits: aten._to_copy.default"),
    ],
)
def test_a_broken_contract_is_named(new, check, line, written):
    assert line in failures(written(RETURN, new))[check]


def test_an_algorithm_must_refuse_unknown_options(written):
    assert failures(written()) == {}
    assert failures(written("*, seed=0", "**options")) == {
        "unknown_options": "it took no_such_option=1; keyword-only arguments by name are right, without **"
    }


def test_an_algorithm_may_refuse_a_k(written):
    refuses = "if clusters == 1:\n        raise ValueError('1')\n    " + RETURN
    assert failures(written(RETURN, refuses)) == {}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("KIND = 'sampling'\ndef mine(", "mine.py:2: '(' was never closed"),
        ("import no_such_module", "mine.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("KIND = 'sampling'", "mine.py: it has to define the function mine"),
        ("def mine(tokens, clusters): ...", 'mine.py: it has to declare KIND = "clustering" or '),
        ("KIND = 'sampling'\ndef mine(tokens, clusters, *, p=1): ...", "mine has no option 'q'; its options: p"),
    ],
)
def test_a_file_without_an_algorithm_is_one_line(content, line, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(UserError) as error:
        subject(str(tmp_path / "mine.py"), {"q": 1})
    assert line in str(error.value) and "\n" not in str(error.value)


def test_check_algorithm_prints_a_line_a_check_and_fails_if_one_fails(written, monkeypatch, capfd, mistake):
    path = written()
    monkeypatch.setattr(sys, "argv", ["centerclip", "check-algorithm", str(path), "--options", "seed=3"])
    main()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(checks.CHECKS) and all(line.startswith("ok: ") for line in lines)
    written(RETURN, "return kept, place * 0")
    line = mistake(main, "check-algorithm", path)
    assert line.endswith("mine.py: 3 checks failed; docs/reduction.md has the contract")
    assert "is neither a file NAME.py nor one of dpc_knn, " in mistake(main, "check-algorithm", "mine")
    assert "rlt.py: it sees pixels" in mistake(main, "check-algorithm", "rlt")
    assert "'seed' is not OPTION=VALUE" in mistake(main, "check-algorithm", path, "--options", "seed", status=2)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (None, "algorithm first_tokens: returned NoneType; two tensors are right"),
        ((torch.zeros(2, 3), torch.zeros(2, 8)), "algorithm first_tokens: kept is [2, 3] float32 on cpu; [2, 3] int64"),
        ((torch.full((2, 3), 9), torch.zeros(2, 8).long()), "kept has numbers from 9 to 9; 0 to 7 is right"),
    ],
)
def test_an_encoder_names_an_algorithm_that_returns_something_else(result, line):
    stage = Reduction("first_tokens", {})
    stage.function = lambda tokens, clusters: result
    with pytest.raises(UserError) as error:
        stage(torch.zeros(2, 8, 4), 3, frames=1, segments=1, classes=1)
    assert line in str(error.value) and "docs/reduction.md" in str(error.value)
