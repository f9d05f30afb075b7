"""What every command shares: its log, its way to fail and to write files."""

import argparse
import ctypes
import errno
import fcntl
import glob
import json
import math
import os
import platform
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

FAILED = ".failed"  # + the name of a log: the file whose date is that of the last start that did not succeed
terminal = sys.stderr  # where the user looks, even when `execute` sends all that is printed to a log


class UserError(Exception):
    """A mistake of the user's, or bad data: the message is all they need, no traceback."""


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to; it takes the name `path` only when the block succeeds. What a
    killed process of this host left goes; what others left stays, as nothing here tells whether they still run."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(begin)}*.tmp"):
        pid = left.name.removeprefix(begin).removesuffix(".tmp")
        if pid.isdecimal() and (int(pid) == os.getpid() or not runs(int(pid))):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{begin}{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
            error.filename = str(path)  # a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path` to fill; it takes the place of what is there only when the block succeeds,
    and goes when it fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def runs(pid: int) -> bool:
    """Whether there is a process of this number on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True


def file_state(path: str) -> str:
    """A word that changes with a file: when it is replaced, repaired, deleted or made readable."""
    try:
        status = os.stat(path)
    except OSError:
        return "none"
    return f"{status.st_size}-{status.st_mtime_ns}-{os.access(path, os.R_OK)}"


def hold(directory: Path, problem: str) -> None:
    """Lock `directory` for this process until it ends. Raises UserError: with `problem` where another holds it, or for
    a file system without locks."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR)  # not inherited, so that no job holds it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{directory.resolve()}: {problem}") from None
    except OSError as error:
        remedy = "its file system must have locks: mount it with them, or link it to a local disk"
        raise UserError(f"{directory.resolve()}: cannot be locked ({error.strerror}); {remedy}") from None


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """The content of a json file. Raises UserError for one that is none."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not json: {error}") from None


def located(path: Path) -> str:
    """`path` for a line that it is not there: where a relative one was looked for, too."""
    return str(path) if path.is_absolute() else f"{path} (in {Path.cwd()})"


def first_line(error: Exception) -> str:
    """What a library's error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def tell(line: str) -> None:
    """Say something on the user's terminal and, if there is one, in the log."""
    print(line, file=sys.stderr, flush=True)
    if terminal is not sys.stderr:
        print(line, file=terminal, flush=True)


def last_error(log: Path) -> str | None:
    """What the last line of `execute`'s about an error in `log` says; None without a log or a line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)


def positive(text: str) -> int:
    """A command line's number, for argparse: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def natural(text: str) -> int:
    """A command line's number, for argparse: 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def above_zero(text: str) -> float:
    """A command line's number, for argparse: more than 0, and finite."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def end_with_parent(signal: int) -> None:
    """Let this process get `signal` when the process that started it ends, however that ends. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal)  # 1 is PR_SET_PDEATHSIG of prctl(2).


def add_log(parser: argparse.ArgumentParser) -> None:
    """Give a command the option that `execute` reads."""
    parser.add_argument("--log", type=Path, help="write all output to this file")


def execute(job: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run `job`; exit with 1 after one line on the terminal if it fails.

    With `--log FILE` everything printed, progress bars and libraries' own messages included, goes to FILE, and the
    terminal gets only that line. Where several processes train together, all but the first have a log each, FILE.1 and
    so on, and say nothing on the terminal.
    """
    global terminal
    rank = os.environ.get("RANK")  # set by torchrun and the like
    first = rank in (None, "0")
    if arguments.log:
        arguments.log.parent.mkdir(parents=True, exist_ok=True)
        path = arguments.log if first else Path(f"{arguments.log}.{rank}")
        terminal = os.fdopen(os.dup(2), "w") if first else sys.stderr
        with open(path, "a") as log:
            if rank != "0":  # whose launcher has begun the log
                log.truncate(0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    try:
        with marked(Path(f"{arguments.log}{FAILED}")) if arguments.log and first else nullcontext():
            job(arguments)
    except UserError as error:
        line = f"error: {error}"
    except OSError as error:  # a file that is not there or cannot be written, a full disk
        if arguments.log:
            traceback.print_exc()
        line = f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}"
    except Exception as error:
        traceback.print_exc()
        where = f"; traceback in {arguments.log}" if arguments.log else ""
        line = f"error: {type(error).__name__}: {error}{where}"
    else:
        return
    if arguments.log or first:
        tell(line)
    sys.exit(1)


@contextmanager
def marked(path: Path) -> Iterator[None]:
    """Touch `path`; when the block succeeds it is as it was before, unless the block touched it. So a process that is
    killed leaves a mark, too."""
    before = path.stat().st_mtime_ns if path.exists() else None
    path.touch()
    mark = path.stat().st_mtime_ns
    yield
    if path.stat().st_mtime_ns != mark:
        return
    if before is None:
        path.unlink()
    else:
        os.utime(path, ns=(before, before))


def typed(parser: argparse.ArgumentParser) -> str:
    """The command line of a program that is a single command, as it was typed."""
    return f"{parser.prog} {shlex.join(sys.argv[1:])}"


def run(parser: argparse.ArgumentParser, job: Callable[[argparse.Namespace], None]) -> None:
    """Parse the command line of a program that is a single command, and `execute` its job."""
    add_log(parser)
    execute(job, parser.parse_args())
