"""The command line: every command is listed and explains itself, and nothing heavy is imported for that."""

import subprocess
import sys

import pytest

from centerclip.cli import summaries


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def test_help_lists_every_command():
    done = run("-m", "centerclip", "--help")
    assert done.returncode == 0
    for name, text in summaries().items():
        assert f"\n    {name}" in done.stdout and text.split()[0] in done.stdout


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['centerclip', '--help']; from centerclip.cli import main\ntry: main()\nfinally: "
    heavy = "{'torch', 'open_clip', 'pandas', 'matplotlib', 'av'} & sys.modules.keys()"
    done = run("-c", f"{code}print('imported:', {heavy})")
    assert done.stdout.splitlines()[-1] == "imported: set()"


@pytest.mark.parametrize("name", summaries())
def test_every_command_explains_itself(name):
    done = run("-m", "centerclip", name, "--help")
    assert done.returncode == 0 and "--log" in done.stdout and summaries()[name].splitlines()[0] in done.stdout


def test_an_unknown_command_is_a_mistake():
    done = run("-m", "centerclip", "trian")
    assert done.returncode == 2 and "invalid choice: 'trian'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train cell.json --gpus -1", "argument --gpus: '-1' is not a whole number from 0 up"),
        ("evaluate cell.json --workers two", "argument --workers: 'two' is not a whole number from 0 up"),
        ("efficiency --threads 0", "argument --threads: '0' is not a whole number from 1 up"),
        ("audit videos --out a.csv --fps 0", "argument --fps: '0' is not a number above 0"),
        ("frames 0.lmdb --fps never", "argument --fps: 'never' is not a number above 0"),
        ("search videos dog --stall-seconds nan", "argument --stall-seconds: 'nan' is not a number above 0"),
    ],
)
def test_a_number_out_of_range_is_a_mistake(command, told):
    done = run("-m", "centerclip", *command.split())
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
