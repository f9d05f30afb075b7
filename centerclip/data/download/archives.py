"""Unpacks archives safely: all or nothing, never outside their directory, never beyond the free disk."""

import io
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from centerclip.command import UserError, atomic_directory, first_line, shown


class Refused(Exception):
    """A member must not be unpacked."""


class Member(NamedTuple):
    """A member of an archive. `target` is the path, in the archive, of a hard link's file."""

    name: str
    kind: str  # file, directory, link, hard link, or what is refused
    size: int = 0  # bytes
    target: str = ""
    open: Callable[[], IO[bytes]] = io.BytesIO


class Joined:
    """The parts of one file, read one after the other."""

    def __init__(self, paths: Sequence[Path]):
        self.parts = (path.open("rb") for path in paths)
        self.part = next(self.parts)

    def read(self, size: int) -> bytes:
        while not (data := self.part.read(size)) and (following := next(self.parts, None)):
            self.part.close()
            self.part = following
        return data


def unpack(archives: Sequence[Path], out: Path) -> None:
    """Unpack an archive into the new directory `out`, unless that exists already.

    The archive is a zip or a tar; a tar may be compressed, and may come in several parts. Symbolic links are left out,
    and a line counts them. Hard links are kept; owners, permissions and dates are not.

    Raises:
        UserError: the archive is damaged, or a member leads out of `out`, is a device, takes another member's place, or
            is larger than the free disk.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if out.exists():
            return
        archive, links = archives[0], 0
        with atomic_directory(out) as temporary:
            try:
                members = zip_members(archive) if zipfile.is_zipfile(archive) else tar_members(archives)
                for member in tqdm(members, shown(f"unpack: {archive.name}"), unit="file"):
                    links += member.kind == "link"
                    write(member, temporary)
            except Refused as error:
                raise UserError(f"{archive}: {member.name[:100]!r}: {error}") from None
            except OSError as error:  # a full disk, or the data of a compressed tar
                raise UserError(f"{archive}: cannot be unpacked: {error.strerror or error}") from None
            except Exception as error:  # damaged bytes make the libraries raise anything
                reason = f"not a whole zip or tar ({type(error).__name__}: {first_line(error)})"
                raise UserError(f"{archive}: {reason}; replace it, or delete it to download it again") from None
        if links:
            tqdm.write(shown(f"{archive.name}: {links} symbolic links left out"))


def tar_members(archives: Sequence[Path]) -> Iterator[Member]:
    """The members of a tar. Each must be read before the next is asked for."""
    kinds = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link"}
    kinds |= dict.fromkeys(tarfile.REGULAR_TYPES, "file")
    with tarfile.open(fileobj=Joined(archives), mode="r|*", bufsize=1 << 20) as tar:
        for member in tar:
            kind = kinds.get(member.type, "device or pipe")
            yield Member(member.name, kind, member.size, member.linkname, partial(tar.extractfile, member))


def zip_members(archive: Path) -> Iterator[Member]:
    """The members of a zip. A file gives no more bytes than it declares."""
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name, form = member.filename.replace("\\", "/"), stat.S_IFMT(member.external_attr >> 16)
            kind = "directory" if name.endswith("/") else kinds.get(form, "device or pipe")
            yield Member(name, kind, member.file_size, open=partial(file.open, member))


def write(member: Member, out: Path) -> None:
    """Write a member into the directory `out`, without overwriting. As no symbolic link is ever written, a path below
    `out` cannot lead out of it. Raises Refused."""
    try:
        path = out / inside(member.name)
        if member.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
        elif member.kind in ("file", "hard link"):
            if path == out:
                raise Refused("a file without a name")
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.kind == "hard link":
                os.link(out / inside(member.target), path)
                return
            free = shutil.disk_usage(out).free
            if member.size > free:
                raise Refused(f"unpacks to {member.size:,} bytes, but the disk has {free:,} free")
            with member.open() as source, open(path, "xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        elif member.kind != "link":
            raise Refused(f"a {member.kind}")
    except (FileExistsError, NotADirectoryError):
        raise Refused("another member takes its place") from None
    except OSError as error:
        raise Refused(f"cannot be unpacked: {error.strerror or error}") from None


def inside(name: str) -> str:
    """The normalised path of a member. Raises Refused if it leads out of the archive."""
    path = posixpath.normpath(name)
    if path.startswith("/") or path.split("/")[0] == "..":
        raise Refused("leads out of the archive")
    return path
