"""What all commands share: logs, errors, signals, and files that are written whole or not at all."""

import argparse
import ctypes
import errno
import fcntl
import glob
import json
import math
import os
import platform
import re
import resource
import select
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import IO, NoReturn, TextIO

from centerclip.method.errors import SlowWarning, UserError

ADVICE = {  # what to do about errors of the operating system
    errno.EMFILE: "raise the limit of open files, such as `ulimit -n 4096`",
    errno.ENFILE: "the machine has too many open files: end other programs, or raise fs.file-max",
    errno.ENOMEM: "the job needs more memory or, where `ulimit -v` limits it, more address space",
}
NO_LOCKS = errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS
FAILED = ".failed"  # behind the name of a log: a file that exists after a start without success, with its date
SUCCEEDED = "succeeded after an earlier failure"  # in the log of a job whose mark of FAILED stays
INTERRUPTED = "interrupted"  # the line after Ctrl-C
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # and bidi controls
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
SRUN = ("PROCID", "STEP_NUM_TASKS", "LOCALID", "STEP_NODELIST", "JOB_ID", "STEP_ID")  # behind SLURM_
FIRST_NODE = re.compile(r"([^,[]*)(?:\[(\d+)[^]]*\])?([^,[]*)")  # of a node list such as gpu[07-09,12]-ib,cpu1
Job = Callable[[argparse.Namespace], None]
terminal: TextIO | None = None  # the user's, while `execute` sends all output to a log


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, which gets that name when the block succeeds. Deletes siblings that killed
    processes of this host left."""
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
    """Yield an empty sibling directory of `path`, which replaces `path` when the block succeeds."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def writable(path: Path) -> None:
    """Raise UserError if `atomic` cannot write `path`: before long work, not after it."""
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=folder).close()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def runs(pid: int) -> bool:
    """Whether a process of this number runs on this host."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # another user's
    return True


def file_state(path: str) -> str:
    """A word that changes with a file: when it is replaced, repaired, deleted or made readable."""
    try:
        status = os.stat(path)
    except OSError:
        return "none"
    return f"{status.st_size}-{status.st_mtime_ns}-{os.access(path, os.R_OK)}"


def hold(directory: Path, problem: str) -> None:
    """Lock `directory` until this process ends. Raises UserError with `problem` if another process holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory.resolve() / ".lock", "a", encoding="utf-8") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory.resolve()}: {problem}") from None
        os.dup(lock.fileno())  # keeps the lock until this process ends; no job inherits it


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """The content of a json file. Raises UserError if it is not json."""
    return json_of(path.read_bytes(), path)


def json_of(content: bytes, source: str | Path) -> dict:
    """The json in the bytes of a file, the `source`. Raises UserError if they are not json."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not json: {error}") from None


def located(path: Path) -> str:
    """`path` for an error; for a relative one, with the directory it was looked for in."""
    return str(path) if path.is_absolute() else f"{path} (in {Path.cwd()})"


def first_line(error: Exception) -> str:
    """The first line of a library's error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def explained(error: OSError) -> str:
    """An error of the operating system in one line: the file, the reason and, where known, the remedy."""
    line = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{line}; {ADVICE[error.errno]}" if error.errno in ADVICE else line


def is_damage(error: Exception) -> bool:
    """Whether a library's error means that the file is damaged. Errors of the machine, such as EIO, do not."""
    return error.errno in (None, errno.EINVAL) if isinstance(error, OSError) else not isinstance(error, MemoryError)


def flock(file: IO, operation: int) -> None:
    """`fcntl.flock`. Raises UserError where the file system has no locks."""
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        problem = f"{Path(file.name).parent}: its file system has no locks ({error.strerror})"
        remedy = "put the folder on one that has, such as a local disk, or mount it with locks"
        raise UserError(f"{problem}: {remedy}") from None


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as the user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows fewer than its hard limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard % (1 << 63), 1 << 16)), hard))  # -1 is no limit


