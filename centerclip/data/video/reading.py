"""Video files as FFmpeg reads them, and the two ways in which one gives no frames.

FFmpeg takes a read that fails for the end of the file. So it reads through a `Reader`, which remembers the failure.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)  # mistakes in a path
PLACE = (errno.EINVAL, errno.EOVERFLOW)  # of seeking, where a damaged file points outside of itself


class Lost(Exception):
    """No frames come out of a video; the message is the reason, in one line."""


class NoFrames(Lost):
    """No frame can be read from a file because of what is in it, or because there is no file."""


class MachineFault(Lost):
    """The machine failed while a file was read: its disk, network, memory, limits or permissions. Nothing that was read
    may be kept, and another try may succeed."""


def cannot_open(error: OSError) -> Lost:
    """What an error at opening a file means for its frames."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NoFrames("no such file")
    return (NoFrames if error.errno in PATH else MachineFault)(reason(error))


def reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def machine_checked() -> Iterator[None]:
    """Raise MachineFault where memory or threads ran out. PyAV's errors for FFmpeg's ENOMEM and EAGAIN are Python's."""
    try:
        yield
    except MemoryError:
        raise MachineFault("out of memory") from None
    except BlockingIOError as error:
        raise MachineFault(f"out of threads or memory: {error.strerror}") from None


class Reader:
    """A regular file, open for reading, as PyAV and Pillow take one: it is a context.

    A read that fails, or finds the end too early, is the end of the file to whoever reads. Leaving the context then
    raises MachineFault. Opening raises Lost, and waits for no pipe or device.
    """

    def __init__(self, path: Path):
        # The protocol is given, as a colon in a file's name would otherwise choose one.
        self.name, self.fault = f"file:{os.path.abspath(path)}", None
        try:
            status = os.stat(path)
            if not S_ISREG(status.st_mode):
                raise NoFrames("not a file")
            # Not blocking, so that a pipe that has just taken the file's place is not waited for.
            opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK)  # noqa: E731
            self.file = open(path, "rb", buffering=0, opener=opener)  # noqa: SIM115
        except OSError as error:
            raise cannot_open(error) from None
        self.size = status.st_size

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.fault:
            raise self.fault from None

    def read(self, count: int = -1) -> bytes:
        try:
            data = self.file.read(count)
            if data is None:
                raise BlockingIOError(errno.EAGAIN, "")
            if (count < 0 or (count and not data)) and (end := self.file.tell()) < self.size:
                self.fault = MachineFault(f"reading ended at byte {end} of {self.size}")
            return data
        except OSError as error:
            self.fault = MachineFault(reason(error))
        except MemoryError:
            self.fault = MachineFault("out of memory")
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
