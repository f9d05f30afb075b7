"""What all stages share: files appear whole or not at all, and a mistake is one line."""

import os
import subprocess
import sys

import pytest

from centerclip.command import atomic


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    file = tmp_path / "new/[a].json"
    with atomic(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), atomic(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "whole" and list(file.parent.iterdir()) == [file]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    killed, living, other = f".[a].json.{ended.stdout.strip()}.tmp", f".[a].json.{os.getppid()}.tmp", ".a.json.1.tmp"
    for name in (killed, living, other):
        (tmp_path / name).write_text("half")
    with atomic(tmp_path / "[a].json") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"[a].json", living, other}


@pytest.mark.parametrize("log", [False, True])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path, log):
    """A directory that would have to lie in a file."""
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "centerclip", "check-counts", "it", "--manifest", "none.csv", "--out", "t"]
    done = subprocess.run(
        [*command, *(["--log", tmp_path / "log"] if log else [])], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: none.csv: No such file or directory\n")
    if log:
        assert "Traceback" in (tmp_path / "log").read_text()
