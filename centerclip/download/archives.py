"""Archives, unpacked safely: nothing is left of one that fails, and none may leave its directory or fill the disk."""

import io
import lzma
import os
import platform
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from filelock import FileLock
from tqdm import tqdm

from centerclip.command import UserError, atomic_directory


class Joined(io.RawIOBase):
    """The parts of one file, read one after the other."""

    def __init__(self, paths: Sequence[Path]):
        self.parts = (path.open("rb") for path in paths)
        self.part = next(self.parts)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self.part.readinto(buffer)
        while not count and (following := next(self.parts, None)):
            self.part.close()
            self.part = following
            count = self.part.readinto(buffer)
        return count


def unpack(archives: Sequence[Path], out: Path) -> None:
    """Unpack an archive into the new directory `out`, unless that is there already.

    The archive is a zip or a tar; a tar may be compressed, and may be in several parts. Links in a tar are kept, and
    those in a zip are left out.

    Raises:
        UserError: the archive is damaged, or holds a path or link that leads out of `out`, a device, or more bytes than
            the disk has free or than it declares.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if out.exists():
            return
        with atomic_directory(out) as temporary:
            extract(archives, temporary)


def extract(archives: Sequence[Path], out: Path) -> None:
    """Unpack into the directory `out`. Raises UserError as `unpack`."""
    name = archives[0].name
    members = unzip(archives[0], out) if zipfile.is_zipfile(archives[0]) else untar(archives, out)
    try:
        for _ in tqdm(members, f"unpack: {name}", unit="file"):
            pass
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise UserError(f"{name}: {type(error).__name__}: {error}") from None
    except OSError as error:  # a full disk, or the data of a compressed tar
        raise UserError(f"{name}: cannot be unpacked: {error.strerror or error}") from None


def room(name: str, size: int, where: Path) -> None:
    """Raise UserError unless the disk has `size` bytes for member `name`."""
    free = shutil.disk_usage(where).free
    if size > free:
        raise UserError(f"{name}: unpacks to {size:,} bytes and the disk has {free:,} free")


def place(name: str, out: Path) -> Path:
    """Where member `name` is to be written below the directory `out`, as the file system is now.

    `tarfile`'s own filter is not enough: where a path becomes too long to look at, early ones take links in it for
    directories (CVE-2025-4517).

    Raises:
        UserError: a name that is empty, too long, there already, or leads out of `out`.
    """
    path = PurePosixPath(name)
    if not path.name:
        raise UserError(f"{name!r} is no name of a file")
    leading = out / path.parent
    if path.is_absolute() or ".." in path.parts or not inside(leading, out):
        raise UserError(f"{name!r} leads out of the archive, or is too long")
    target = leading / path.name
    if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink()):
        raise UserError(f"{name!r} is in the archive twice")
    return target


def inside(path: Path, out: Path) -> bool:
    """Whether `path`, its links followed, lies in `out`; false if a part of it is too long to look at."""
    there, rest = path, []
    while not os.path.lexists(there):
        rest.append(there.name)
        there = there.parent
    try:
        real = os.path.realpath(there, strict=True)
        os.stat(os.path.join(real, *reversed(rest)))
    except FileNotFoundError:  # what is not there yet, or a link to it
        if os.path.islink(there):
            return False
    except OSError:
        return False
    return ".." not in rest and Path(real).is_relative_to(os.path.realpath(out, strict=True))


def untar(archives: Sequence[Path], out: Path) -> Iterator[str]:
    """Unpack a tar and yield the name of each member. Its filter `data`, which early Python 3.11 does not have, refuses
    devices and takes owners and special permissions away."""
    if not hasattr(tarfile, "data_filter"):
        raise UserError(f"unpacking a tar safely wants Python 3.11.4 or later, not {platform.python_version()}")
    with tarfile.open(fileobj=io.BufferedReader(Joined(archives), 1 << 20), mode="r|*") as tar:
        for member in tar:
            if member.issparse():
                raise UserError(f"{member.name}: a sparse file, which may be larger than it says")
            room(member.name, member.size, out)
            if member.isdir() and not PurePosixPath(member.name).name:  # "./"
                continue
            target = place(member.name, out)
            if member.issym() and not inside(target.parent / member.linkname, out):
                raise UserError(f"{member.name!r} is a link out of the archive")
            if member.islnk():
                linked = out / member.linkname
                if linked.is_symlink() or not linked.is_file() or not inside(linked, out):
                    raise UserError(f"{member.name!r} is a hard link to no file of the archive")
            tar.extract(member, out, filter="data")
            yield member.name


def unzip(archive: Path, out: Path) -> Iterator[str]:
    """Unpack a zip without its links and yield the name of each member, which gives no more bytes than it declares."""
    with zipfile.ZipFile(archive) as file:
        room("all of it", sum(member.file_size for member in file.infolist()), out)
        for member in file.infolist():
            mode = member.external_attr >> 16
            target = place(member.filename.replace("\\", "/"), out)
            if stat.S_ISLNK(mode):
                link = file.open(member).read(4096).decode(errors="replace")
                if not inside(target.parent / link, out):
                    raise UserError(f"{member.filename!r} is a link out of the archive")
            elif mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{member.filename!r} is a device")
            else:
                file.extract(member, out)
            yield member.filename
