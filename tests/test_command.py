"""What all commands share: files are whole or missing, a mistake is one line, and how a process ends."""

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from centerclip.command import (
    SUCCEEDED,
    TORCHRUN,
    UserError,
    atomic,
    atomic_directory,
    explained,
    place,
    shown,
    tell,
    writable,
)


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    file = tmp_path / "new/[a].json"
    with atomic(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), atomic(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "whole" and list(file.parent.iterdir()) == [file]


def test_a_directory_gets_its_name_when_it_is_whole(tmp_path):
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


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as failed, atomic(tmp_path / "whole.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert failed.value.filename == str(tmp_path / "whole.json") and not list(tmp_path.iterdir())


def test_temporary_files_of_killed_processes_are_deleted_and_of_living_ones_kept(tmp_path):
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
def test_a_missing_file_is_one_line_and_its_traceback_is_in_the_log(tmp_path, log):
    command = [sys.executable, "-m", "centerclip", "frames-report", "none.csv", "--out", "t"]
    line = "error: none.csv: No such file or directory\n"
    assert done([*command, *["--log", tmp_path / "log"] * log]) == (1, "", line)
    assert not log or "Traceback" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    command = [sys.executable, "-m", "centerclip", "backbones", "--log", tmp_path]
    assert done(command) == (1, "", f"error: {tmp_path}: Is a directory\n")


def test_too_many_open_files_names_the_remedy():
    line = "0001.lmdb: Too many open files; raise the limit of open files, such as `ulimit -n 4096`"
    assert explained(OSError(errno.EMFILE, "Too many open files", "0001.lmdb")) == line
    assert explained(OSError(errno.EIO, "Input/output error", "0001.lmdb")) == "0001.lmdb: Input/output error"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        *((name, name) for name in ("Käse.mp4", "猫　と.mp4", "\u0641\u200c\u0647.avi", "👩‍🚀.gif", "a b\\c")),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nerror: b\r\tc\x85\u2028", r"a\nerror: b\r\tc\x85\u2028"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("\u202egpj.4pm\u2066", r"\u202egpj.4pm\u2066"),
        ("\udcff.mp4", r"\udcff.mp4"),
    ],
)
def test_control_characters_of_a_name_are_escaped(name, escaped, capsys):
    assert shown(Path(name)) == escaped
    tell(name)
    assert capsys.readouterr().err == f"{escaped}\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/new", "Not a directory"), ("folder", "Is a directory"), ("n" * 300, "File name too long")],
)
def test_an_unwritable_file_is_found_before_the_work(name, reason, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{name}: cannot be written: {reason}"):
        writable(tmp_path / name)
    for good in ("file", "new", "a/b/new"):
        writable(tmp_path / good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("lacking", [None, *TORCHRUN])
def test_only_torchruns_whole_environment_makes_a_process_one_of_several(lacking, monkeypatch):
    for name in TORCHRUN:
        monkeypatch.setenv(name, "3")
    if lacking:
        monkeypatch.delenv(lacking)
    assert place() == (None if lacking else dict.fromkeys(TORCHRUN, "3"))


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,gpu[1-2]", "gpu7"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("rack2-gpu[3,5]-ib", "rack2-gpu3-ib"),
    ],
)
def test_tasks_of_an_srun_step_meet_on_the_first_node(nodes, first, monkeypatch):
    step = {
        "PROCID": "3",
        "STEP_NUM_TASKS": "8",
        "LOCALID": "1",
        "STEP_NODELIST": nodes,
        "JOB_ID": "42",
        "STEP_ID": "7",
    }
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    expected = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": first, "MASTER_PORT": "14207"}
    assert place() == expected
    for name, value in {"STEP_NUM_TASKS": "1", "STEP_ID": ""}.items():  # one task; a batch script, which is no step
        with monkeypatch.context() as changed:
            changed.setenv(f"SLURM_{name}", value)
            assert place() is None


def program(job: str) -> list[str]:
    """The command line of a program whose job are these lines."""
    lines = "".join(f"    {line}\n" for line in job.splitlines())
    names = "argparse, importlib, multiprocessing, os, signal, sys, time"
    code = f"import {names}\nfrom centerclip.command import run, UserError\ndef job(_):\n{lines}"
    return [sys.executable, "-c", f"{code}run(argparse.ArgumentParser(), job)"]


def done(command: list[str], **options) -> tuple[int, str, str]:
    """The exit status of a command and what it prints."""
    options = {"env": os.environ | {"PYTHONPATH": str(REPOSITORY)}, "capture_output": True, "text": True} | options
    ended = subprocess.run(command, **options)
    return ended.returncode, ended.stdout, ended.stderr