def shown(text: object) -> str:
    """`text` in one line, with control characters, line breaks and marks of direction escaped."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def tell(line: str) -> None:
    """Print a line, `shown`, on the user's terminal and in the log, if there is one."""
    for stream in (sys.stderr, terminal):
        with suppress(OSError, RuntimeError):  # nobody reads it, or a signal came during a write
            print(shown(line), file=stream, flush=True) if stream else None


def tell_slow(message: Warning, category: type, *place: object, show: Callable = warnings.showwarning) -> None:
    """Print a SlowWarning on the terminal; show other warnings as Python does."""
    tell(f"warning: {message}") if issubclass(category, SlowWarning) else show(message, category, *place)


def last_error(log: Path) -> str | None:
    """The last error that `execute` wrote to `log`; None without a log or an error."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)


def natural(text: str, least: int = 0) -> int:
    """A command line's number, for argparse: `least` or more."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
    return int(text)


positive = partial(natural, least=1)


def above_zero(text: str) -> float:
    """A command line's number, for argparse: more than 0, and finite."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


@contextmanager
def handled(number: int, handler: Callable | int) -> Iterator[None]:
    """Handle a signal in the block, unless this process was started to ignore it, as nohup does."""
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN:
        signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def end_with_parent(number: int) -> None:
    """Send this process the signal `number`, or SIGKILL if it ignores that, when its parent ends. Only on Linux."""
    if sys.platform == "linux":
        ignored = signal.getsignal(number) is signal.SIG_IGN
        ctypes.CDLL(None).prctl(1, signal.SIGKILL if ignored else number)  # 1 is PR_SET_PDEATHSIG of prctl(2).


def end_by(number: int) -> NoReturn:
    """End this process by a signal, so that a shell sees why it ended."""
    with suppress(OSError, RuntimeError):  # Ctrl-C may have come in the middle of a flush
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # a container's first process ignores its own signals


def end_interrupted(*_: object) -> NoReturn:
    """Report Ctrl-C, and end this process and all its forked processes."""
    tell(INTERRUPTED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch raises an error when a loader ends
    for child in active_children():
        child.kill()
    end_by(signal.SIGINT)


class Interrupt:
    """Handler of Ctrl-C: raises KeyboardInterrupt and remembers it, because libraries turn it into other errors. Some
    drop it: the second Ctrl-C ends the process. Forked processes ignore it."""

    def __init__(self):
        self.process, self.pressed = os.getpid(), False

    def __call__(self, *_: object) -> None:
        if os.getpid() != self.process:
            return
        if self.pressed:
            end_interrupted()
        self.pressed = True
        raise KeyboardInterrupt


def open_standard_streams() -> None:
    """Open missing standard streams (`2>&-`) on /dev/null; the next opened file would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may not be text


