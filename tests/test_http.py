"""Downloads against a real server on loopback that fails in every way the internet does."""

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import REPOSITORY
from support.server import serving

from centerclip.command import UserError
from centerclip.download import http as downloads
from centerclip.download.http import DiskFull, download

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


def test_two_at_once_load_it_once(server, tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: download(tmp_path / "f.bin", [f"{server.url}/f.bin?slow"]), range(3)))
    assert len(server.requests) == 1 and (tmp_path / "f.bin").read_bytes() == DATA


def command(path, url):
    code = f"download(Path({str(path)!r}), [{url!r}])"
    code = f"from pathlib import Path; from centerclip.download.http import download; {code}"
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
