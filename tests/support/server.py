"""A real HTTP server on loopback whose files fail in scripted ways."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files[path]`; the query says how it fails.

    `cut=N`: the first answer breaks off after N bytes. `status=503&times=2`: so many such answers first. `norange`:
    ignores Range. `html`: an error page with status 200. `slow`: 64 KiB every 10 ms.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        how = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        first = self.headers.get("Range")
        with self.server.lock:
            self.server.requests.append((self.path, first, self.headers.get("Authorization")))
            count = sum(path == self.path for path, _, _ in self.server.requests)
        if "status" in how and count <= int(how.get("times", 10**6)):
            return self.send_error(int(how["status"]))
        if "html" in how:
            return self.answer(200, b"<html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        data = self.server.files.get(url.path)
        if data is None:
            return self.send_error(404)
        if "norange" in how or first is None:
            return self.answer(200, data, {}, how, count)
        start = int(first.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, how, count)

    def answer(self, status, data, headers, how=None, count=1):
        how = how or {}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if "cut" in how and count == 1:
            data, self.close_connection = data[: int(how["cut"])], True
        for start in range(0, len(data), 1 << 16):
            try:
                self.wfile.write(data[start : start + (1 << 16)])
            except OSError:
                return
            if "slow" in how:
                time.sleep(0.01)


@contextmanager
def serving(files):
    """A server of `files` (path -> bytes), with its `url` and the `requests` it got: (path, Range, Authorization)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.lock = files, [], threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_port}"
    with in_a_thread(server):
        yield server


def answer(status, body=b"", **headers):
    """The bytes of an HTTP answer. `_` stands for `-` in the names of headers."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Scripted(StreamRequestHandler):
    """Answers each connection with the next of `server.answers`, the last again and again."""

    def handle(self):
        lines = iter(lambda: self.rfile.readline().decode().strip(), "")
        request, headers = next(lines, ""), dict(line.split(": ", 1) for line in lines)
        with self.server.lock:
            self.server.requests.append((request, headers))
            count = len(self.server.requests)
        self.wfile.write(self.server.answers[min(count, len(self.server.answers)) - 1])


@contextmanager
def scripted(*answers, context=None):
    """A server of `answers`, bytes for the first request, the second and so on, with its `url` and the `requests` it
    got: (first line, headers). It speaks TLS with the SSLContext `context`."""
    server = ThreadingTCPServer(("127.0.0.1", 0), Scripted)
    server.answers, server.requests, server.lock = answers, [], threading.Lock()
    server.handle_error = lambda *_: None  # a client that hangs up
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    with in_a_thread(server):
        yield server


@contextmanager
def in_a_thread(server):
    """Let `server` answer in its own thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
