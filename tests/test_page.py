"""The page that answers sentences: what a person sees in a browser, and what the server gives to whom."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from http.client import HTTPConnection, IncompleteRead
from itertools import product
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from anyio import AsyncFile
from conftest import REPOSITORY
from PIL import Image
from support.browser import browsing
from support.videos import make_video

from centerclip import cli
from centerclip.backbones.weights import save_weights
from centerclip.search.index import Searcher, up_to_date
from centerclip.search.models import cell_of_weights
from centerclip.search.page import HTML, PIECE, Page, capped
from centerclip.search.retriever import Retriever

CAPTIONS = "[...document.querySelectorAll('figcaption')].map(one => one.innerText.split('\\n'))"
PLAYING = "[...document.querySelectorAll('video')].filter(one => one.currentTime > 0.3 && !one.paused).length"
TOLD = "document.querySelector('#told').textContent"
NOT_FOUND = 404, b"Not Found"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page of a folder with two videos that browsers play, a picture that moves, and a video that none plays."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    make_video(folder / "a <b>&'.mp4", count=30)
    make_video(folder / "more/b.mp4", count=10, rate=5)
    make_video(folder / "old.avi", codec="mpeg4")
    first, *others = (Image.new("RGB", (96, 64), (10 * i, 0, 0)) for i in range(8))
    first.save(folder / "picture.gif", save_all=True, append_images=others, duration=100)
    (folder / "secret.txt").write_text("not a video")
    (folder.parent / "outside.mp4").write_bytes(b"outside")
    retriever = Retriever(cell_of_weights("tiny", None, 4))
    index, left_out = up_to_date(folder, retriever)
    assert not left_out
    page = Page(folder, top=4)
    with page.answering(Searcher(index, retriever)):
        yield page


def ask(server, path, method="GET", **headers):
    """(status, headers, body) of a request."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


@pytest.mark.slow
def test_in_a_browser_one_types_sees_videos_play_and_goes_back(server, tmp_path):
    with browsing(tmp_path) as page:
        page.tell("Page.navigate", url=server.url)
        page.until("document.activeElement?.name == 'q'")
        page.type("something grey")
        told = page.until(TOLD)
        assert re.fullmatch(r"4 of 4 videos in \d+ ms", told)
        (expected,) = server.searcher.answers(["something grey"], 4)
        captions = page.js(CAPTIONS)
        assert captions == [[one.video, f"{one.similarity:.3f}"] for one in expected]
        page.until(f"{PLAYING} == 2 && document.querySelector('img').naturalWidth == 96")
        assert page.js("document.querySelector('.screen p').innerText") == "This browser does not play old.avi"
        page.js("Promise.all([...document.querySelectorAll('video')].map(one => new Promise(done => {"
                "one.pause(); one.onseeked = done; one.currentTime = 1.5})))")  # fmt: skip
        assert page.js("[...document.querySelectorAll('video')].map(one => one.currentTime)") == [1.5, 1.5]

        page.type("red & blue?")
        page.until(f"document.title == 'red & blue?' && {TOLD}")
        assert page.js("location.search") == "?q=red+%26+blue%3F"
        page.js("history.back()")
        page.until("document.title == 'something grey' && document.querySelectorAll('figure').length == 4")
        assert page.js("document.forms[0].q.value") == "something grey"
        assert page.js(CAPTIONS) == captions
        page.js("history.forward()")
        page.until("document.forms[0].q.value == 'red & blue?'")

        assert not page.happened("Log.entryAdded") and not page.happened("Runtime.exceptionThrown")
        sent = [event["request"]["url"] for event in page.happened("Network.requestWillBeSent")]
        assert len(sent) > 6 and all(address.startswith((server.url, "data:")) for address in sent)

        # only the page's own script runs, and it asks nobody else
        page.js("""document.body.append(Object.assign(document.createElement("script"), {text: "window.ran = 1"}))""")
        page.js("document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()")
        assert page.js("window.ran") is None
        assert page.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
        assert any("Content Security Policy" in one["entry"]["text"] for one in page.happened("Log.entryAdded"))

        gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.tell("Network.emulateNetworkConditions", **gone)
        page.type("grey")
        assert page.until(TOLD).startswith("No answer: is centerclip still running?")


def address(server, name):
    """Of a video's file."""
    return f"/video/{server.searcher.videos.index(name)}"


