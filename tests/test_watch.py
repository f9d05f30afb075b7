"""Watched processes finish all work; items that hang or crash do not stop the others."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import REPOSITORY

from centerclip.data.video import watch
from centerclip.data.video.reading import MachineFault, NoFrames
from centerclip.data.video.watch import watched


def work(item, beat):
    """Do what the item says: hang, crash, fail, or be slow."""
    if item == "hangs":
        time.sleep(600)
    if item == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "fails":
        raise KeyError("why")
    if item == "is empty":
        raise NoFrames("no frames in it")
    if item == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "fills the memory":
        raise MemoryError
    if item.startswith("/"):  # a file that counts the tries
        tries = Path(item).read_text() + "x"
        Path(item).write_text(tries)
        if "well" in item and len(tries) == 3:
            return "read at last"
        if "once" in item and len(tries) == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "once" not in item:
            raise MachineFault("Input/output error")
    if item == "is slow":
        for _ in range(20):
            time.sleep(0.1)
            beat()
    return f"{item} done"


@pytest.mark.parametrize("processes", [1, 3])
def test_every_item_is_done_once_and_in_order_by_one_process(processes):
    items = [f"item {number:02}" for number in range(20)]
    done = list(watched(work, items, processes, 60))
    assert (done if processes == 1 else sorted(done)) == [(item, f"{item} done") for item in items]
    assert list(watched(work, [], processes, 60)) == []


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(watch, "PAUSE", 0)


def test_fault_of_the_machine_is_tried_three_times(tmp_path, at_once):
    files = [str(tmp_path / name) for name in ("ill", "well", "once")]
    for file in files:
        Path(file).touch()
    ill, well, once = files
    found = dict(watched(work, files, 1, 60))
    assert isinstance(found[ill], MachineFault) and str(found[ill]) == "Input/output error"
    assert found[well] == "read at last" and found[once] == f"{once} done"
    assert [len(Path(file).read_text()) for file in files] == [3, 3, 2]


def test_next_try_comes_after_a_pause(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "PAUSE", 1.5)
    (tmp_path / "once").touch()
    begin = time.monotonic()
    assert list(watched(work, [str(tmp_path / "once")], 1, 60)) and time.monotonic() - begin > 1.5


def test_killed_process_and_full_memory_are_faults_of_the_machine_not_of_the_file(at_once):
    found = dict(watched(work, ["is killed", "fills the memory", "is empty", "a"], 1, 60))
    assert {item: (type(what), str(what)) for item, what in found.items()} == {
        "is killed": (MachineFault, "the decoder crashed (SIGKILL)"),
        "fills the memory": (MachineFault, "out of memory"),
        "is empty": (NoFrames, "no frames in it"),
        "a": (str, "a done"),
    }


def test_items_that_hang_or_crash_do_not_stop_the_others(at_once):
    begin = time.monotonic()
    found = dict(watched(work, ["a", "hangs", "b", "crashes", "c"], 2, 1))
    assert {item: found[item] for item in "abc"} == {item: f"{item} done" for item in "abc"}
    assert isinstance(found["hangs"], MachineFault) and str(found["hangs"]) == "gave no frame for 1 s and was ended"
    assert isinstance(found["crashes"], NoFrames) and str(found["crashes"]) == "the decoder crashed (SIGSEGV)"
    assert time.monotonic() - begin < 30


def test_slow_work_with_progress_is_not_ended():
    assert list(watched(work, ["is slow"], 1, 1)) == [("is slow", "is slow done")]


def test_other_errors_of_work_are_raised():
    with pytest.raises(KeyError, match="why"):
        list(watched(work, ["a", "fails"], 1, 60))


def test_process_that_cannot_start_is_an_error():
    code = "from centerclip.data.video.watch import watched\ndef work(*_): pass\nlist(watched(work, [1], 1, 60))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert "RuntimeError: a process that decodes cannot start" in done.stderr


def hang(item, beat):
    """Hang as a loop in a library: no signal reaches Python."""
    libc = ctypes.PyDLL(None)
    while True:
        libc.sleep(600)


def processes_of(group: int) -> list[str]:
    """The running processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just gone
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if its_group == str(group) and state != "Z":
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_kill_end_hanging_workers_too(by):
    """SIGINT goes to the whole group, as from a terminal, SIGKILL to the parent only."""
    code = (
        "import sys\nsys.path.append('tests')\nfrom test_watch import hang\n"
        "from centerclip.data.video.watch import watched\n"
        "print('begun', flush=True)\nlist(watched(hang, [1, 2], 2, 600))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    process.stdout.readline()
    time.sleep(2)
    assert len(processes_of(process.pid)) == 3
    begin = time.monotonic()
    os.killpg(process.pid, by) if by == signal.SIGINT else process.kill()
    error = process.communicate(timeout=20)[1]
    assert time.monotonic() - begin < 5 and (by == signal.SIGKILL or "KeyboardInterrupt" in error)
    for _ in range(50):
        if not processes_of(process.pid):
            break
        time.sleep(0.1)
    assert processes_of(process.pid) == []
