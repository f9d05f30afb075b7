"""Archives -> a directory, whole or not at all; what would leave the directory or fill the disk is refused."""

import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from filelock import FileLock
from tqdm import tqdm

from centerclip.command import UserError


class Joined(io.RawIOBase):
    """Files that are the parts of one, read from front to end."""

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
    """Unpack a zip, or a tar (maybe compressed, maybe in parts), into the new directory `out`, unless it is there.

    Links inside a tar are kept, a zip's are left out.

    Raises:
        UserError: an archive that is damaged, or holds a path or link that leads out of `out`, a device, or more bytes
            than the disk has or than it declares.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    with FileLock(out.with_name(f".{out.name}.lock")):
        if out.exists():
            return
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed run
        temporary.mkdir()
        try:
            extract(archives, temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        os.replace(temporary, out)


def extract(archives: Sequence[Path], out: Path) -> None:
    """Unpack into the directory `out`. Raises UserError."""
    name = archives[0].name
    members = unzip(archives[0], out) if zipfile.is_zipfile(archives[0]) else untar(archives, out)
    try:
        for _ in tqdm(members, f"unpack: {name}", unit="file"):
            pass
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise UserError(f"{name}: {type(error).__name__}: {error}") from None
    except OSError as error:  # a full disk, or the data of a compressed tar
        raise UserError(f"{name}: cannot be unpacked: {error.strerror or error}") from None


def room(name: str, size: int, where: Path) -> None:
    """Raise UserError unless the disk has `size` bytes for member `name`."""
    free = shutil.disk_usage(where).free
    if size > free:
        raise UserError(f"{name}: unpacks to {size:,} bytes and the disk has {free:,} free")


def untar(archives: Sequence[Path], out: Path) -> Iterator[str]:
    """Unpack a tar member by member, yielding names. The data filter refuses what leads out of `out` and devices."""
    with tarfile.open(fileobj=io.BufferedReader(Joined(archives), 1 << 20), mode="r|*") as tar:
        for member in tar:
            if member.issparse():
                raise UserError(f"{member.name}: a sparse file, which may be larger than it says")
            room(member.name, member.size, out)
            tar.extract(member, out, filter="data")
            yield member.name


def unzip(archive: Path, out: Path) -> Iterator[str]:
    """As `untar`, for a zip. A member gives at most the bytes it declares: zipfile reads no further."""
    with zipfile.ZipFile(archive) as file:
        room(archive.name, sum(member.file_size for member in file.infolist()), out)
        for member in file.infolist():
            path, mode = PurePosixPath(member.filename.replace("\\", "/")), member.external_attr >> 16
            target = file.open(member).read(4096).decode(errors="replace") if stat.S_ISLNK(mode) else ""
            for name in (path, path.parent / target) if target else (path,):
                resolved = PurePosixPath(os.path.normpath(name))
                if name.is_absolute() or resolved.parts[:1] == ("..",):
                    raise UserError(f"{archive.name}: {member.filename!r} leads out of the archive")
            if mode and not target and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive.name}: {member.filename!r} is a device")
            if not target:
                file.extract(member, out)
            yield member.filename
