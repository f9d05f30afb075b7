"""What all stages share: files appear whole or not at all, and a mistake is one line."""

import errno
import os
import platform
import subprocess
import sys

import pytest

from centerclip.command import atomic, atomic_directory


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    file = tmp_path / "new/[a].json"
    with atomic(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), atomic(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "whole" and list(file.parent.iterdir()) == [file]


def test_a_directory_takes_its_name_when_it_is_whole(tmp_path):
    directory = tmp_path / "new/data"
    for name in ("first", "second"):
        with atomic_directory(directory) as temporary:
            (temporary / name).write_text("whole")
        assert [path.name for path in directory.iterdir()] == [name]
    (tmp_path / "new/.data.tmp").mkdir()  # of a process that was killed
    (tmp_path / "new/.data.tmp/third").write_text("half")
    with pytest.raises(KeyboardInterrupt), atomic_directory(directory) as temporary:
        assert not list(temporary.iterdir())
        raise KeyboardInterrupt
    assert list(directory.parent.iterdir()) == [directory] and (directory / "second").exists()


def test_a_full_disk_is_told_with_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as failed, atomic(tmp_path / "whole.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert failed.value.filename == str(tmp_path / "whole.json") and not list(tmp_path.iterdir())


def test_what_a_killed_process_of_this_host_left_goes_and_what_others_write_stays(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host, pid = platform.node(), ended.stdout.strip()
    killed, living = f".[a].json.{host}.{pid}.tmp", f".[a].json.{host}.{os.getppid()}.tmp"
    others = {f".a.json.{host}.1.tmp", f".[a].json.other-host.{pid}.tmp", f".[a].json.{host}.org.{pid}.tmp"}
    for name in (killed, living, *others):
        (tmp_path / name).write_text("half")
    with atomic(tmp_path / "[a].json") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"[a].json", living, *others}


@pytest.mark.parametrize("log", [False, True])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path, log):
    """A directory that would have to lie in a file."""
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "centerclip", "frames-report", "none.csv", "--out", "t"]
    done = subprocess.run(
        [*command, *(["--log", tmp_path / "log"] if log else [])], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: none.csv: No such file or directory\n")
    if log:
        assert "Traceback" in (tmp_path / "log").read_text()


def mark_of(tmp_path, code: str) -> int | None:
    """When the mark of a job that runs `code` was touched; None without one."""
    lines = "import argparse, os, pathlib, signal; from centerclip.command import execute"
    call = f"execute(lambda arguments: {code}, argparse.Namespace(log=pathlib.Path('log')))"
    subprocess.run([sys.executable, "-c", f"{lines}; {call}"], cwd=tmp_path, capture_output=True)
    mark = tmp_path / "log.failed"
    return mark.stat().st_mtime_ns if mark.exists() else None


def test_a_job_that_fails_or_is_killed_leaves_a_mark_that_stays_as_it_is_when_it_succeeds(tmp_path):
    assert mark_of(tmp_path, "None") is None
    failed = mark_of(tmp_path, "1 / 0")
    killed = mark_of(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert None is not failed < killed == mark_of(tmp_path, "None")
    assert mark_of(tmp_path, "pathlib.Path('log.failed').touch()") > killed


def test_a_directory_is_held_by_one_process_and_the_other_is_told(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to("results")
    code = "import pathlib; from centerclip.command import hold; hold(pathlib.Path('{}'), 'in use'); {}"
    with subprocess.Popen(
        [sys.executable, "-c", code.format("results", "print(flush=True); input()")],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        holder.stdout.readline()
        command = [sys.executable, "-c", code.format("link", "")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr.splitlines()[-1] == f"centerclip.command.UserError: {tmp_path.resolve()}/results: in use"
        holder.kill()
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
