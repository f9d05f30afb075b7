"""Downloads from a real server on loopback that fails in many ways."""

import hashlib
import io
import signal
import ssl
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import REPOSITORY
from support.server import answer, scripted, serving

from centerclip.command import UserError
from centerclip.data.download import http as downloads
from centerclip.data.download.http import download

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


def refused(path, urls, **options):
    """The line of a download that fails and leaves no file."""
    with pytest.raises(UserError) as error:
        download(path, urls, **options)
    assert str(error.value).isprintable() and not path.exists()
    return str(error.value)


def part_of(path, url):
    return path.with_name(f".{path.name}.{hashlib.sha1(url.encode()).hexdigest()[:8]}.part")


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
def test_download_survives_a_server_that_fails_for_a_while(server, tmp_path, query, requests):
    download(tmp_path / "d/f.bin", [f"{server.url}/f.bin{query}"], len(DATA), [SHA256])
    assert (tmp_path / "d/f.bin").read_bytes() == DATA
    assert ranges(server) == requests
    assert not list(tmp_path.rglob("*.part"))


def test_existing_file_is_not_downloaded(server, tmp_path):
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
        ("/f.bin?status=503", [SHA256], "HTTP 503"),
        ("/f.bin", ["sha256:1234"], f"is {SHA256}, expected sha256:1234"),
        ("/f.zip", [], "is not a whole archive"),
    ],
)
def test_wrong_file_is_refused(server, tmp_path, path, hashes, reason):
    assert reason in refused(tmp_path / path.strip("/").split("?")[0], [server.url + path], hashes=hashes)


def test_wrong_size_is_refused_before_the_download(server, tmp_path):
    assert "3,000,000 bytes, expected 5" in refused(tmp_path / "f.bin", [f"{server.url}/f.bin"], size=5)
    assert not list(tmp_path.glob("*.part"))


def test_the_message_names_each_mirror_once_and_what_to_do(tmp_path):
    url = "http://127.0.0.1:9/f.bin"
    line = refused(tmp_path / "f.bin", [url])
    assert line.startswith(f"f.bin: could not be downloaded: {url} (127.0.0.1 cannot be reached: [Errno 111] ")
    assert line.count(url) == 1 and "name a local copy" in line


def test_one_matching_hash_is_enough_and_may_be_a_git_blob_id(server, tmp_path):
    blob = subprocess.run(["git", "hash-object", "--stdin"], input=DATA, capture_output=True, check=True)
    hashes = ["sha256:1234", "git:" + blob.stdout.decode().strip()]
    download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=hashes)
    assert (tmp_path / "f.bin").exists()


@pytest.mark.parametrize("first", ["/gone.bin", "/f.bin?html", "/other.bin", "/f.bin?status=500", "/short.bin?cut=5"])
def test_next_mirror_gives_the_whole_file(server, tmp_path, first):
    server.files["/short.bin"] = DATA[::-1][:10]
    download(tmp_path / "f.bin", [server.url + first, f"{server.url}/f.bin"], hashes=[SHA256])
    assert (tmp_path / "f.bin").read_bytes() == DATA


def test_parts_of_other_mirrors_are_deleted_after_the_download(server, tmp_path):
    part_of(tmp_path / "f.bin", "other").write_bytes(DATA[:9])
    download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=[SHA256])
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["f.bin"]


@pytest.mark.parametrize("begun", [b"x" * 1000, DATA + b"more"])
@pytest.mark.parametrize("recorded", ['{"total": null, "ETag": null, "Last-Modified": null}', '{"total"', "5", None])
def test_wrong_part_on_the_disk_is_downloaded_again(server, tmp_path, begun, recorded):
    part = part_of(tmp_path / "f.bin", f"{server.url}/f.bin")
    part.write_bytes(begun)
    if recorded:
        part.with_suffix(".version").write_text(recorded)
    download(tmp_path / "f.bin", [f"{server.url}/f.bin"], hashes=[SHA256])
    assert (tmp_path / "f.bin").read_bytes() == DATA


OLD, NEW = b"a" * 100_000, b"b" * 100_000
WHOLE = {"Content_Length": len(OLD)}
REST = {"Content_Range": "bytes 65536-99999/100000"}


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
def test_parts_of_two_versions_are_never_joined(tmp_path, version, answers, if_range):
    """The first answer breaks off after 65,536 bytes of the old file; the new one must arrive whole."""
    whole = answer("200 OK", NEW, **WHOLE)
    with scripted(answer("200 OK", OLD[:70_000], **WHOLE, **version), *answers, whole) as server:
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
    assert (tmp_path / "f.bin").read_bytes() == NEW
    request = server.requests[1][1]
    assert (request["Range"], request.get("If-Range")) == ("bytes=65536-", if_range)
    assert not list(tmp_path.glob(".*.version"))


