"""Downloads a file from the first mirror that has it. A transfer that breaks off is resumed, and a file gets its name
only when it is complete and verified."""

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
from urllib3 import HTTPResponse, Retry
from urllib3.exceptions import InvalidHeader

from centerclip.command import UserError, first_line, shown

TIMEOUT = (10, 60)  # s: to connect, to wait for the next bytes
ATTEMPTS = 6  # in a row without a new byte
BACKOFF = 1.0  # s; the wait between attempts begins with it and doubles
LONGEST_WAIT = 300  # s at most between attempts when the server asks to wait (Retry-After)
CHUNK = 1 << 16  # bytes; a cut loses the current chunk
Credentials = tuple[str, str] | Callable  # user and password, or a function that adds a token to a request


class Refused(Exception):
    """This mirror does not have the right file; the next may."""


class Interrupted(Exception):
    """The transfer broke off; another attempt may continue it."""


class Again(Retry):
    """When a request is repeated: after the time that the server asks for, up to LONGEST_WAIT, or BACKOFF's."""

    def get_retry_after(self, response: HTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            return None
        return seconds and min(seconds, LONGEST_WAIT)


class Session(requests.Session):
    """Requests that are repeated while a server is unreachable or busy, and whose credentials never go to another host
    after a redirect."""

    def __init__(self):
        super().__init__()
        options = {"status_forcelist": (429, *range(500, 600)), "raise_on_status": False, "backoff_factor": BACKOFF}
        again = Again(ATTEMPTS - 1, other=0, redirect=False, **options)
        for scheme in ("http://", "https://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(max_retries=again))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if self.should_strip_auth(response.request.url, prepared_request.url):
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
    """Download the file of `urls`, mirrors in order of preference, to `path`, unless it exists already.

    A hidden file beside `path` keeps the bytes that arrived from a mirror, and the next call continues it. Two
    processes may ask for the same file at the same time.

    Args:
        size, hashes: as in `check`.
        auth: for the server of the first url. A mirror on another server gets none.
        otherwise: what else the user can do, for the message.
        quiet: show no progress bar.

    Raises:
        UserError: no mirror has the file; the message gives the reason of each.
        OSError: the disk is full. The bytes that arrived are kept.
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
                error.filename = error.filename or str(path)  # a full disk names no file
                raise
            else:
                os.replace(part, path)
                for suffix in ("part", "version"):  # of all mirrors
                    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.{suffix}"):
                        left.unlink()
                return
    advice = f"Run again, which continues the download, or {otherwise}"
    raise UserError(shown(f"{path.name}: could not be downloaded: {'; '.join(reasons)}. {advice}"))


def length(path: Path) -> int:
    """The bytes of a file; 0 without one."""
    return path.stat().st_size if path.exists() else 0


def fetch(
    url: str, part: Path, name: str, size: int | None, hashes: Sequence[str], auth: Credentials | None, quiet: bool
) -> None:
    """Complete `part`, so that it is the whole and verified file of `url`. Raises Refused."""
    begun, most, failures = part.exists(), length(part), 0
    while True:
        try:
            transfer(url, part, name, size, auth, quiet)
        except requests.RequestException as error:
            raise Refused(explain(error, url)) from None
        except Interrupted as error:
            failures = 1 if length(part) > most else failures + 1
            most = max(most, length(part))
            if failures == ATTEMPTS:
                raise Refused(f"{ATTEMPTS} attempts in a row brought nothing, the last: {error}") from None
            time.sleep(BACKOFF * 2 ** (failures - 1))
            continue
        try:
            return check(part, size, hashes, name)
        except Refused:
            part.unlink()
            if not begun:
                raise
            begun = False  # an earlier call may have left wrong bytes, so start once more from the beginning


def explain(error: Exception, url: str) -> str:
    """Why a request failed, in one line with advice."""
    host, causes = urlsplit(url).hostname, [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = "behind a proxy with its own certificates, name their file in REQUESTS_CA_BUNDLE"
            return f"the certificate of {host} is not trusted: {cause.verify_message}; {advice}"
    reason = first_line(causes[-1])
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy fails: {reason}; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    return f"{host} cannot be reached: {reason}" if isinstance(error, exceptions.ConnectionError) else reason


def transfer(url: str, part: Path, name: str, size: int | None, auth: Credentials | None, quiet: bool) -> None:
    """Request the missing bytes of `part` once, and append them. A file beside `part` records the version of the file
    on the server; if that changed, `part` begins again. Raises Refused, Interrupted, RequestException or OSError."""
    record = part.with_suffix(".version")
    try:
        total, validator = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):  # the first transfer, or a crash has damaged the record
        total = validator = None
        part.unlink(missing_ok=True)
    have = length(part)
    if have and have == total:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator and not validator.startswith("W/"):  # HTTP allows no weak validator here
            headers["If-Range"] = validator
    login = auth or (lambda request: request)  # with None, requests would read ~/.netrc
    with Session() as session, session.get(url, headers=headers, auth=login, stream=True, timeout=TIMEOUT) as response:
        refuse(response, part, name)
        start, now_total = sent(response)
        now = response.headers.get("ETag") or response.headers.get("Last-Modified")
        same = now in (None, validator) or validator is None
        if start and not (start == have and same and (total in (None, now_total) or now_total is None)):
            part.unlink(missing_ok=True)
            raise Interrupted("the file on the server has changed, or the server sent the wrong part of it")
        total = now_total or (total if start else None)
        if size and total and total != size:
            raise Refused(f"has {total:,} bytes, expected {size:,}")
        end, free = total or size, shutil.disk_usage(part.parent).free
        if end and end - start > free:
            problem = f"{end - start:,} bytes are missing, but the disk has only {free:,} free"
            raise OSError(errno.ENOSPC, problem, str(part.with_name(name)))
        if not start:
            part.unlink(missing_ok=True)
            record.write_text(json.dumps([total, now]), encoding="utf-8")
        bar = tqdm(desc=shown(name), total=total, initial=start, unit="B", unit_scale=True, disable=quiet)
        with bar, open(part, "ab") as file:
            try:
                for chunk in response.iter_content(CHUNK):
                    if end and file.tell() + len(chunk) > end:
                        part.unlink()
                        raise Refused(f"sends more than the expected {end:,} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException as error:
                raise Interrupted(first_line(error)) from None
    if total and length(part) < total:
        raise Interrupted(f"{length(part):,} of {total:,} bytes came")


def sent(response: requests.Response) -> tuple[int, int | None]:
    """The place in the file where the bytes of a response start, and the size of the file or None. Raises
    Interrupted."""
    if response.status_code == 200:
        stated = response.headers.get("Content-Length", "")
        return 0, int(stated) if stated.isdecimal() else None
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    if not found:
        raise Interrupted("the server sent a part of the file without its place")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def refuse(response: requests.Response, part: Path, name: str) -> None:
    """Raise Refused or Interrupted unless a response brings bytes of the file `name`."""
    if response.status_code == 416:
        part.unlink(missing_ok=True)
        raise Interrupted("the part on the disk is longer than the file")
    if response.status_code not in (200, 206):
        raise Refused(f"HTTP {response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html") and not name.endswith(".html"):
        raise Refused("a web page, not the file")


def check(path: Path, size: int | None, hashes: Sequence[str], name: str) -> None:
    """Raise Refused unless a file has `size` bytes and one of `hashes`, each `sha256:...` or `git:...` (git's blob id).

    Without hashes, a file called .zip or .tar must at least open as one of the two.
    """
    actual_size = path.stat().st_size
    if size and actual_size != size:
        raise Refused(f"has {actual_size:,} bytes, expected {size:,}")
    if hashes:
        kinds = dict.fromkeys(expected.split(":")[0] for expected in hashes)
        actual = [f"{kind}:{digest(path, kind)}" for kind in kinds]
        if not set(actual) & set(hashes):
            raise Refused(f"is {' '.join(actual)}, expected {' or '.join(hashes)}")
        return
    if os.path.splitext(name)[1] in (".zip", ".tar") and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        raise Refused("is not a whole archive")
    tqdm.write(shown(f"{name}: no hash is published; this copy is sha256:{digest(path, 'sha256')}"))


def digest(path: Path, kind: str) -> str:
    """The hex digest of a file; `kind` is `sha256` or `git` (its id as a blob)."""
    begun = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % length(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: begun).hexdigest()
