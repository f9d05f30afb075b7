import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip import cli

REPOSITORY = Path(__file__).parent.parent
SLOW_FILES = {"test_edits.py", "test_slurm.py", "test_watch.py", "test_workflow.py"}
SLOW_FIXTURES = {"interpreter"}  # Triton's


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow, beside the tests that say so themselves, those of SLOW_FILES and with SLOW_FIXTURES."""
    for item in items:
        if item.path.name in SLOW_FILES or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
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
