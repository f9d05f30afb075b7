"""The page that answers sentences: what a person sees in a browser, and what the server gives to whom."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from http.client import HTTPConnection, IncompleteRead
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from conftest import REPOSITORY
from PIL import Image
from support.browser import browsing
from support.server import in_a_thread
from support.videos import make_video

from centerclip import cli
from centerclip.backbones.weights import save_weights
from centerclip.command import UserError
from centerclip.search.index import Searcher, up_to_date
from centerclip.search.models import plain
from centerclip.search.page import HTML, PIECE, Server, part
from centerclip.search.retriever import Retriever

CAPTIONS = "[...document.querySelectorAll('figcaption')].map(one => one.innerText.split('\\n'))"
PLAYING = "[...document.querySelectorAll('video')].filter(one => one.currentTime > 0.3 && !one.paused).length"
TOLD = "document.querySelector('#told').textContent"


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
    retriever = Retriever(plain("tiny", None, 4))
    index, left_out = up_to_date(folder, retriever)
    assert not left_out
    with in_a_thread(Server(Searcher(index, retriever), folder, top=4)) as running:
        yield running


def ask(server, path, method="GET", **headers):
    """(status, headers, body) of a request."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


class TestInABrowser:
    def test_type_see_play_and_go_back(self, server, tmp_path):
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

    def test_a_script_that_is_not_the_pages_does_not_run(self, server, tmp_path):
        with browsing(tmp_path) as page:
            page.tell("Page.navigate", url=f"{server.url}?q=grey")
            page.until("document.querySelectorAll('figure').length == 4")
            page.js(
                """document.body.append(Object.assign(document.createElement("script"), {text: "window.ran = 1"}))"""
            )
            page.js("document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()")
            assert page.js("window.ran") is None
            assert page.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
            assert any("Content Security Policy" in one["entry"]["text"] for one in page.happened("Log.entryAdded"))

    def test_a_server_that_has_gone_is_told(self, server, tmp_path):
        with browsing(tmp_path) as page:
            page.tell("Page.navigate", url=server.url)
            page.until("document.activeElement?.name == 'q'")
            gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
            page.tell("Network.emulateNetworkConditions", **gone)
            page.type("grey")
            assert page.until(TOLD).startswith("No answer: is centerclip still running?")


class TestAnswers:
    def test_they_are_the_searchers(self, server):
        status, headers, body = ask(server, "/search?q=something+grey")
        found = json.loads(body)
        (expected,) = server.searcher.answers(["something grey"], 4)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert found["videos"] == [one._asdict() for one in expected]
        assert found["of"] == 4 and found["note"] is None and found["ms"] > 0
        assert found["remark"] == "random weights: the order of the videos means nothing"

    def test_a_sentence_that_is_too_long_has_a_note(self, server):
        assert json.loads(ask(server, "/search?q=" + "dog+" * 90)[2])["note"] == (
            "only the sentence's first 75 tokens are read"
        )

    @pytest.mark.parametrize("path", ["/search", "/search?q=", "/search?q=+"])
    def test_no_sentence_is_no_question(self, server, path):
        assert ask(server, path)[0] == 400


