"""Messages, docstrings and comments of the package keep the rules of CONTRIBUTING.md, as far as a test can tell."""

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY

FILES = sorted(REPOSITORY.glob("centerclip/**/*.py"))
TELLERS = {"UserError": 0, "tell": 0, "note": 0, "warn": 0, "Finding": 2, "judged": 2}  # which argument is the message
LONGEST = 200  # characters, without what is filled in
NAMES = ("CUDA", "FFmpeg", "GPU", "PyTorch", "PyAV", "SLURM", "Triton", "NVIDIA", "HF_", "OpenAI", "REQUESTS_CA_BUNDLE")
RIDDLES = "of which", "made anew", "is none", "has none", "that what", "those that", "what has", "of before", "is told"
RIDDLE = "|".join(words.replace(" ", r"\s+(?:#\s+)?") for words in RIDDLES)  # also over two lines of a comment
FILLED_IN = "\0"


def fixed_text(node: ast.expr) -> str:
    """A message with a mark for each part that is filled in when the program runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(fixed_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return fixed_text(node.left) + fixed_text(node.right)
    return FILLED_IN


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each message; both texts of `a if condition else b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            argument = TELLERS.get(getattr(node.func, "attr", getattr(node.func, "id", None)))
            if argument is not None and len(node.args) > argument:
                told = node.args[argument]
                for choice in [told.body, told.orelse] if isinstance(told, ast.IfExp) else [told]:
                    yield node.lineno, fixed_text(choice)


def faults(message: str) -> list[str]:
    capital = message[:1].isupper() and not message.startswith(NAMES)
    found = {
        "a trailing period": message.endswith("."),
        '"error", which the command prints already': message.lower().startswith("error"),
        "a capital in front, not a file or a key": capital,
        f"more than {LONGEST} characters": len(message.replace(FILLED_IN, "")) > LONGEST,
    }
    return [fault for fault, there in found.items() if there]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_messages_and_docstrings_are_read_once(file):
    source = file.read_text()
    found = [f"{line}: {fault}: {told!r}" for line, told in messages(source) for fault in faults(told)]
    for riddle in re.finditer(rf"(?<!there )\b(?:{RIDDLE})\b", source):
        line = source.count("\n", 0, riddle.start()) + 1
        found.append(f"{line}: a riddle: {source.splitlines()[line - 1].strip()!r}")
    if found:
        pytest.fail("\n".join(f"{file.relative_to(REPOSITORY)}:{fault}" for fault in found), pytrace=False)


def test_each_fault_of_a_message_is_found():
    source = 'tell(f"{path}: gone"); UserError("Error: it failed." if path else "lr: not a number")'
    source += f"; note({'Bad' * 100!r})"
    found = [faults(told) for _, told in messages(source)]
    assert [len(of_message) for of_message in found] == [0, 3, 0, 2]
