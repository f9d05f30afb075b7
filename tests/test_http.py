"""Downloads against a real server on loopback that fails in every way the internet does."""

import hashlib
import io
import os
import resource
import signal
import ssl
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import numpy as np
import pytest
from conftest import REPOSITORY
from support.server import answer, scripted, serving

from centerclip.command import UserError
from centerclip.data.download import http as downloads
from centerclip.data.download.http import DiskFull, download

DATA = np.random.default_rng(0).bytes(3_000_000)
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(downloads, "BACKOFF", 0.001)


@pytest.fixture
def server():
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("a.txt", DATA[:100_000])
    with serving({"/f.bin": DATA, "/other.bin": DATA[::-1], "/f.zip": whole.getvalue()[:-50]}) as server:
        yield server


def ranges(server):
    return [requested for _, requested, _ in server.requests]


class TestOneMirror:
    @pytest.mark.parametrize(
        ("query", "requests"),
        [
            ("", [None]),
            ("?cut=1000000", [None, "bytes=983040-"]),
            ("?cut=1000000&norange", [None, "bytes=983040-"]),
            ("?status=503&times=2", [None] * 3),
            ("?status=500&times=3", [None] * 4),
            ("?status=429&times=1", [None] * 2),
        ],
    )
    def test_the_same_bytes_arrive(self, server, tmp_path, query, requests):
        download(tmp_path / "d/f.bin", [f"{server.url}/f.bin{query}"], len(DATA), [SHA256])
        assert (tmp_path / "d/f.bin").read_bytes() == DATA
        assert ranges(server) == requests
        assert not list(tmp_path.rglob("*.part"))

    def test_what_is_there_is_not_asked_for(self, server, tmp_path):
        (tmp_path / "f.bin").write_bytes(b"mine")
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert (tmp_path / "f.bin").read_bytes() == b"mine" and not server.requests

    @pytest.mark.parametrize(
        ("path", "hashes", "reason"),
        [
            ("/nothing.bin", [SHA256], "HTTP 404"),
            ("/f.bin?status=403", [SHA256], "HTTP 403"),
            ("/f.bin?html", [SHA256], "a web page, not the file"),
            ("/f.bin?html", [], "a web page, not the file"),
            ("/f.bin?status=503", [SHA256], "6 attempts in a row brought nothing, the last: HTTP 503"),
            ("/f.bin", ["sha256:1234"], f"is {SHA256}, where sha256:1234 is expected"),
            ("/f.zip", [], "is not a whole archive"),
        ],
    )
    def test_what_is_wrong_never_lands(self, server, tmp_path, path, hashes, reason):
        name = path.strip("/").split("?")[0]
        with pytest.raises(UserError) as error:
            download(tmp_path / name, [server.url + path], hashes=hashes)
        assert reason in str(error.value) and "\n" not in str(error.value)
        assert not (tmp_path / name).exists()

    def test_a_wrong_size_is_refused_before_it_is_loaded(self, server, tmp_path):
        with pytest.raises(UserError, match="3,000,000 bytes, where 5 are expected"):
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"], size=5)
        assert not list(tmp_path.glob("*.part"))

    def test_nobody_there(self, tmp_path):
        """One line, which names each source once and tells what to do."""
        url = "http://127.0.0.1:9/f.bin"
        with pytest.raises(UserError) as error:
            download(tmp_path / "f.bin", [url])
        reason = "6 attempts in a row brought nothing, the last: 127.0.0.1 cannot be reached"
        assert str(error.value).startswith(f"f.bin: no source has it: {url} ({reason}); try again, ")
        assert str(error.value).count(url) == 1 and "name a local copy" in str(error.value)

    def test_gits_blob_id_and_several_hashes(self, server, tmp_path):
        blob = subprocess.run(["git", "hash-object", "--stdin"], input=DATA, capture_output=True, check=True)
        hashes = ["sha256:1234", "git:" + blob.stdout.decode().strip()]
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=hashes)
        assert (tmp_path / "f.bin").exists()

    def test_credentials_go_to_the_server_and_into_no_file(self, server, tmp_path, capsys):
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"], auth=("me", "secret"))
        assert server.requests[0][2] == "Basic bWU6c2VjcmV0"
        assert "secret" not in capsys.readouterr().err