def test_answers_are_the_searchers(server):
    status, headers, body = ask(server, "/search?q=something+grey")
    found = json.loads(body)
    (expected,) = server.searcher.answers(["something grey"], 4)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert found["videos"] == [one._asdict() for one in expected]
    assert found["of"] == 4 and found["note"] is None and found["ms"] > 0
    assert found["remark"] == "random weights: the order of the videos means nothing"
    note = json.loads(ask(server, "/search?q=" + "dog+" * 90)[2])["note"]
    assert note == "only the sentence's first 75 tokens are read"
    for path in ("/search", "/search?q=", "/search?q=+"):
        assert ask(server, path)[0] == 400


def test_names_that_are_no_utf_8_are_answered(server, monkeypatch):
    monkeypatch.setattr(server.searcher, "videos", ["\udcff.mp4"] * 4)
    assert json.loads(ask(server, "/search?q=grey")[2])["videos"][0]["video"] == "\udcff.mp4"


def test_a_whole_video_and_its_head(server):
    file = (server.folder / "more/b.mp4").read_bytes()
    for method, expected in (("GET", file), ("HEAD", b"")):
        status, headers, body = ask(server, address(server, "more/b.mp4"), method)
        assert (status, headers["Content-Length"], body) == (200, str(len(file)), expected)
        assert headers["Content-Type"] == "video/mp4" and headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "begin", "end"), [("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("bytes=-7", -7, None)]
)
def test_a_range_of_a_video(server, asked, begin, end):
    file = (server.folder / "more/b.mp4").read_bytes()
    status, headers, body = ask(server, address(server, "more/b.mp4"), Range=asked)
    assert (status, body) == (206, file[begin:end])
    begin %= len(file)
    assert headers["Content-Range"] == f"bytes {begin}-{begin + len(body) - 1}/{len(file)}"


def test_a_range_is_sent_in_pieces_and_beyond_the_end_is_416(server):
    assert ask(server, address(server, "more/b.mp4"), Range="bytes=99999999-")[0] == 416
    assert capped(b"bytes=0-") == b"bytes=0-%d" % (PIECE - 1)
    assert capped(b"bytes=5-%d" % (9 * PIECE)) == b"bytes=5-%d" % (PIECE + 4)
    for asked in (b"bytes=5-9", b"bytes=-5", b"lines=1-2", b"bytes=0-1,5-6"):
        assert capped(asked) == asked


@pytest.mark.parametrize(
    "path",
    ["/video/4", "/video/-1", f"/video/{'9' * 5000}", "/video/a.mp4", "/video/../secret.txt", "/video/0/../../x",
     "/secret.txt", "/../outside.mp4", "/%2e%2e/outside.mp4", "/video/..%2foutside.mp4", "//etc/passwd"],
)  # fmt: skip
def test_nothing_but_videos_of_the_index_is_sent(server, path):
    assert ask(server, path)[::2] == NOT_FOUND


@pytest.fixture
def asked(server):
    """Asks for the status and body of `new/v.mp4`, a video of the index that the test makes."""
    new = server.folder / "new"
    new.mkdir()
    server.names["new"] = "new/v.mp4"
    yield lambda: ask(server, "/video/new")[::2]
    del server.names["new"]
    new.unlink() if new.is_symlink() else shutil.rmtree(new)


OUT = ["../../outside.mp4", "../../videos-too/v.mp4", "/etc/passwd", "v.mp4", "nothing"]


@pytest.mark.parametrize(
    "make", [*(partial(Path.symlink_to, target=target) for target in OUT), os.mkfifo, os.mkdir, lambda file: None]
)
def test_a_link_out_of_the_folder_or_no_regular_file_is_404_at_once(server, asked, make):
    (server.folder.parent / "videos-too").mkdir(exist_ok=True)
    (server.folder.parent / "videos-too/v.mp4").write_bytes(b"outside")
    make(server.folder / "new/v.mp4")
    assert asked() == NOT_FOUND


def test_a_folder_that_becomes_a_link_out_is_404(server, asked):
    (server.folder / "new/v.mp4").write_bytes(b"inside")
    assert asked() == (200, b"inside")
    elsewhere = server.folder.parent / "elsewhere"
    (server.folder / "new").rename(elsewhere)
    (server.folder / "new").symlink_to(elsewhere)
    assert asked() == NOT_FOUND


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_inside_the_folder_leads_to_its_file(server, asked, absolute):
    target = server.folder / "more/b.mp4"
    (server.folder / "new/v.mp4").symlink_to(target if absolute else "../more/b.mp4")
    assert asked() == (200, target.read_bytes())


def test_a_link_that_changes_after_it_was_resolved_is_not_followed(server, asked, monkeypatch):
    (server.folder / "new/v.mp4").symlink_to(server.folder.parent / "outside.mp4")
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)
    assert asked() == NOT_FOUND


