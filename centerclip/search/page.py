"""Serve a page on this machine that answers sentences with videos of a folder, and plays them.

Nobody else can ask it: it listens on the loopback only, answers to no other name of it (else a site could let its own
name mean this machine, and read the answers), and forbids other sites to show anything of it. A video's address is its
place in the index. Only files in the folder are sent: a link may lead to one, but not out of the folder.
"""

import base64
import errno
import hashlib
import json
import mimetypes
import os
import re
import socket
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from h11 import LocalProtocolError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server

from centerclip.command import UserError
from centerclip.search.index import Searcher

LOOPBACK = "127.0.0.1"
HTML = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
PIECE = 1 << 20  # bytes of a video in one answer at most: a browser plays more videos than its six connections


def own(tag: str) -> str:
    """The hash that allows the page's own script or style in a Content-Security-Policy."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", HTML, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"connect-src 'self'; media-src 'self'; img-src 'self' data:; script-src {own('script')}; style-src {own('style')}",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def capped(asked: bytes) -> bytes:
    """A Range header that asks for at most PIECE bytes; unchanged if it has no first byte."""
    found = re.fullmatch(rb"bytes=(\d{1,18})-(\d{0,18})", asked)
    if found is None:
        return asked
    first = int(found[1])
    return b"bytes=%d-%d" % (first, min(int(found[2] or first + PIECE), first + PIECE - 1))


class OpenFile(FileResponse):
    """A response that sends an open file, or the requested part of it, and closes the file."""

    def __init__(self, file: BinaryIO, kind: str):
        descriptor = file.fileno()
        super().__init__(f"/dev/fd/{descriptor}", media_type=kind, stat_result=os.fstat(descriptor))
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, capped(value) if name == b"range" else value) for name, value in scope["headers"]]
        with self.file:
            await super().__call__(scope | {"headers": headers}, receive, send)


def unexpected(_: Request, error: Exception) -> Response:
    """Show a bug on the terminal, but not a failing disk or a file that became shorter."""
    if not isinstance(error, OSError | LocalProtocolError):
        traceback.print_exception(error)
    return PlainTextResponse("Internal Server Error", 500)


class Page:
    """The page of a folder's videos, at `url`. Raises UserError for a port that is not free."""

    def __init__(self, folder: Path, top: int, port: int = 0):
        self.folder, self.top, self.asking = folder, top, threading.Lock()
        self.root = os.path.realpath(folder)
        self.root_descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.socket = socket.create_server((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) else "the largest one is 65535"
            raise UserError(f"port {port}: {reason}") from None
        self.port = self.socket.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}/"

    @contextmanager
    def answering(self, searcher: Searcher) -> Iterator[None]:
        """Answer in a thread while the block lasts."""
        self.searcher = searcher
        self.names = {str(place): name for place, name in enumerate(searcher.videos)}
        routes = [
            Route("/", lambda _: HTMLResponse(HTML)),
            Route("/search", self.search),
            Route("/video/{place}", self.video),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False)
        app = Starlette(routes=routes, middleware=[hosts], exception_handlers={Exception: unexpected})
        options = {"http": "h11", "ws": "none", "server_header": False, "timeout_graceful_shutdown": 1}
        options |= {"log_config": None, "log_level": "critical", "headers": [*HEADERS.items()]}
        server = Server(Config(app, **options))
        thread = threading.Thread(target=server.run, args=([self.socket],))
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()
            os.close(self.root_descriptor)

    def search(self, request: Request) -> Response:
        """The videos that answer the sentence `q`, the number of videos, a note, and the time in ms, as json."""
        sentence = request.query_params.get("q", "")
        if not sentence.strip():
            raise HTTPException(400)
        start = time.perf_counter()
        with self.asking:  # one after the other, which is faster for each
            (videos,) = self.searcher.answers([sentence], self.top)
            note = self.searcher.note(sentence)
        found = {
            "ms": 1000 * (time.perf_counter() - start),
            "of": len(self.searcher.videos),
            "note": note,
            "remark": self.searcher.remark,
            "videos": [video._asdict() for video in videos],
        }
        # Not JSONResponse, which fails on the names of files that are no UTF-8
        return Response(json.dumps(found), media_type="application/json")

    def video(self, request: Request) -> Response:
        """The video at a place in the index, or a part of it."""
        try:
            name = self.names[request.path_params["place"]]
            file = self.file(name)
        except (KeyError, OSError):
            raise HTTPException(404) from None
        return OpenFile(file, mimetypes.guess_type(name)[0] or "application/octet-stream")

    def file(self, name: str) -> BinaryIO:
        """Open the file of a video. Links are resolved first, and opening the file follows no link. So no file outside
        of the folder is opened, even if somebody changes a link meanwhile.

        Raises:
            OSError: it is not there, not in the folder, or no regular file. A pipe is never waited for.
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

    def serve(self, searcher: Searcher) -> None:
        """Print the address and answer until Ctrl-C. PyTorch gets one thread: a sentence is so small that several
        threads would wait for each other longer than they compute."""
        torch.set_num_threads(1)
        with self.answering(searcher):
            print(f"{self.url} shows the page; Ctrl-C ends it", flush=True)
            threading.Event().wait()