class TestMirrors:
    @pytest.mark.parametrize("first", ["/gone.bin", "/f.bin?html", "/other.bin", "/f.bin?status=500"])
    def test_the_next_is_asked(self, server, tmp_path, first):
        download(tmp_path / "f.bin", [server.url + first, f"{server.url}/f.bin"], hashes=[SHA256])
        assert (tmp_path / "f.bin").read_bytes() == DATA

    def test_one_mirrors_bytes_are_not_continued_with_anothers(self, server, tmp_path):
        mirrors = [f"{server.url}/other.bin?cut=5", f"{server.url}/f.bin"]
        server.files["/other.bin"] = DATA[:10]
        download(tmp_path / "f.bin", mirrors, hashes=[SHA256])
        assert (tmp_path / "f.bin").read_bytes() == DATA

    def test_what_other_mirrors_left_goes_when_the_file_is_there(self, server, tmp_path):
        with pytest.raises(UserError):
            download(tmp_path / "f.bin", [f"{server.url}/f.bin?cut=5&status=503"], hashes=[SHA256])
        (tmp_path / f".f.bin.{hashlib.sha1(b'other').hexdigest()[:8]}.part").write_bytes(DATA[:9])
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=[SHA256])
        assert not list(tmp_path.glob(".*.part"))

    def test_a_wrong_beginning_is_loaded_once_more(self, server, tmp_path):
        with pytest.raises(UserError):
            download(tmp_path / "f.bin", [f"{server.url}/f.bin?status=503"])
        url = f"{server.url}/f.bin"
        part = tmp_path / f".f.bin.{hashlib.sha1(url.encode()).hexdigest()[:8]}.part"
        part.write_bytes(b"x" * 1000)
        download(tmp_path / "f.bin", [url], hashes=[SHA256])
        assert (tmp_path / "f.bin").read_bytes() == DATA
        part.write_bytes(DATA + b"more")
        (tmp_path / "f.bin").unlink()
        download(tmp_path / "f.bin", [url], hashes=[SHA256])
        assert (tmp_path / "f.bin").read_bytes() == DATA


OLD, NEW = b"a" * 100_000, b"b" * 100_000
WHOLE = {"Content_Length": len(OLD)}
REST = {"Content_Range": "bytes 65536-99999/100000"}