@pytest.mark.parametrize("failing", [False, True])
def test_a_file_cut_short_while_it_is_sent_ends_the_connection(server, asked, monkeypatch, capfd, failing):
    file, read = server.folder / "new/v.mp4", AsyncFile.read
    file.write_bytes(bytes(1 << 20))

    async def cut(self, size):
        if await self.tell():
            os.truncate(file, 0)
            if failing:
                raise OSError(5, "Input/output error")
        return await read(self, size)

    monkeypatch.setattr(AsyncFile, "read", cut)
    with pytest.raises(IncompleteRead) as got:
        asked()
    assert got.value.partial == bytes(1 << 16) and capfd.readouterr().err == ""


def test_files_are_closed_whatever_is_asked_for(server, monkeypatch):
    opened, end = [], time.monotonic() + 10
    monkeypatch.setattr(server, "file", lambda name: opened.append(Page.file(server, name)) or opened[-1])
    for asked, method in product(("bytes=0-", "bytes=99999999-", "lines=1"), ("GET", "HEAD")):
        ask(server, address(server, "more/b.mp4"), method, Range=asked)
    while not all(file.closed for file in opened):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(opened) == 6


def test_a_bug_is_shown_on_the_terminal_and_is_500(server, monkeypatch, capfd):
    monkeypatch.setattr(server.searcher, "answers", lambda *_: 1 / 0)
    assert ask(server, "/search?q=grey")[0] == 500
    assert capfd.readouterr().err.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("path", ["/", "/search?q=grey", "/video/0"])
@pytest.mark.parametrize(
    ("host", "status"),
    [(host, 400) for host in ("example.org", "example.org:80", "127.0.0.1.example.org", "localhost@a.b", "")]
    + [(host, 200) for host in ("127.0.0.1", "localhost:1234", "LOCALHOST")],
)
def test_only_this_machines_own_names_are_answered(server, path, host, status):
    assert ask(server, path, Host=host)[0] == status


@pytest.mark.parametrize("path", ["/", "/search?q=grey", "/search", "/video/0", "/none"])
def test_other_sites_may_show_nothing_of_it(server, path):
    headers = ask(server, path)[1]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe" not in str(headers)
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers


def test_it_is_on_the_loopback_takes_no_post_and_names_no_other_address(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert ask(server, "/", "POST")[0] == 405
    assert not re.findall(r"""(?:https?:)?//[\w.-]+\.\w|@import|src=["']""", HTML)


def test_a_port_in_use_is_one_line_before_anything_slow(server, mistake, monkeypatch):
    monkeypatch.setattr(Retriever, "__init__", lambda *_: pytest.fail("a model is loaded"))
    words = ("search", server.folder, "--serve", "--backbone", "tiny", "--port", server.port)
    assert mistake(cli.main, *words) == f"error: port {server.port}: Address already in use"


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(server, tmp_path):
    """Of the same folder and model, so that its index is there; a client that does not read does not delay the end."""
    weights = tmp_path / "tiny.safetensors"
    save_weights(server.searcher.retriever.model.state_dict(), "tiny", weights)
    asked = ["--backbone", "tiny", "--weights", weights, "--frames", 4, "--top", 2]
    words = [sys.executable, "-m", "centerclip", "search", server.folder, "--serve", *asked]
    large = server.folder / "old.avi"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([*map(str, words)], env=environment, stdout=PIPE, stderr=PIPE, text=True) as process:
        (url,) = re.findall(r"^http://127\.0\.0\.1:\d+/", process.stdout.readline())
        running = SimpleNamespace(url=url)
        found = json.loads(ask(running, "/search?q=grey")[2])["videos"]
        data = large.read_bytes()
        os.truncate(large, 1 << 28)
        slow = HTTPConnection(urlsplit(url).netloc)
        slow.request("GET", address(server, "old.avi"))
        assert slow.getresponse().read(1) == data[:1]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT and process.stderr.read().endswith("interrupted\n")
        large.write_bytes(data)
    assert found == json.loads(ask(server, "/search?q=grey")[2])["videos"][:2]
