"""A file, downloaded from the first mirror that has it. A transfer that breaks off is resumed, and a file gets its name
only after it is whole and verified."""

import errno
import glob
import hashlib
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

from centerclip.command import UserError, first_line, shown

TIMEOUT = (10, 60)  # s: to connect, to wait for the next bytes
ATTEMPTS = 6  # in a row that bring nothing
BACKOFF = 1.0  # s before the second attempt, doubled before each further one
CHUNK = 1 << 16  # bytes; a cut loses the one that is under way


class DiskFull(UserError):
    """Nothing more can be written."""


class Refused(Exception):
    """This mirror does not have the right file: go to the next."""


class Interrupted(Exception):
    """The transfer broke off: try again."""


def download(
    path: Path, urls: Sequence[str], size: int | None = None, hashes: Sequence[str] = (), auth=None, quiet=False
) -> None:
    """Download the file of `urls`, which are mirrors in order of preference, to `path`, unless it is there already.

    What arrives from a mirror is kept in a hidden file beside `path`, and the next call goes on from there. Two
    processes may ask for the same file at the same time.

    Args:
        size, hashes: as in `check`.
        auth: (user, password) for the server.
        quiet: show no progress bar.

    Raises:
        UserError: no mirror has the file; the message gives the reason of each.
        DiskFull: the disk is full. What has arrived is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        reasons = []
        for url in urls:
            part = path.with_name(f".{path.name}.{hashlib.sha1(url.encode()).hexdigest()[:8]}.part")
            try:
                fetch(url, part, path.name, size, hashes, auth, quiet)
            except Refused as error:
                reasons.append(f"{url} ({error})")
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise DiskFull(f"{path}: disk full after {part.stat().st_size:,} bytes, which are kept") from None
            else:
                os.replace(part, path)
                for part_of_other_mirror in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                    part_of_other_mirror.unlink()
                return
    advice = "try again, what arrived is kept, or name a local copy in the config (source.local)"
    raise UserError(f"{path.name}: no source has it: {'; '.join(reasons)}; {advice}")


def fetch(url: str, part: Path, name: str, size: int | None, hashes: Sequence[str], auth, quiet: bool) -> None:
    """Complete `part`, so that it is the whole and verified file of `url`. Raises Refused."""
    begun = part.exists()
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        if failures:
            time.sleep(BACKOFF * 2 ** (failures - 1))
        before = part.stat().st_size if part.exists() else 0
        try:
            transfer(url, part, name, size, auth, quiet)
        except (requests.RequestException, Interrupted) as error:
            grew = part.exists() and part.stat().st_size > before
            unreachable = isinstance(error, requests.ConnectTimeout | requests.ConnectionError)
            reason = f"{urlsplit(url).hostname} cannot be reached" if unreachable else first_line(error)
            failures = 1 if grew else failures + 1
            continue
        try:
            return check(part, size, hashes, name)
        except Refused:
            part.unlink()
            if not begun:
                raise
            begun = False  # What an earlier call left may have been wrong, so start once more from the beginning.
    raise Refused(f"{ATTEMPTS} attempts in a row brought nothing, the last: {reason}")


def transfer(url: str, part: Path, name: str, size: int | None, auth, quiet: bool) -> None:
    """Request what `part` lacks, once, and append it. Raises Refused, Interrupted, RequestException or DiskFull."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, auth=auth, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing after what is there
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise Interrupted("what was there is longer than the file")
        if response.status_code == 429 or response.status_code >= 500:
            raise Interrupted(f"HTTP {response.status_code} {response.reason}")
        if response.status_code >= 400:
            raise Refused(f"HTTP {response.status_code} {response.reason}")
        if response.headers.get("Content-Type", "").startswith("text/html") and not name.endswith(".html"):
            raise Refused("a web page, not the file")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server ignores Range and sends everything
        remaining = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        if remaining is not None:
            if size and have + remaining != size:
                raise Refused(f"has {have + remaining:,} bytes, where {size:,} are expected")
            free = shutil.disk_usage(part.parent).free
            if remaining > free:
                raise DiskFull(f"{name}: {remaining:,} bytes are still to come and the disk has {free:,} free")
        total = remaining and have + remaining
        bar = tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=quiet)
        with bar, open(part, "ab" if have else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def check(path: Path, size: int | None, hashes: Sequence[str], name: str) -> None:
    """Raise Refused unless a file has `size` bytes and one of `hashes`, each `sha256:...` or `git:...` (git's blob id).

    Without hashes, a file called .zip or .tar must at least open as such an archive.
    """
    actual_size = path.stat().st_size
    if size and actual_size != size:
        raise Refused(f"has {actual_size:,} bytes, where {size:,} are expected")
    if hashes:
        kinds = dict.fromkeys(expected.split(":")[0] for expected in hashes)
        actual = [f"{kind}:{digest(path, kind)}" for kind in kinds]
        if not set(actual) & set(hashes):
            raise Refused(f"is {' '.join(actual)}, where {' or '.join(hashes)} is expected")
        return
    archive = {".zip": zipfile.is_zipfile, ".tar": tarfile.is_tarfile}.get(os.path.splitext(name)[1])
    if archive and not archive(path):
        raise Refused("is not a whole archive")
    tqdm.write(shown(f"{name}: no hash is published; this copy is sha256:{digest(path, 'sha256')}"))


def digest(path: Path, kind: str) -> str:
    """The hex digest of a file, of `kind` `sha256` or `git` (the id that git gives it as a blob)."""
    state = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()