class TestVideos:
    @pytest.fixture
    def file(self, server):
        return (server.folder / "more/b.mp4").read_bytes()

    def place(self, server, name):
        return f"/video/{server.searcher.videos.index(name)}"

    def test_a_whole_one(self, server, file):
        status, headers, body = ask(server, self.place(server, "more/b.mp4"))
        assert (status, body) == (200, file)
        assert headers["Content-Type"] == "video/mp4" and headers["Accept-Ranges"] == "bytes"

    @pytest.mark.parametrize(
        ("asked", "begin", "end"),
        [("bytes=0-", 0, None), ("bytes=5-", 5, None), ("bytes=5-9", 5, 10), ("bytes=-7", -7, None),
         ("bytes=3-99999999", 3, None), ("bytes=-99999999", 0, None)],
    )  # fmt: skip
    def test_a_part(self, server, file, asked, begin, end):
        status, headers, body = ask(server, self.place(server, "more/b.mp4"), Range=asked)
        expected = file[begin:end]
        begin %= len(file)
        assert (status, body) == (206, expected)
        assert headers["Content-Range"] == f"bytes {begin}-{begin + len(expected) - 1}/{len(file)}"

    @pytest.mark.parametrize("asked", ["bytes=-0", "bytes=99999999-", "bytes=9-5"])
    def test_a_part_that_there_is_not(self, server, file, asked):
        status, headers, _ = ask(server, self.place(server, "more/b.mp4"), Range=asked)
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(file)}")

    @pytest.mark.parametrize("asked", ["bytes=-", "bytes=0-1,5-6", "lines=0-5", "bytes=a-b", "bytes=\uff11-\uff12"])
    def test_whatever_else_is_asked_for_gives_the_whole(self, server, file, asked):
        status, _, body = ask(server, self.place(server, "more/b.mp4"), Range=asked.encode())
        assert (status, body) == (200, file)

    def test_a_large_one_comes_in_pieces(self):
        assert part("bytes=0-", 10 * PIECE) == (0, PIECE)
        assert part(f"bytes={9 * PIECE + 5}-", 10 * PIECE) == (9 * PIECE + 5, 10 * PIECE)
        assert part(f"bytes=-{3 * PIECE}", 10 * PIECE) == (7 * PIECE, 8 * PIECE)

    def test_head_has_no_body(self, server, file):
        status, headers, body = ask(server, self.place(server, "more/b.mp4"), "HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(file)), b"")

    def test_one_that_has_gone_is_not_found(self, server):
        file = server.folder / "old.avi"
        data = file.read_bytes()
        file.unlink()
        try:
            assert ask(server, self.place(server, "old.avi"))[0] == 404
        finally:
            file.write_bytes(data)

    @pytest.mark.parametrize(
        "path",
        ["/video/4", "/video/-1", "/video/999999999999", "/video/a.mp4", "/video/../secret.txt", "/video/0/../../x",
         "/secret.txt", "/../outside.mp4", "/%2e%2e/outside.mp4", "/video/..%2foutside.mp4", "//etc/passwd"],
    )  # fmt: skip
    def test_nothing_else_is_given(self, server, path):
        status, _, body = ask(server, path)
        assert (status, body) == (404, b"Not Found\n")


class TestLinks:
    """Files are replaced while the page is served."""

    @pytest.fixture
    def asked(self, server):
        """The status and body for a video that the test replaces, `new/v.mp4`."""
        (server.folder / "new").mkdir()
        server.searcher.videos.append("new/v.mp4")
        yield lambda: ask(server, "/video/4")[::2]
        server.searcher.videos.pop()
        new = server.folder / "new"
        new.unlink() if new.is_symlink() else shutil.rmtree(new)

    @pytest.mark.parametrize(
        "target", ["../../outside.mp4", "../../videos-too/v.mp4", "/etc/passwd", "v.mp4", "nothing"]
    )
    def test_a_link_out_of_the_folder_or_to_nothing_is_not_found(self, server, asked, target):
        (server.folder.parent / "videos-too").mkdir(exist_ok=True)
        (server.folder.parent / "videos-too/v.mp4").write_bytes(b"outside")
        (server.folder / "new/v.mp4").symlink_to(target)
        assert asked() == (404, b"Not Found\n")

    def test_a_folder_that_becomes_a_link_out_is_not_found(self, server, asked):
        (server.folder / "new/v.mp4").write_bytes(b"inside")
        assert asked() == (200, b"inside")
        elsewhere = server.folder.parent / "elsewhere"
        (server.folder / "new").rename(elsewhere)
        (server.folder / "new").symlink_to(elsewhere)
        assert asked() == (404, b"Not Found\n")

    @pytest.mark.parametrize("absolute", [False, True])
    def test_a_link_inside_the_folder_leads_to_its_file(self, server, asked, absolute):
        target = server.folder / "more/b.mp4"
        (server.folder / "new/v.mp4").symlink_to(target if absolute else "../more/b.mp4")
        assert asked() == (200, target.read_bytes())

    def test_a_link_that_changes_after_it_was_looked_at_is_not_followed(self, server, asked, monkeypatch):
        file = server.folder / "new/v.mp4"
        file.symlink_to(server.folder.parent / "outside.mp4")
        monkeypatch.setattr(os.path, "realpath", lambda path: os.path.abspath(path))
        assert asked() == (404, b"Not Found\n")

    def test_a_pipe_a_socket_and_a_folder_are_not_found_at_once(self, server, asked):
        file = server.folder / "new/v.mp4"
        os.mkfifo(file)
        assert asked() == (404, b"Not Found\n")
        file.unlink()
        file.mkdir()
        assert asked() == (404, b"Not Found\n")

    @pytest.mark.parametrize("failing", [False, True])
    def test_a_file_that_is_cut_short_meanwhile_ends_the_connection(self, server, monkeypatch, capfd, failing):
        class Cut(BytesIO):
            def seek(self, *where: int) -> int:
                return super().seek(*where) if where == (0,) else 100

            def read(self, size: int) -> bytes:
                if failing and self.tell():
                    raise OSError(5, "Input/output error")
                return super().read(size)

        monkeypatch.setattr(server, "file", lambda name: Cut(b"short"))
        with pytest.raises(IncompleteRead) as got:
            ask(server, "/video/0")
        assert got.value.partial == b"short" and capfd.readouterr().err == ""


class TestStrangers:
    def test_it_listens_on_the_loopback_alone(self, server):
        assert server.server_address[0] == "127.0.0.1"

    @pytest.mark.parametrize("path", ["/", "/search?q=grey", "/video/0"])
    @pytest.mark.parametrize("host", ["example.org", "example.org:80", "127.0.0.1.example.org", "localhost@a.b", ""])
    def test_another_name_of_this_machine_is_refused(self, server, path, host):
        assert ask(server, path, Host=host)[0] == 403

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST"])
    def test_its_own_names_are_not(self, server, host):
        assert ask(server, "/", Host=host)[0] == 200

    @pytest.mark.parametrize("path", ["/", "/search?q=grey", "/video/0", "/none"])
    def test_other_sites_may_show_nothing_of_it(self, server, path):
        headers = ask(server, path)[1]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe" not in str(headers)
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers

    def test_nothing_is_taken(self, server):
        assert ask(server, "/", "POST")[0] == 501

    def test_the_page_names_no_other_address(self):
        assert not re.findall(r"""(?:https?:)?//[\w.-]+\.\w|@import|src=["']""", HTML.read_text())


def test_a_port_in_use_is_a_mistake(server):
    with pytest.raises(UserError, match=f"port {server.server_port}: Address already in use"):
        Server(server.searcher, server.folder, 3, server.server_port)


def test_a_port_in_use_is_told_before_anything_slow(server, mistake, monkeypatch):
    monkeypatch.setattr(Retriever, "__init__", lambda *_: pytest.fail("a model is loaded"))
    words = ("search", server.folder, "--serve", "--backbone", "tiny", "--port", server.server_port)
    assert mistake(cli.main, *words) == f"error: port {server.server_port}: Address already in use"


def test_the_command_serves_until_it_is_interrupted(server, tmp_path):
    """On the same folder and model, whose index is there already."""
    weights = tmp_path / "tiny.safetensors"

    save_weights(server.searcher.retriever.model.state_dict(), "tiny", weights)
    words = [
        "search",
        server.folder,
        "--serve",
        "--backbone",
        "tiny",
        "--weights",
        weights,
        "--frames",
        "4",
        "--top",
        "2",
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "centerclip", *map(str, words)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        (address,) = re.findall(r"^http://127\.0\.0\.1:\d+/", line)
        running = type("Running", (), {"url": address})
        found = json.loads(ask(running, "/search?q=grey")[2])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and "Traceback" not in process.stderr.read()
    assert [one["place"] for one in found["videos"]] == [
        one["place"] for one in json.loads(ask(server, "/search?q=grey")[2])["videos"][:2]
    ]
