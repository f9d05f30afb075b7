"""A file, downloaded from the first mirror that has it. A transfer that breaks off is resumed, and a file gets its name
only after it is whole and verified."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import ssl
import tarfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from requests import exceptions
from tqdm import tqdm
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from centerclip.command import UserError, first_line, shown

TIMEOUT = (10, 60)  # s: to connect, to wait for the next bytes
ATTEMPTS = 6  # in a row that bring nothing
BACKOFF = 1.0  # s before the second attempt, doubled before each further one
LONGEST_WAIT = 300  # s that a server may ask for before the next attempt
CHUNK = 1 << 16  # bytes; a cut loses the one that is under way
VALIDATORS = "ETag", "Last-Modified"  # headers that change with the file
Credentials = tuple[str, str] | Callable  # user and password, or what adds a token to a request


class DiskFull(UserError):
    """Nothing more can be written."""


class Refused(Exception):
    """This mirror does not have the right file: go to the next."""


class Interrupted(Exception):
    """The transfer broke off: try again, after `wait` seconds or later."""

    def __init__(self, reason: str, wait: float = 0):
        super().__init__(reason)
        self.wait = wait


class Session(requests.Session):
    """Requests whose credentials never reach another host than the one asked, and never come from ~/.netrc."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if self.should_strip_auth(response.request.url, prepared_request.url):  # the server redirects to another host
            prepared_request.headers.pop("Authorization", None)


