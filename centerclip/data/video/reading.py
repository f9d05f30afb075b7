"""Opens video files for FFmpeg, and tells faults of the machine from faults of a file.

FFmpeg takes a failed read for the end of the file. So it reads through a `Reader`, which remembers the failure.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

PATH = (errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)  # mistakes in a path
MISSING = "no such file"
PLACE = (errno.EINVAL, errno.EOVERFLOW)  # errors of seeking where a damaged file points outside itself


class Lost(Exception):
    """A video gives no frames; the message is the reason, in one line."""


class NoFrames(Lost):
    """The file is missing, or its content gives no frames."""


class MachineFault(Lost):
    """The disk, network, memory, limits or permissions failed. Nothing is kept; a retry may succeed."""


def reason(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def machine_checked() -> Iterator[None]:
    """Raise MachineFault if memory or threads run out. PyAV raises Python's errors for FFmpeg's ENOMEM and EAGAIN."""
    try:
        yield
    except MemoryError as error:
        raise MachineFault(reason(error)) from None
    except BlockingIOError as error:
        raise MachineFault(f"out of threads or memory: {error.strerror}") from None


class Reader:
    """A context with a regular file that PyAV and Pillow can read. Opening raises Lost, and never waits for a pipe.

    A read that fails or ends too early looks like the end of the file; leaving the context then raises MachineFault.
    """

    def __init__(self, path: Path):
        # Without a protocol in front, a colon in the name would choose one.
        self.name, self.fault = f"file:{os.path.abspath(path)}", None
        try:
            status = os.stat(path)
            if not S_ISREG(status.st_mode):
                raise NoFrames("not a file")
            opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK)  # noqa: E731
            self.file = open(path, "rb", buffering=0, opener=opener)  # noqa: SIM115
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NoFrames(MISSING) from None
            raise (NoFrames if error.errno in PATH else MachineFault)(reason(error)) from None
        self.size = status.st_size

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.fault:
            raise self.fault from None

    def read(self, count: int = -1) -> bytes:
        try:
            if (data := self.file.read(count)) is None:
                raise BlockingIOError(errno.EAGAIN, "")
            if (count < 0 or (count and not data)) and (end := self.file.tell()) < self.size:
                self.fault = MachineFault(f"reading ended at byte {end} of {self.size}")
            return data
        except (OSError, MemoryError) as error:
            self.fault = MachineFault(reason(error))
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except OSError as error:
            if error.errno not in PLACE:
                self.fault = MachineFault(reason(error))
            return -1

    def tell(self) -> int:
        return self.file.tell()