def test_same_version_continues_even_in_small_parts(tmp_path):
    parts = [
        answer("206 A", OLD[:10_000], ETag='"1"', Content_Range="bytes 65536-75535/100000"),
        answer("206 B", OLD[:24_464], Content_Range="bytes 75536-99999/*"),
    ]
    with scripted(answer("200 OK", OLD[:70_000], ETag='"1"', **WHOLE), *parts) as server:
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
    assert (tmp_path / "f.bin").read_bytes() == OLD and len(server.requests) == 3


@pytest.mark.parametrize(
    ("answers", "size"),
    [
        ([answer("200 OK", OLD + b"more")], len(OLD)),
        ([answer("200 OK", OLD[:70_000], **WHOLE), answer("206 Rest", OLD[65536:] + b"more", **REST)], None),
    ],
)
def test_more_bytes_than_expected_are_refused_and_deleted(tmp_path, answers, size):
    with scripted(*answers) as server:
        line = refused(tmp_path / "f.bin", [f"{server.url}/f.bin"], size=size)
    assert "sends more than the expected 100,000 bytes" in line and not list(tmp_path.glob(".*.part"))


OK = answer("200 OK", b"x", Content_Length=1)


def logins(server):
    return [headers.get("Authorization") for _, headers in server.requests]


def test_mirror_on_another_server_gets_no_credentials(tmp_path, capsys):
    with scripted(answer("404 None")) as first, scripted(OK) as second:
        download(tmp_path / "f.bin", [f"{first.url}/f", f"{second.url}/f"], auth=("me", "secret"))
    assert logins(first) == ["Basic bWU6c2VjcmV0"] and logins(second) == [None]
    assert "secret" not in capsys.readouterr().err


def test_redirect_to_another_host_gets_no_credentials_not_even_from_netrc(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with scripted(OK) as second, scripted(answer("302 There", Location=f"{second.url}/f")) as first:
        download(tmp_path / "f.bin", [f"{first.url}/f"], auth=("me", "secret"))
        download(tmp_path / "g.bin", [f"{first.url}/g"])
    assert logins(first) == ["Basic bWU6c2VjcmV0", None] and logins(second) == [None, None]


@pytest.mark.parametrize(
    ("after", "expected"), [("7", [7]), ("301", [300]), ("Fri, 01 Jan 2100 00:00:00 GMT", [300]), ("soon", [])]
)
def test_retry_after_is_respected_up_to_a_limit(tmp_path, monkeypatch, after, expected):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    with scripted(answer("503 Busy", Retry_After=after), OK) as server:
        download(tmp_path / "f.bin", [f"{server.url}/f"])
    assert waits == expected


def test_untrusted_certificate_is_named_at_once(tmp_path):
    files = "-keyout", tmp_path / "key", "-out", tmp_path / "cert"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with scripted(OK, context=context) as server:
        line = refused(tmp_path / "f.bin", [f"{server.url}/f.bin"])
    assert "the certificate of 127.0.0.1 is not trusted: self-signed certificate; " in line
    assert "REQUESTS_CA_BUNDLE" in line and "attempts" not in line


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unreachable_proxy_is_named(tmp_path, monkeypatch, scheme):
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    line = refused(tmp_path / "f.bin", [f"{scheme}://example.org/f.bin"])
    assert "(the proxy fails: " in line and "Connection refused; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY" in line


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (answer("404 \x1b[2Jgone\x9b"), "HTTP 404 \\x1b[2Jgone\\x9b"),
        (answer("302 There", Location="file:///etc/passwd"), "No connection adapters were found"),
        (answer("302 There", Location="/f"), "Exceeded 30 redirects"),
        (answer("204 Nothing"), "HTTP 204 Nothing"),
    ],
)
def test_refusal_of_a_server_is_shown_escaped_and_at_once(tmp_path, made, reason):
    with scripted(made) as server:
        line = refused(tmp_path / "f.bin", [f"{server.url}/f"])
    assert reason in line and "attempts" not in line


def test_two_processes_download_a_file_once(server, tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: download(tmp_path / "f.bin", [f"{server.url}/f.bin?slow"]), range(3)))
    assert len(server.requests) == 1 and (tmp_path / "f.bin").read_bytes() == DATA


def command(path, url):
    code = f"download(Path({str(path)!r}), [{url!r}])"
    code = f"from pathlib import Path; from centerclip.data.download.http import download; {code}"
    return [sys.executable, "-c", code]


def test_killed_download_continues(server, tmp_path):
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


def test_full_disk_is_an_error_before_the_download(server, tmp_path, monkeypatch):
    usage = downloads.shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"3,000,000 bytes are missing, but the disk has only 1,000,000 free.*f.bin"):
        download(tmp_path / "f.bin", [f"{server.url}/f.bin"])
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob(".*.part"))