def place() -> dict[str, str] | None:
    """torchrun's variables of this process if several train together, such as RANK; None for a process alone.

    torchrun, which `centerclip train --gpus` uses, or SLURM's `srun` with more than one task starts several. Only all
    variables together count: platforms and SLURM's batch scripts set some for every process.
    """
    if all(os.environ.get(name) for name in TORCHRUN):
        return {name: os.environ[name] for name in TORCHRUN}
    step = {name: os.environ.get(f"SLURM_{name}") for name in SRUN}
    if not all(step.values()) or step["STEP_NUM_TASKS"] == "1":
        return None
    return {
        "RANK": step["PROCID"],
        "WORLD_SIZE": step["STEP_NUM_TASKS"],
        "LOCAL_RANK": step["LOCALID"],
        "MASTER_ADDR": "".join(filter(None, FIRST_NODE.match(step["STEP_NODELIST"]).groups())),
        "MASTER_PORT": str(10000 + (100 * int(step["JOB_ID"]) + int(step["STEP_ID"])) % 20000),  # a step's own
    }


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the option that `execute` reads."""
    parser.add_argument("--log", type=Path, help="write all output to this file")


def execute(job: Job, arguments: argparse.Namespace) -> None:
    """Run `job`. If it fails, print one line on the terminal and exit with 1; after Ctrl-C, end by SIGINT.

    With `--log FILE`, all output goes to FILE, and the terminal gets only that line. Ranks above 0 of a training
    (`arguments.rank`) log to FILE.1 and so on, and print nothing on the terminal.
    """
    rank, interrupt = getattr(arguments, "rank", None), Interrupt()
    if arguments.log:
        try:
            log_to(arguments.log, rank)
        except OSError as error:
            sys.exit(f"error: {shown(explained(error))}")
    allow_open_files()
    warnings.showwarning = tell_slow
    with handled(signal.SIGINT, interrupt if rank is None else signal.SIG_DFL):  # the launcher reports a rank's
        lines = failure(job, arguments, interrupt)
    if interrupt.pressed and lines:
        end_interrupted()
    if arguments.log or not rank:
        for line in lines:
            tell(line)
    if lines:
        sys.exit(1)


def log_to(path: Path, rank: int | None) -> None:
    """Send all output of this process to the log `path`, or to its rank's. Only rank 0 keeps the user's terminal."""
    global terminal
    path.parent.mkdir(parents=True, exist_ok=True)
    if not rank:
        terminal = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    with open(f"{path}.{rank}" if rank else path, "a", encoding="utf-8") as log:
        if rank != 0:  # the launcher has begun rank 0's log
            log.truncate(0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def failure(job: Job, arguments: argparse.Namespace, interrupt: Interrupt) -> list[str]:
    """Run `job`, `marked` if it has a log. Returns the lines to print at the end; none if it succeeds. Prints the
    traceback of an unexpected error, and in a log also that of an OSError."""
    mark = arguments.log and getattr(arguments, "rank", None) is None  # the launcher marks the log of its rank 0
    try:
        with marked(Path(f"{arguments.log}{FAILED}")) if mark else nullcontext():
            job(arguments)
            sys.stdout.flush()
        return []
    except KeyboardInterrupt:  # or a library's own
        interrupt.pressed = True
        return [INTERRUPTED]
    except UserError as error:
        return [f"error: {error.args[0]}", *error.args[1:]]
    except Exception as error:
        if interrupt.pressed:
            return [INTERRUPTED]
        if isinstance(error, BrokenPipeError) and not error.filename and unread():
            end_by(signal.SIGPIPE)
        if arguments.log or not isinstance(error, OSError):
            print(*map(shown, traceback.format_exc().split("\n")), sep="\n", file=sys.stderr)
        if isinstance(error, OSError):
            return [f"error: {explained(error)}"]
        where = f"; traceback in {arguments.log}" if arguments.log else ""
        told = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {first_line(error)}"
        return [f"error: {told}{where}"]


def unread() -> bool:
    """Whether the reader of this program's output, such as `head`, has ended."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def marked(path: Path) -> Iterator[None]:
    """Touch `path`, so that a killed process leaves a mark; undo that when the block succeeds without touching it."""
    before = path.stat().st_mtime_ns if path.exists() else None
    path.touch()
    mark = path.stat().st_mtime_ns
    yield
    if path.stat().st_mtime_ns == mark and before is None:
        path.unlink()
    elif path.stat().st_mtime_ns == mark:
        os.utime(path, ns=(before, before))
        print(SUCCEEDED)


def typed(parser: argparse.ArgumentParser) -> str:
    """The command line of a program with a single command, as typed."""
    return f"{parser.prog} {shlex.join(sys.argv[1:])}"


def run(parser: argparse.ArgumentParser, job: Job) -> None:
    """Parse the command line of a program with a single command, and `execute` its job."""
    open_standard_streams()
    add_log(parser)
    with handled(signal.SIGINT, end_interrupted):
        execute(job, parser.parse_args())