def download(
    path: Path,
    urls: Sequence[str],
    size: int | None = None,
    hashes: Sequence[str] = (),
    auth: Credentials | None = None,
    otherwise: str = "name a local copy in the config (source.local)",
    quiet: bool = False,
) -> None:
    """Download the file of `urls`, which are mirrors in order of preference, to `path`, unless it is there already.

    What arrives from a mirror is kept in a hidden file beside `path`, and the next call goes on from there. Two
    processes may ask for the same file at the same time.

    Args:
        size, hashes: as in `check`.
        auth: what the server of the first url asks for. A mirror on another server gets none.
        otherwise: what the user can do, for the advice.
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
            same_server = urlsplit(url)[:2] == urlsplit(urls[0])[:2]  # by the same scheme
            try:
                fetch(url, part, path.name, size, hashes, auth if same_server else None, quiet)
            except Refused as error:
                reasons.append(f"{url} ({error})")
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise DiskFull(f"{path}: disk full after {length(part):,} bytes, which are kept") from None
            else:
                os.replace(part, path)
                for suffix in ("part", "version"):  # of all mirrors
                    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.{suffix}"):
                        left.unlink()
                return
    advice = f"Try again, what arrived is kept, or {otherwise}"
    raise UserError(shown(f"{path.name}: could not be downloaded: {'; '.join(reasons)}. {advice}"))


def length(path: Path) -> int:
    """The bytes of a file; 0 without one."""
    return path.stat().st_size if path.exists() else 0


def fetch(
    url: str, part: Path, name: str, size: int | None, hashes: Sequence[str], auth: Credentials | None, quiet: bool
) -> None:
    """Complete `part`, so that it is the whole and verified file of `url`. Raises Refused."""
    begun, most = part.exists(), length(part)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        try:
            transfer(url, part, name, size, auth, quiet)
        except (requests.RequestException, Interrupted) as error:
            reason, wait = explain(error, url), getattr(error, "wait", 0)
            failures = 1 if length(part) > most else failures + 1
            most = max(most, length(part))
            if failures < ATTEMPTS:
                time.sleep(max(wait, BACKOFF * 2 ** (failures - 1)))
            continue
        try:
            return check(part, size, hashes, name)
        except Refused:
            part.unlink()
            if not begun:
                raise
            begun = False  # What an earlier call left may have been wrong, so start once more from the beginning.
    raise Refused(f"{ATTEMPTS} attempts in a row brought nothing, the last: {reason}")


def explain(error: Exception, url: str) -> str:
    """Why a transfer failed, where another attempt may succeed. Raises Refused with the reason where none will."""
    host, causes = urlsplit(url).hostname, [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    reason = first_line(causes[-1])
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = "behind a proxy with certificates of its own, name their file in REQUESTS_CA_BUNDLE"
            raise Refused(f"the certificate of {host} is not trusted: {cause.verify_message}; {advice}")
    if isinstance(error, exceptions.ProxyError):
        raise Refused(f"the proxy fails: {reason}; HTTPS_PROXY, HTTP_PROXY and NO_PROXY choose it")
    if isinstance(error, exceptions.SSLError) and not isinstance(causes[-1], ssl.SSLEOFError | ssl.SSLZeroReturnError):
        raise Refused(f"no secure connection to {host}: {reason}")
    if isinstance(error, exceptions.ConnectTimeout | exceptions.ConnectionError):
        return f"{host} cannot be reached"
    if isinstance(error, Interrupted | exceptions.Timeout | exceptions.ChunkedEncodingError):
        return reason
    raise Refused(reason)  # redirects without end, or to something that is no url


def transfer(url: str, part: Path, name: str, size: int | None, auth: Credentials | None, quiet: bool) -> None:
    """Request what `part` lacks, once, and append it. A file beside `part` records the version of the file on the
    server; `part` begins again when the server has another version.

    Raises:
        Refused, Interrupted, RequestException, DiskFull
    """
    record = part.with_suffix(".version")
    try:
        version = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the first transfer, or a crash has damaged it
        version = {"total": None}
        part.unlink(missing_ok=True)
    have = length(part)
    if have and have == version["total"]:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        validator = version["ETag"] or version["Last-Modified"]
        if validator and not validator.startswith("W/"):  # HTTP allows no weak validator here
            headers["If-Range"] = validator
    login = auth or (lambda request: request)  # for None, requests would read ~/.netrc
    with Session() as session, session.get(url, headers=headers, auth=login, stream=True, timeout=TIMEOUT) as response:
        refuse(response, part, name)
        start, end, now = sent(response)
        if start and (start != have or any(now[key] and version[key] not in (None, now[key]) for key in now)):
            part.unlink(missing_ok=True)
            raise Interrupted("the file on the server has changed, or another part of it came than was asked for")
        total = now["total"] or (version["total"] if start else None)
        if size and total and total != size:
            raise Refused(f"has {total:,} bytes, where {size:,} are expected")
        end, free = end or size, shutil.disk_usage(part.parent).free
        if end and end - start > free:
            raise DiskFull(f"{name}: {end - start:,} bytes are still to come and the disk has {free:,} free")
        if not start:
            part.unlink(missing_ok=True)
            record.write_text(json.dumps(now), encoding="utf-8")
        bar = tqdm(desc=shown(name), total=total, initial=start, unit="B", unit_scale=True, disable=quiet)
        with bar, open(part, "ab") as file:
            for chunk in response.iter_content(CHUNK):
                if end and file.tell() + len(chunk) > end:
                    part.unlink()
                    raise Refused(f"sends more than the {end:,} bytes that it states or that are expected")
                file.write(chunk)
                bar.update(len(chunk))
    if total and length(part) < total:
        raise Interrupted(f"{length(part):,} of {total:,} bytes came")


def sent(response: requests.Response) -> tuple[int, int | None, dict]:
    """Where in the file the bytes of a response start and end, and the file's version: its `total` bytes and its
    VALIDATORS; None where the server states nothing. Raises Interrupted."""
    validators = {key: response.headers.get(key) for key in VALIDATORS}
    if response.status_code == 200:
        stated = response.headers.get("Content-Length", "")
        total = int(stated) if re.fullmatch(r"\d{1,18}", stated) else None
        return 0, total, {"total": total} | validators
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    if not found:
        raise Interrupted("a part of the file came without its place")
    start, last, total = (None if number == "*" else int(number) for number in found.groups())
    return start, last + 1, {"total": total} | validators


def refuse(response: requests.Response, part: Path, name: str) -> None:
    """Raise Refused or Interrupted unless a response brings bytes of the file `name`."""
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code == 416:
        part.unlink(missing_ok=True)
        raise Interrupted("what was there is longer than the file")
    if response.status_code == 429 or response.status_code >= 500:
        try:
            wait = Retry().get_retry_after(response.raw) or 0
        except (InvalidHeader, ValueError, OverflowError):
            wait = 0
        if wait > LONGEST_WAIT:
            raise Refused(f"{status}, and it asks to wait for more than {LONGEST_WAIT} s")
        raise Interrupted(status, wait)
    if response.status_code not in (200, 206):
        raise Refused(status)
    if response.headers.get("Content-Type", "").startswith("text/html") and not name.endswith(".html"):
        raise Refused("a web page, not the file")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise Refused(f"is sent as {encoding}, which was not asked for")


def check(path: Path, size: int | None, hashes: Sequence[str], name: str) -> None:
    """Raise Refused unless a file has `size` bytes and one of `hashes`, each `sha256:...` or `git:...` (git's blob id).

    Without hashes, a file called .zip or .tar must at least open as one of these; a mirror may have the other.
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
    if os.path.splitext(name)[1] in (".zip", ".tar") and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        raise Refused("is not a whole archive")
    tqdm.write(shown(f"{name}: no hash is published; this copy is sha256:{digest(path, 'sha256')}"))


def digest(path: Path, kind: str) -> str:
    """The hex digest of a file, of `kind` `sha256` or `git` (the id that git gives it as a blob)."""
    begun = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % length(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: begun).hexdigest()
