"""Archives, unpacked safely: nothing is left of one that fails, and none may leave its directory or fill the disk."""

import io
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from filelock import FileLock
from tqdm import tqdm

from centerclip.command import UserError, atomic_directory, first_line, shown

LONGEST = 1000  # bytes of a member's path; some systems allow 1,024 together with the directory's


class Refused(Exception):
    """A member that must not be unpacked."""


@dataclass(frozen=True)
class Member:
    """A file, directory or link of an archive, as the archive describes it. `target` is that of a link; a hard link's
    counts from the archive's root. `open` gives a file's bytes."""

    name: str
    kind: str
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
    """Unpack an archive into the new directory `out`, unless that is there already.

    The archive is a zip or a tar; a tar may be compressed, and may be in several parts. Links in a tar are kept, and
    those in a zip are left out. Owners, permissions and dates are not kept.

    Raises:
        UserError: the archive is damaged, or holds a path or link that leads out of `out`, a device, two members that
            take one place, or more bytes than the disk has free or than it declares.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if out.exists():
            return
        archive = archives[0]
        with atomic_directory(out) as temporary:
            try:
                members = zip_members(archive, temporary) if zipfile.is_zipfile(archive) else tar_members(archives)
                write(tqdm(members, shown(f"unpack: {archive.name}"), unit="file"), temporary)
            except Refused as error:
                raise UserError(f"{archive}: {error}") from None
            except OSError as error:  # a full disk, or the data of a compressed tar
                raise UserError(f"{archive}: cannot be unpacked: {error.strerror or error}") from None
            except Exception as error:  # damaged bytes make the libraries raise anything
                reason = f"not a whole zip or tar ({type(error).__name__}: {first_line(error)})"
                raise UserError(f"{archive}: {reason}; replace it, or delete it to download it again") from None


def tar_members(archives: Sequence[Path]) -> Iterator[Member]:
    """The members of a tar, which are read before the next is asked for."""
    kinds = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link"}
    kinds |= dict.fromkeys(tarfile.REGULAR_TYPES, "file")
    with tarfile.open(fileobj=Joined(archives), mode="r|*", bufsize=1 << 20) as tar:
        for member in tar:
            kind = "sparse file" if member.issparse() else kinds.get(member.type, "device or pipe")
            yield Member(member.name, kind, member.size, member.linkname, partial(tar.extractfile, member))


def zip_members(archive: Path, out: Path) -> Iterator[Member]:
    """The members of a zip for the directory `out`, except its links, which must not lead out either. A file gives no
    more bytes than it declares."""
    with zipfile.ZipFile(archive) as file:
        check_room(sum(member.file_size for member in file.infolist()), out)
        for member in file.infolist():
            name, form = member.filename.replace("\\", "/"), stat.S_IFMT(member.external_attr >> 16)
            if form == stat.S_IFLNK:
                with named(name):
                    inside(name, file.open(member).read(4096).decode(errors="replace"))
            elif form not in (0, stat.S_IFREG, stat.S_IFDIR):
                yield Member(name, "device or pipe")
            else:
                kind = "directory" if name.endswith("/") else "file"
                yield Member(name, kind, member.file_size, open=partial(file.open, member))


def write(members: Iterable[Member], out: Path) -> None:
    """Write members into the empty directory `out`.

    Nothing is overwritten. Links are made last, hard links before symbolic ones, and the directories of all come first.
    So nothing is written through a link, and the text of a link tells where it leads: up directories that are no links,
    then down.

    Raises:
        Refused: a member that must not be unpacked; the message names it.
    """
    hard_links, links = [], []
    for member in members:
        with named(member.name):
            path = out / inside(member.name)
            if member.kind == "directory":
                path.mkdir(parents=True, exist_ok=True)
                continue
            if path == out:
                raise Refused("a file without a name")
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.kind == "file":
                check_room(member.size, out)
                with member.open() as source, open(path, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            elif member.kind == "link":
                inside(member.name, member.target)
                links.append((member, partial(os.symlink, posixpath.normpath(member.target), path)))
            elif member.kind == "hard link":
                hard_links.append((member, partial(os.link, out / inside(member.target), path)))
            else:
                raise Refused(f"a {member.kind}")
    for member, make in hard_links + links:
        with named(member.name):
            make()


@contextmanager
def named(member: str) -> Iterator[None]:
    """Raise Refused with the name of a member for what goes wrong with it."""
    name = repr(member[:100])  # whoever made the archive chose it
    try:
        yield
    except Refused as error:
        raise Refused(f"{name}: {error}") from None
    except (FileExistsError, NotADirectoryError):
        raise Refused(f"{name}: another member takes its place") from None
    except OSError as error:
        raise Refused(f"{name}: cannot be unpacked: {error.strerror or error}") from None


def inside(name: str, target: str | None = None) -> str:
    """The normalised path of member `name`, or of what a link there with `target` leads to, from the archive's root.

    Raises:
        Refused: the path leads out of the archive, or is too long.
    """
    path = posixpath.normpath(name)
    if target is not None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if path.startswith("/") or path.split("/")[0] == "..":
        raise Refused("leads out of the archive")
    if len(os.fsencode(path)) > LONGEST:
        raise Refused(f"a path longer than {LONGEST:,} bytes")
    return path


def check_room(size: int, where: Path) -> None:
    """Raise Refused unless the disk of the directory `where` has `size` bytes free."""
    free = shutil.disk_usage(where).free
    if size > free:
        raise Refused(f"unpacks to {size:,} bytes and the disk has {free:,} free")