def interrupted(job: str, **options) -> tuple[int, str, str]:
    """The exit status of a program and what it prints after its first line, when Ctrl-C is pressed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(program(job), cwd=REPOSITORY, **pipes, **options) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, told = process.communicate(timeout=30)
    return process.returncode, out, told


WAIT = "print('begun', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("job", "printed"),
    [
        (f"try:\n    {WAIT}\nfinally:\n    print('cleaned up')", "cleaned up\n"),
        (f"try:\n    {WAIT}\nexcept KeyboardInterrupt:\n    raise ImportError('of a library')", ""),
        # a child that did not end would keep the pipes open that are read here, for a minute
        (f"multiprocessing.get_context('fork').Process(target=time.sleep, args=[60]).start()\n{WAIT}", ""),
    ],
    ids=["cleaned up", "another error", "forked"],
)
def test_ctrl_c_is_a_line_and_ends_by_sigint_whatever_catches_it(job, printed):
    """So that a shell's loop over commands ends too."""
    assert interrupted(job) == (-signal.SIGINT, printed, "interrupted\n")


def test_a_second_ctrl_c_ends_a_library_that_drops_the_first():
    job = f"try: {WAIT}\nexcept BaseException: os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    assert interrupted(job) == (-signal.SIGINT, "", "interrupted\n")


def test_ctrl_c_that_is_ignored_stays_ignored():
    job = "print('begun', flush=True)\ntime.sleep(0.5)\nprint('done')"
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    assert interrupted(job, **ignoring) == (0, "done\n", "")


def test_a_closed_standard_stream_is_no_mistake_and_no_file_takes_its_place(tmp_path):
    job = "file = open('file', 'w')\nprint('printed', file=sys.stderr, flush=True)\nos.system('echo echoed >&2')"
    assert done(["sh", "-c", '"$@" 0<&- >&- 2>&-', "sh", *program(job)], cwd=tmp_path) == (0, "", "")
    assert (tmp_path / "file").read_text() == ""


def test_a_slow_warning_is_one_line():
    job = "import warnings\nfrom centerclip.method.errors import SlowWarning\nwarnings.warn('no GPU', SlowWarning)"
    assert done(program(job)) == (0, "", "warning: no GPU\n")


def test_a_program_whose_output_nobody_reads_ends_silently():
    job = program("print('begun', flush=True)\ntime.sleep(0.5)\nprint('more')")
    command = ["bash", "-c", '"$@" | head -n 1; exit "${PIPESTATUS[0]}"', "bash", *job]
    assert done(command) == (128 + signal.SIGPIPE, "begun\n", "")


def test_each_line_of_a_mistake_is_escaped_on_its_own():
    job = program(r"raise UserError('two\nvideos:', ' \x1b[31m')")
    assert done(job) == (1, "", "error: two\\nvideos:\n \\x1b[31m\n")


def mark_of(tmp_path, code: str, rank: int | None = None) -> int | None:
    """The time of the mark that a job which runs `code` leaves; None without one."""
    lines = "import argparse, os, pathlib, signal; from centerclip.command import execute"
    call = f"execute(lambda arguments: {code}, argparse.Namespace(log=pathlib.Path('log'), rank={rank}))"
    subprocess.run([sys.executable, "-c", f"{lines}; {call}"], cwd=tmp_path, capture_output=True)
    mark = tmp_path / "log.failed"
    return mark.stat().st_mtime_ns if mark.exists() else None


def test_a_failed_or_killed_job_leaves_a_mark_and_success_keeps_an_old_mark(tmp_path):
    assert mark_of(tmp_path, "None") is None
    failed = mark_of(tmp_path, "1 / 0")
    killed = mark_of(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert None is not failed < killed == mark_of(tmp_path, "print('done')")
    assert (tmp_path / "log").read_text() == f"done\n{SUCCEEDED}\n"
    assert mark_of(tmp_path, "print('of rank 0')", rank=0) == killed
    assert (tmp_path / "log").read_text() == f"done\n{SUCCEEDED}\nof rank 0\n"  # its launcher tells of success
    assert mark_of(tmp_path, "pathlib.Path('log.failed').touch()") > killed


def test_a_directory_is_held_by_one_process_only(tmp_path):
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
        assert done.stderr.endswith(f"UserError: {tmp_path.resolve()}/results: in use\n")
        holder.kill()
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