class TestTheFileOnTheServerChanges:
    """The first answer breaks off after 65,536 bytes of the old file; the new one must arrive whole."""

    @pytest.mark.parametrize(
        ("version", "answers", "if_range"),
        [
            ({"ETag": '"1"'}, [answer("200 OK", NEW, ETag='"2"', **WHOLE)], '"1"'),
            ({"ETag": '"1"'}, [answer("206 Rest", NEW[65536:], ETag='"2"', **REST)], '"1"'),
            ({"ETag": 'W/"1"'}, [answer("206 Rest", NEW[65536:], ETag='W/"2"', **REST)], None),
            ({"Last_Modified": "Mon"}, [answer("206 Rest", NEW[65536:], Last_Modified="Tue", **REST)], "Mon"),
            ({}, [answer("206 Rest", NEW[65536:], Content_Range="bytes 65536-99999/100001")], None),
            ({}, [answer("206 Rest", NEW, Content_Range="bytes 1-100000/100000")], None),
            ({}, [answer("206 Rest", NEW[65536:])], None),
            ({}, [answer("206 All", NEW, Content_Range="bytes 0-99999/100000")], None),
            ({}, [answer("416 No", Content_Range="bytes */5", Content_Length=0)], None),
        ],
    )
    def test_parts_of_two_versions_are_never_joined(self, tmp_path, version, answers, if_range):
        whole = answer("200 OK", NEW, **WHOLE)
        with scripted(answer("200 OK", OLD[:70_000], **WHOLE, **version), *answers, whole) as server:
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert (tmp_path / "f.bin").read_bytes() == NEW
        request = server.requests[1][1]
        assert (request["Range"], request.get("If-Range")) == ("bytes=65536-", if_range)
        assert not list(tmp_path.glob(".*.version"))

    def test_also_between_two_calls(self, tmp_path, monkeypatch):
        monkeypatch.setattr(downloads, "ATTEMPTS", 1)
        with scripted(answer("200 OK", OLD[:70_000], ETag='"1"', **WHOLE)) as server:
            with pytest.raises(UserError, match="1 attempts in a row brought nothing"):
                download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
            server.answers = [answer("200 OK", NEW, ETag='"2"', **WHOLE)]
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert (tmp_path / "f.bin").read_bytes() == NEW and server.requests[1][1]["If-Range"] == '"1"'

    def test_the_same_version_is_continued_even_in_smaller_parts_than_asked_for(self, tmp_path):
        parts = [
            answer("206 A", OLD[:10_000], ETag='"1"', Content_Range="bytes 65536-75535/100000"),
            answer("206 B", OLD[:24_464], Content_Range="bytes 75536-99999/*"),
        ]
        with scripted(answer("200 OK", OLD[:70_000], ETag='"1"', **WHOLE), *parts) as server:
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert (tmp_path / "f.bin").read_bytes() == OLD and len(server.requests) == 3

    def test_a_part_that_was_not_asked_for_is_not_taken_for_the_file(self, tmp_path):
        with scripted(answer("206 Rest", OLD[65536:], **REST), answer("200 OK", NEW, **WHOLE)) as server:
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert (tmp_path / "f.bin").read_bytes() == NEW

    def test_a_server_whose_version_never_stays_is_given_up(self, tmp_path):
        answers = [answer("200 OK", OLD[:70_000], ETag=f'"{n}"', **WHOLE) for n in range(50)]
        with scripted(*answers) as server, pytest.raises(UserError, match="6 attempts in a row brought nothing"):
            download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("answers", "size"),
    [
        ([answer("200 OK", OLD + b"more")], len(OLD)),
        ([answer("200 OK", OLD[:70_000], **WHOLE), answer("206 Rest", OLD[65536:] + b"more", **REST)], None),
    ],
)
def test_more_bytes_than_stated_are_refused_and_not_kept(tmp_path, answers, size):
    with scripted(*answers) as server, pytest.raises(UserError, match="sends more than the 100,000 bytes"):
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"], size)
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob(".*.part"))


