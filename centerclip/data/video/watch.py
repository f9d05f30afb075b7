"""Runs work that may hang or crash in watched processes, and tries again."""

import argparse
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from centerclip.command import above_zero, end_with_parent
from centerclip.data.video.reading import Lost, MachineFault, NoFrames, machine_checked

Item, Result = TypeVar("Item"), TypeVar("Result")
Work = Callable[[Item, Callable[[], None]], Result]  # calls its second argument, `beat`, while it makes progress

STALL_SECONDS = 60  # how long a video may give no frame
TRIES = 3  # for an item that the machine fails to read
PAUSE = 2.0  # s before the next try
# Signals of bugs in a decoder, which damaged files trigger. Other signals come from outside.
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
POLL = 0.5  # s between looks at the processes
START = 60  # s that a process may take to import what it needs
BEAT = 0.1  # s at least between two messages of progress


def add_stall_seconds(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that read videos."""
    text = f"seconds without a frame after which a video is tried again, or left out (default: {STALL_SECONDS})"
    parser.add_argument("--stall-seconds", type=above_zero, default=STALL_SECONDS, help=text)


class Crash(NoFrames):
    """The work crashed its process. After two crashes in a row the file counts as the cause."""


@dataclass
class Task(Generic[Item]):
    """An item to work on."""

    item: Item
    ready: float = 0.0  # when it may begin, on the monotonic clock
    failures: list[Lost] = field(default_factory=list)

    def outcome(self) -> Lost | None:
        """The final result after the failures so far; None to try again."""
        if [type(failure) for failure in self.failures[-2:]] == [Crash, Crash]:
            return self.failures[-1]
        return MachineFault(str(self.failures[-1])) if len(self.failures) == TRIES else None


class Worker:
    """A process that does `work` on one item after the other. A fork would copy held locks, so it starts afresh."""

    def __init__(self, work: Work):
        here, there = socket.socketpair()
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        command = [sys.executable, "-m", "centerclip.data.video.watch", str(there.fileno())]
        options = {"pass_fds": [there.fileno()], "env": os.environ | {"PYTHONPATH": path}}
        with there, ExitStack() as after:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the process inherits the mask
            after.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        self.connection = Connection(here.detach())
        with suppress(ConnectionError):
            self.connection.send(work)
        self.busy = self.started = False

    def begin(self, task: Task) -> None:
        self.task, self.busy, self.quiet = task, True, 0.0
        with suppress(ConnectionError):  # `result` notices a dead process
            self.connection.send(task.item)

    def result(self, passed: float, stall_seconds: float) -> tuple | None:
        """The result of the work or a Lost, in a tuple; None if the work goes on, `passed` seconds after the last look.

        Raises the errors of the work, and RuntimeError if the process cannot start.
        """
        self.quiet += passed
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self.quiet, self.started = 0.0, True
                if message is not None:
                    outcome, failed = message
                    if failed and not isinstance(outcome, Lost):
                        raise outcome
                    return (outcome,)
        except (EOFError, ConnectionError):
            code = self.process.wait()
            self.end()
            if not self.started and code >= 0:
                raise RuntimeError("a process that decodes cannot start") from None
            reason = f"the decoder crashed ({signal.Signals(-code).name if code < 0 else code})"
            return ((Crash if -code in CRASHES else MachineFault)(reason),)
        if self.quiet <= (stall_seconds if self.started else max(stall_seconds, START)):
            return None
        self.end()
        return (MachineFault(f"gave no frame for {stall_seconds:g} s and was ended"),)

    @property
    def usable(self) -> bool:
        return not self.connection.closed and self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):  # a process that waits for a disk ends when the disk answers
            self.process.wait(POLL)
        self.connection.close()


def watched(work: Work, items: Iterable[Item], processes: int, stall_seconds: float) -> Iterator[tuple[Item, object]]:
    """Yield each item with the result of `work`, as soon as one of the `processes` has it.

    If work raises MachineFault, does not call its `beat` for `stall_seconds`, or its process dies, the item is tried
    again after a pause, TRIES times in all. Then its result is a `Lost`: NoFrames if its process crashed twice in a
    row, else MachineFault. A NoFrames that work raises is the result, too. Other errors of work are raised here. Work,
    items and results are pickled.
    """
    pending, workers = deque(map(Task, items)), []
    try:
        looked = time.monotonic()
        while pending or any(worker.busy for worker in workers):
            workers = [worker for worker in workers if worker.busy or worker.usable]
            while pending and len(workers) < processes:
                workers.append(Worker(work))
            for worker in workers:
                if pending and not worker.busy and pending[0].ready <= looked:
                    worker.begin(pending.popleft())
            wait([worker.connection for worker in workers], POLL)
            # If this process was stopped in between (Ctrl-Z, preemption on a cluster), its workers were, too.
            now = time.monotonic()
            passed, looked = min(now - looked, 2 * POLL), now
            for worker in [worker for worker in workers if worker.busy]:
                if not (result := worker.result(passed, stall_seconds)):
                    continue
                worker.busy, task, (outcome,) = False, worker.task, result
                if isinstance(outcome, MachineFault | Crash):
                    task.failures.append(outcome)
                    if not (outcome := task.outcome()):
                        task.ready = now + PAUSE
                        pending.append(task)
                        continue
                yield task.item, outcome
    finally:
        for worker in workers:
            worker.end()


def serve(connection: Connection) -> None:
    """Do the work of a `Worker` in its process, which ends with its parent."""
    end_with_parent(signal.SIGKILL)
    told = 0.0

    def beat() -> None:
        nonlocal told
        if (now := time.monotonic()) - told > BEAT:
            told = now
            connection.send(None)

    try:
        work = connection.recv()
        beat()
        while True:
            item = connection.recv()
            try:
                with machine_checked():
                    answer = pickle.dumps((work(item, beat), False))
            except Exception as error:
                answer = pickle.dumps((error, True))
            connection.send_bytes(answer)
    except (EOFError, ConnectionError):  # nothing more to do
        return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
