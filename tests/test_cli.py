"""The command line: every command is listed and explains itself, and nothing heavy is imported for that."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from centerclip.cli import main, summaries

FRAMES = "frames 0000.lmdb --shards 1 --fps 3 --size 56"


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
def test_every_command_explains_itself(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["centerclip", name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = capsys.readouterr().out
    assert "--log" in printed and summaries()[name].splitlines()[0] in printed


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{file.name}" for file in REPOSITORY.glob("docs/*.md"))])
def test_documented_commands_and_options_exist(page):
    for line in re.findall(r"\bcenterclip ([a-z].*)", (REPOSITORY / page).read_text()):
        name, *words = re.split(r"`|\s#", line)[0].split()
        if name in summaries():
            parser = argparse.ArgumentParser()
            importlib.import_module(f"centerclip.commands.{name.replace('-', '_')}").options(parser)
            known = parser._option_string_actions
            assert {word for word in words if word.startswith("--")} <= known.keys() | {"--log"}, line
    for module in re.findall(r"python -m (centerclip\.[a-z_.]+[a-z])", (REPOSITORY / page).read_text()):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("command", ["search nowhere dog", "train nowhere.json"])
def test_a_mistake_is_reported_with_any_rank_of_a_platform(command, mistake, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert mistake(main, *command.split()).startswith("error: nowhere")


def test_an_unwritable_file_is_reported_before_slow_work(mistake, tmp_path):
    (tmp_path / "file").touch()
    for command in (
        *("features . --backbone tiny --out", "audit . --out", "metrics none.npz --out"),
        *(
            "efficiency --benchmark shapes --variants baseline --out",
            "weights --backbone tiny --weights null --downloads . --out",
        ),
    ):
        line = mistake(main, *command.split(), tmp_path / "file/x.npz")
        assert line == f"error: {tmp_path}/file/x.npz: cannot be written: Not a directory"


def test_an_unknown_command_is_a_mistake():
    done = run("-m", "centerclip", "trian")
    assert done.returncode == 2 and "invalid choice: 'trian'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train cell.json --gpus -1", "argument --gpus: '-1' is not a whole number from 0 up"),
        ("evaluate cell.json --workers two", "argument --workers: 'two' should be a valid integer"),
        ("efficiency --threads 0", "argument --threads: '0' is not a whole number from 1 up"),
        ("audit videos --out a.csv --fps 0", "argument --fps: '0' is not a number above 0"),
        ("frames first.lmdb", "argument shard: 'first.lmdb' is not called by a number, such as 0002.lmdb"),
        ("frames 0.lmdb --fps never", "argument --fps: 'never' is not a number above 0"),
        ("search videos dog --stall-seconds nan", "argument --stall-seconds: 'nan' is not a number above 0"),
    ],
)
def test_a_number_out_of_range_is_a_mistake(command, told, mistake):
    assert told in mistake(main, *command.split(), status=2)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{FRAMES} --manifests other.csv", "other.csv: not a manifest: Usecols do not match columns"),
        (f"{FRAMES} --manifests empty", "empty: not a manifest: No columns to parse from file"),
        (FRAMES.replace("0000", "0004"), "0004.lmdb: the last of 1 shards is 0000.lmdb"),
        (FRAMES, "--manifests is missing: nothing says which videos there are"),
        ("frames-report other.csv --out o", "other.csv: not a report of stored frames: it has a, b"),
        (
            "summary --paper other.csv --tables other.csv --tolerance 1 --out o",
            "other.csv: the column benchmark is missing",
        ),
        ("fetch other.json", "other.json: not the settings of a benchmark, such as results/shapes/benchmark.json"),
        ("fetch folder.json", "folder.json: its videos and captions are your own: there is nothing to fetch"),
        ("manifest other.json", "other.json: not the settings of a benchmark"),
        ("efficiency --cells other.json", "other.json: not a list of cells, such as results/shapes/compared.json"),
    ],
)
def test_another_file_is_a_mistake(command, told, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    own = json.dumps({"benchmark": "mine", "dataset": "mine", "source": {"reader": "folder"}})
    files = {"other.csv": "a,b\n1,2\n", "other.json": "{}", "empty": "", "folder.json": own}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert mistake(main, *command.split()).startswith(f"error: {told}")
    assert {path.name for path in tmp_path.iterdir()} == files.keys()
