import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from centerclip import cli

REPOSITORY = Path(__file__).parent.parent
SLOW_FILES = ("test_edits", "test_slurm", "test_watch", "test_workflow")
SLOW_FIXTURES = {"interpreter"}  # Triton's


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow, beside the tests that say so themselves, those of SLOW_FILES and with SLOW_FIXTURES."""
    for item in items:
        if item.path.name.startswith(SLOW_FILES) or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def shared(name: str) -> Path:
    """A directory of real data beside the repository; the test is skipped where there is none."""
    directory = Path(os.environ.get("CENTERCLIP_SHARED", REPOSITORY.parent / "shared")) / name
    if not directory.is_dir():
        pytest.skip(f"no real data in {directory} (set CENTERCLIP_SHARED)")
    return directory


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """Real video clips with their manifest.csv."""
    return shared("clips")


@pytest.fixture(scope="session")
def shared_annotations() -> Path:
    """Published annotation files of four benchmarks, a directory each."""
    return shared("annotations")


@pytest.fixture(scope="session")
def run_once(tmp_path_factory) -> Path:
    """A copy of the repository in which the whole small workflow has run, for all processes of the tests."""
    from support.workflow import SMALL, copy_repository, snakemake

    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "run-once"
    with FileLock(f"{directory}.lock"):
        if not (directory / "results/tables/summary.md").exists():
            copy_repository(directory, SMALL | {"run": SMALL["run"] | {"full_size": True}})
            done = snakemake(directory, "all")
            assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def finished(run_once, tmp_path_factory) -> Path:
    """A copy of `run_once` for the tests of a file."""
    return shutil.copytree(run_once, tmp_path_factory.mktemp("finished") / "repository")


@pytest.fixture
def mistake(monkeypatch, capfd) -> Callable[..., str]:
    """Runs a command's `main` that is to fail: the last line on the terminal."""

    def line(main: Callable, *arguments, status: int = 1) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capfd.readouterr().err
        assert stopped.value.code == status and "Traceback" not in said
        return said.splitlines()[-1]

    return line


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., str]:
    """Runs `centerclip` with a command line: what it prints."""

    def printed(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", ["centerclip", *map(str, arguments)])
        cli.main()
        return capsys.readouterr().out

    return printed
