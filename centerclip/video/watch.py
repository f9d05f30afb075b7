"""Work that may hang or crash, done in other processes and watched: a decoder's endless loop ends with its process."""

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")
Work = Callable[[Item, Callable[[], None]], Result]  # its second argument is to be called as long as it goes on

STALL_SECONDS = 60  # a video that gives no frame for so long is ended
POLL = 0.5  # s between looks
START = 60  # s; longest that a process takes to import what it needs
BEAT = 0.1  # s between messages that it goes on, at least
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class Lost(Exception):
    """Why an item's work did not end, in a few words."""


class Worker:
    """A fresh process that does `work` on one item after the other: no fork, which copies locks that threads hold."""

    def __init__(self, work: Work):
        here, there = socket.socketpair()
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "centerclip.video.watch", str(there.fileno())],
                pass_fds=[there.fileno()],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
            )
        self.connection = Connection(here.detach())
        with suppress(ConnectionError):
            self.connection.send(work)
        self.busy = self.started = False

    def begin(self, item: Item) -> None:
        self.item, self.busy, self.quiet = item, True, 0.0
        with suppress(ConnectionError):  # it has died, as `result` finds
            self.connection.send(item)

    def result(self, passed: float, stall_seconds: float) -> tuple | None:
        """What the work came to, in a tuple of one; None if it goes on. `passed` seconds went by since the last look.

        Raises whatever the work raised, and RuntimeError for a process that cannot start.
        """
        self.quiet += passed
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self.quiet, self.started = 0.0, True
                if message is not None:
                    outcome, failed = message
                    if failed:
                        raise outcome
                    return (outcome,)
        except (EOFError, ConnectionError):
            code = self.process.wait()
            self.end()
            if not self.started:
                raise RuntimeError("a process that decodes cannot start") from None
            return (Lost(f"the decoder crashed ({signal.Signals(-code).name if code < 0 else code})"),)
        if self.quiet <= (stall_seconds if self.started else max(stall_seconds, START)):
            return None
        self.end()
        return (Lost(f"gave no frame for {stall_seconds:g} s and was ended"),)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


def watched(work: Work, items: Iterable[Item], processes: int, stall_seconds: float) -> Iterator[tuple[Item, object]]:
    """Yield (item, what `work` returns for it) as each is done, by so many other processes.

    Work that does not say for `stall_seconds` that it goes on is ended, and work whose process dies is given up: the
    item comes with a `Lost` in place of the result, and the others go on. What work raises is raised here. Work, items
    and results are pickled.
    """
    pending, workers = deque(items), []
    try:
        looked = time.monotonic()
        while pending or any(worker.busy for worker in workers):
            workers = [worker for worker in workers if worker.process.poll() is None or worker.busy]
            while pending and len(workers) < processes:
                workers.append(Worker(work))
            for worker in workers:
                if pending and not worker.busy:
                    worker.begin(pending.popleft())
            wait([worker.connection for worker in workers], POLL)
            # A process that was stopped (Ctrl-Z, a cluster's preemption) was so with its workers.
            now = time.monotonic()
            passed, looked = min(now - looked, 2 * POLL), now
            for worker in [worker for worker in workers if worker.busy]:
                if outcome := worker.result(passed, stall_seconds):
                    worker.busy = False
                    yield worker.item, outcome[0]
    finally:
        for worker in workers:
            worker.end()


def serve(connection: Connection) -> None:
    """What a worker does. Ctrl-C is its parent's to handle, with which it ends, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
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
                answer = pickle.dumps((work(item, beat), False))
            except Exception as error:
                answer = pickle.dumps((error, True))
            connection.send_bytes(answer)
    except (EOFError, ConnectionError):  # nothing more to do
        return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