class TestCredentials:
    OK = answer("200 OK", b"x", Content_Length=1)

    def test_another_mirror_gets_none(self, tmp_path):
        with scripted(answer("404 None")) as first, scripted(self.OK) as second:
            download(tmp_path / "f.bin", [f"{first.url}/f", f"{second.url}/f"], auth=("me", "secret"))
        assert "Authorization" in first.requests[0][1] and "Authorization" not in second.requests[0][1]

    def test_a_host_that_is_redirected_to_gets_none_nor_those_of_netrc(self, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with scripted(self.OK) as second, scripted(answer("302 There", Location=f"{second.url}/f")) as first:
            download(tmp_path / "f.bin", [f"{first.url}/f"], auth=("me", "secret"))
            download(tmp_path / "g.bin", [f"{first.url}/g"])
        assert ["Authorization" in headers for _, headers in first.requests] == [True, False]
        assert ["Authorization" in headers for _, headers in second.requests] == [False, False]


def soon():
    return formatdate(time.time() + 60, usegmt=True)


class TestRetryAfter:
    def waits(self, tmp_path, monkeypatch, after):
        waits = []
        monkeypatch.setattr(downloads.time, "sleep", waits.append)
        with scripted(answer("503 Busy", Retry_After=after), TestCredentials.OK) as server:
            download(tmp_path / "f.bin", [f"{server.url}/f"])
        return waits

    @pytest.mark.parametrize(("after", "wait"), [("7", 7), ("0", 0), ("Mon, 01 Jan 2001", 0), ("soon", 0)])
    def test_it_is_kept_to(self, tmp_path, monkeypatch, after, wait):
        assert self.waits(tmp_path, monkeypatch, after) == [pytest.approx(wait, abs=0.01)]

    def test_a_date_is_kept_to(self, tmp_path, monkeypatch):
        assert self.waits(tmp_path, monkeypatch, soon()) == [pytest.approx(60, abs=30)]

    @pytest.mark.parametrize("after", ["301", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT"])
    def test_a_server_that_asks_for_more_than_minutes_is_not_asked_again(self, tmp_path, monkeypatch, after):
        with pytest.raises(UserError, match="HTTP 503 Busy, and it asks to wait for more than 300 s"):
            self.waits(tmp_path, monkeypatch, after)


class TestNamedAndNotTriedAgain:
    def reason(self, tmp_path, url):
        with pytest.raises(UserError) as error:
            download(tmp_path / "f.bin", [url])
        assert "attempts" not in str(error.value) and str(error.value).isprintable()
        return str(error.value)

    def test_a_certificate(self, tmp_path):
        files = "-keyout", tmp_path / "key", "-out", tmp_path / "cert"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", *files]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        with scripted(TestCredentials.OK, context=context) as server:
            reason = self.reason(tmp_path, f"{server.url}/f.bin")
        assert "the certificate of 127.0.0.1 is not trusted: self-signed certificate; " in reason
        assert "REQUESTS_CA_BUNDLE" in reason

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_proxy_that_is_not_there(self, tmp_path, monkeypatch, scheme):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        reason = self.reason(tmp_path, f"{scheme}://example.org/f.bin")
        assert "(the proxy fails: " in reason and "Connection refused; HTTPS_PROXY, HTTP_PROXY and NO_PROXY" in reason

    def test_a_proxy_that_wants_a_password(self, tmp_path, monkeypatch):
        with scripted(answer("407 Log in")) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            assert "the proxy fails: Tunnel connection failed: 407" in self.reason(tmp_path, "https://example.org/f")
        assert len(proxy.requests) == 1

    @pytest.mark.parametrize(
        ("made", "reason"),
        [
            (answer("404 \x1b[2Jgone\x9b"), "HTTP 404 \\x1b[2Jgone\\x9b"),
            (answer("302 There", Location="file:///etc/passwd"), "No connection adapters were found"),
            (answer("302 There", Location="/f"), "Exceeded 30 redirects"),
            (answer("200 OK", b"x", Content_Encoding="gzip"), "is sent as gzip, which was not asked for"),
            (answer("204 Nothing"), "HTTP 204 Nothing"),
        ],
    )
    def test_what_a_server_says(self, tmp_path, made, reason):
        with scripted(made) as server:
            assert reason in self.reason(tmp_path, f"{server.url}/f")


def test_two_at_once_load_it_once(server, tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: download(tmp_path / "f.bin", [f"{server.url}/f.bin?slow"]), range(3)))
    assert len(server.requests) == 1 and (tmp_path / "f.bin").read_bytes() == DATA


def command(path, url):
    code = f"download(Path({str(path)!r}), [{url!r}])"
    code = f"from pathlib import Path; from centerclip.data.download.http import download; {code}"
    return [sys.executable, "-c", code]


def test_killed_in_the_middle_it_goes_on(server, tmp_path):
    url = f"{server.url}/f.bin?slow"
    process = subprocess.Popen(command(tmp_path / "f.bin", url), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    while not any(part.stat().st_size for part in tmp_path.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "f.bin").exists()
    subprocess.run(command(tmp_path / "f.bin", url), cwd=REPOSITORY, check=True, capture_output=True)
    assert (tmp_path / "f.bin").read_bytes() == DATA
    assert len(server.requests) == 2 and ranges(server)[1] is not None


def test_a_quota_is_told_and_what_came_is_kept(server, tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))  # noqa: E731
    done = subprocess.run(
        command(tmp_path / "f.bin", f"{server.url}/f.bin"),
        cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=limit,
    )  # fmt: skip
    assert "DiskFull" in done.stderr and "disk full after 1,500,000 bytes, which are kept" in done.stderr
    download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=[SHA256])
    assert ranges(server) == [None, "bytes=1500000-"]


def test_a_full_disk_is_told_before_anything_is_loaded(server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        with pytest.raises(DiskFull, match=r"3,000,000 bytes are still to come and the disk has 1,0\d\d,\d\d\d free"):
            download(disk / "f.bin", [f"{server.url}/f.bin"])
        assert not list(disk.glob("*.bin"))
    finally:
        subprocess.run(["umount", disk], check=True)
