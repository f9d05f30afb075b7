"""A page on this machine that answers sentences with the videos of a folder, which play beside their similarities.

Nobody else can ask it: it listens on the loopback only, refuses other names of it (a site whose name comes to mean this
machine could read it else), and other sites may show nothing of it. Videos go by their place in the index, and only
files in the folder are sent: a link may lead to one, but not out of the folder.
"""

import base64
import errno
import hashlib
import json
import mimetypes
import os
import re
import stat
import sys
import threading
import time
from contextlib import ExitStack, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import torch

from centerclip.command import UserError
from centerclip.search.index import Searcher

LOOPBACK = "127.0.0.1"
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)  # how a browser on this machine may call it
HTML = Path(__file__).with_name("page.html")
PIECE = 1 << 20  # bytes of a video in one answer at most: browsers have six connections, for more videos than that


def policy(html: str) -> str:
    """The Content-Security-Policy of a page with its own script and style alone, that loads from its server alone."""

    def own(tag: str) -> str:
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    loaded = "connect-src 'self'; media-src 'self'; img-src 'self' data:"
    closed = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"{closed}; {loaded}; script-src {own('script')}; style-src {own('style')}"


def part(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last of a Range header's `bytes=first-last`, `first-` or `-count`, PIECE at
    most; None: the whole file is meant, as by whatever else it may say. A part outside of the file ends at its begin or
    before."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    begin = int(first) if first else max(size - int(last), 0)
    end = int(last) + 1 if first and last else size
    return begin, min(end, size, begin + PIECE)


class Handler(BaseHTTPRequestHandler):
    """Answers a browser: `/`, the page; `/search?q=SENTENCE`, json; `/video/PLACE`, a file or the part asked for."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not HOST.fullmatch(self.headers.get("Host", "")):
            return self.refuse(HTTPStatus.FORBIDDEN)
        if url.path == "/":
            return self.send(HTTPStatus.OK, self.server.html.encode(), "text/html; charset=utf-8")
        if url.path == "/search":
            return self.answer(parse_qs(url.query).get("q", [""])[0])
        if found := re.fullmatch(r"/video/(\d{1,9})", url.path):
            return self.video(int(found[1]))
        self.refuse(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def answer(self, sentence: str) -> None:
        if not sentence.strip():
            return self.refuse(HTTPStatus.BAD_REQUEST)
        self.send(HTTPStatus.OK, json.dumps(self.server.answer(sentence)).encode(), "application/json")

    def video(self, place: int) -> None:
        try:
            name = self.server.searcher.videos[place]
            file = self.server.file(name)
        except (IndexError, OSError):
            return self.refuse(HTTPStatus.NOT_FOUND)
        with file:
            self.send_file(file, mimetypes.guess_type(name)[0] or "application/octet-stream")

    def send_file(self, file: BinaryIO, kind: str) -> None:
        """Send a file, or the part of it that is asked for. The connection ends with a file that is cut short."""
        size = file.seek(0, os.SEEK_END)
        asked = part(self.headers.get("Range"), size)
        begin, end = asked or (0, size)
        headers = {"Accept-Ranges": "bytes"}
        if asked and end <= begin:
            outside = {"Content-Range": f"bytes */{size}"}
            return self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, outside)
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        self.begin(status, end - begin, kind, headers)
        file.seek(begin)
        while self.command == "GET" and begin < end and (data := file.read(min(end - begin, 1 << 16))):
            self.wfile.write(data)
            begin += len(data)
        self.close_connection |= self.command == "GET" and begin < end

    def refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send(status, f"{status.phrase}\n".encode(), "text/plain", headers)

    def send(self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.begin(status, len(body), kind, headers or {})
        if self.command == "GET":
            self.wfile.write(body)

    def begin(self, status: HTTPStatus, length: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """The page of a folder's videos at `url`, which answers as soon as it has a `searcher`. Raises UserError for a port
    that cannot be had."""

    daemon_threads = True

    def __init__(self, searcher: Searcher | None, folder: Path, top: int, port: int = 0):
        self.searcher, self.folder, self.top = searcher, folder, top
        self.root = os.path.realpath(folder)
        self.root_descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        self.html = HTML.read_text(encoding="utf-8")
        self.policy, self.asking = policy(self.html), threading.Lock()
        try:
            super().__init__((LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port}: {getattr(error, 'strerror', None) or error}") from None
        self.url = f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, *_: object) -> None:
        """Print an error, but not that a browser hangs up, having what it wanted, or that a disk fails."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*_)

    def server_close(self) -> None:
        super().server_close()
        os.close(self.root_descriptor)

    def file(self, name: str) -> BinaryIO:
        """The file of a video. Links are resolved first, and none is followed when the file is opened: so nothing
        outside of the folder is opened, whoever changes a link meanwhile.

        Raises:
            OSError: it is not there, not in the folder, or no regular file; a pipe does not make us wait.
        """
        *folders, last = os.path.relpath(os.path.realpath(self.folder / name), self.root).split("/")
        with ExitStack() as opened:
            descriptor = self.root_descriptor
            for folder in folders:
                if folder == "..":
                    raise PermissionError(errno.EXDEV, "leads out of the folder", name)
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                opened.callback(os.close, descriptor)
            file = os.open(last, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=descriptor)
            if stat.S_ISREG(os.fstat(file).st_mode):
                return open(file, "rb")
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "no regular file", name)

    def answer(self, sentence: str) -> dict:
        """For json: the videos that answer a sentence, of how many, what to note, and in how many ms."""
        start = time.perf_counter()
        with self.asking:  # one after the other, which is quicker for each
            (videos,) = self.searcher.answers([sentence], self.top)
            note = self.searcher.note(sentence)
        return {
            "ms": 1000 * (time.perf_counter() - start),
            "of": len(self.searcher.videos),
            "note": note,
            "remark": self.searcher.remark,
            "videos": [video._asdict() for video in videos],
        }


def serve(server: Server) -> None:
    """Print the address of the page and answer until Ctrl-C. PyTorch gets one thread: a sentence is so small that
    several would wait for each other longer than they compute."""
    torch.set_num_threads(1)
    print(f"{server.url} shows the page; Ctrl-C ends it", flush=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
