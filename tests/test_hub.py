"""The reader of the Hub's data sets, from the Hub's cache and from a hub on loopback."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet
from support.server import Handler, in_a_thread

from centerclip.command import UserError
from centerclip.data.datasets import hub
from centerclip.data.datasets.manifest import check_manifest

COMMIT = "0123456789" * 4
SETTINGS = {"reader": "hub", "repository": "org/set", "revision": COMMIT, "files": {"test": "data/test-*.parquet"}}


def shard(**columns) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def videos(*cells) -> pyarrow.Array:
    """A column of structs (bytes, path), as the library `datasets` writes videos."""
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    return pyarrow.array([dict(zip(("bytes", "path"), cell, strict=True)) for cell in cells], kind)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A function that puts files into the Hub's cache and makes their manifest offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def manifest(content: dict[str, bytes], **settings):
        for name, data in content.items():
            path = tmp_path / "cache/datasets--org--set/snapshots" / COMMIT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        settings, source = SETTINGS | settings, tmp_path / "results/set/source"
        hub.fetch(settings, source)
        rows = hub.manifest(settings, source)
        check_manifest(rows, "set")
        assert not list(source.parent.parent.rglob("*.parquet"))  # none is copied out of the cache
        return rows

    return manifest


def read(rows) -> list[tuple[str, bytes, str]]:
    """For each row of a manifest, in order: the split, the video's bytes, the caption."""
    return [(row.split, Path(row.path).read_bytes(), row.caption) for row in rows.itertuples()]


def test_captions_are_a_string_or_a_list_and_equal_videos_are_one(cached):
    first = shard(video=videos((b"A", "a.webm"), (b"B", None)), caption=["one", None], sound=[b"x", b"y"])
    second = shard(video=videos((b"A", "../../a.mp4")), caption=["two"])
    lists = shard(video=videos((b"C", "/etc/c")), caption=[["three", "", "four"]])
    rows = cached(
        {"data/test-0.parquet": first, "data/test-1.parquet": second, "data/train-0.parquet": lists},
        files={"train": "data/train-*", "test": "data/test-*.parquet"},
    )
    assert read(rows) == [
        ("train", b"C", "three"), ("train", b"C", "four"),
        ("test", b"A", "one"), ("test", b"B", ""), ("test", b"A", "two"),
    ]  # fmt: skip
    assert rows["video_id"].nunique() == 3
    assert {Path(path).suffix for path in rows["path"]} <= {".webm", ".mp4"}


@pytest.mark.parametrize(
    "column",
    [
        [b"A", b"B"],
        videos((b"A", None), (None, "clips/b.mp4")),
        ["clips/a.mp4", f"hf://datasets/org/set@{COMMIT}/clips/b.mp4"],
        ["clips/a.mp4", "b.avi"],  # beside the parquet file
    ],
)
def test_video_is_bytes_or_a_path_in_the_repository(cached, column):
    files = {"clips/a.mp4": b"A", "clips/b.mp4": b"B", "data/b.avi": b"B"}
    rows = cached(files | {"data/test-0.parquet": shard(video=column, caption=["one", "two"])})
    assert read(rows) == [("test", b"A", "one"), ("test", b"B", "two")]


def test_config_names_columns_and_another_caption_needs_no_download(cached, tmp_path):
    columns = {"video": "clip", "caption": "short"}
    content = shard(clip=videos((b"A", None)), short=["one"], long=["one and two"])
    assert read(cached({"data/test-0.parquet": content}, columns=columns)) == [("test", b"A", "one")]
    os.truncate(next((tmp_path / "cache").rglob("*.parquet")), 0)
    assert read(cached({}, columns=columns | {"caption": "long"})) == [("test", b"A", "one and two")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (shard(clip=[b"A"], caption=["a"]), r"no column 'video' for video; it has clip, caption"),
        (shard(video=[7], caption=["a"]), r"test-0.parquet, row 0: no bytes of a video, and its path ''"),
        (shard(video=[b"A"], text=["a"]), r"no column 'caption' for caption; it has text \(`columns` in the config"),
        (shard(video=[b"A"], caption=[3]), r"org/set: no column 'caption' for caption; it has none \("),
        (shard(video=[b"A", None], caption=["a", "b"]), r"test-0.parquet, row 1: no bytes of a video, and its path ''"),
        (shard(video=["../../x.mp4"], caption=["a"]), r"row 0: no bytes .* '../../x.mp4' is not a file of the repos"),
        (shard(video=[b"A"], caption=["a"])[:-9], r"test-0.parquet: not a whole parquet file: "),
    ],
)
def test_unsuitable_file_is_one_line(cached, tmp_path, content, line):
    with pytest.raises(UserError, match=line) as error:
        cached({"data/test-0.parquet": content})
    assert "\n" not in str(error.value) and not (tmp_path / "results/set/source").exists()


def test_glob_without_files_and_missing_repository_are_one_line(cached):
    with pytest.raises(UserError, match=r"org/set: LocalEntryNotFoundError: .*; try again"):
        cached({})
    with pytest.raises(UserError, match=r"org/set: no file 'x-\*'; it has README.md"):
        cached({"README.md": b"of ours"}, files={"test": "x-*"})


class Hub(Handler):
    """Answers as the Hub does. An answer of more than 200 kB stops there until `server.goes_on`."""

    def do_GET(self):
        if self.path.startswith(f"/api/datasets/org/set/tree/{COMMIT}"):
            self.server.requests.append((self.path, None, self.headers["Authorization"]))
            if self.server.tree is None:
                return self.answer(401, b"{}", {"X-Error-Code": "GatedRepo"})
            return self.answer(200, json.dumps(self.server.tree).encode(), {"Content-Type": "application/json"})
        super().do_GET()

    def answer(self, status, data, headers, how=None, count=1):
        if self.server.goes_on.is_set() or len(data) < 200_000:
            return super().answer(status, data, headers, how, count)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:200_000])
        self.server.goes_on.wait()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A hub on loopback with a small and a large parquet file, and a `command` that fetches them."""
    noise = os.urandom(300_000)
    files = {
        "data/test-00000-of-00002.parquet": shard(video=videos((b"A", "a.mp4")), caption=["one"]),
        "data/test-00001-of-00002.parquet": shard(video=videos((noise, "b.mp4")), caption=["two"]),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {f"/datasets/org/set/resolve/{COMMIT}/{name}": content for name, content in files.items()}
    server.tree = [
        {"type": "file", "path": name, "size": len(content), "oid": "0" * 40,
         "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}}
        for name, content in files.items()
    ]  # fmt: skip
    server.requests, server.lock, server.goes_on = [], threading.Lock(), threading.Event()
    (tmp_path / "results/set").mkdir(parents=True)
    block = {"benchmark": "set", "dataset": "set", "source": SETTINGS}
    (tmp_path / "results/set/benchmark.json").write_text(json.dumps(block))
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_mine"}
    server.command = {
        "args": [sys.executable, "-m", "centerclip", "fetch", "results/set/benchmark.json"],
        **{"cwd": tmp_path, "env": environment, "stderr": subprocess.PIPE, "text": True},
    }
    server.handle_error = lambda *_: None  # a client that is killed
    server.source, server.noise = tmp_path / "results/set/source", noise
    with in_a_thread(server):
        yield server


@pytest.mark.slow
def test_killed_fetch_continues_and_leaves_one_copy(place):
    results, part = place.source.parent.parent, []
    with subprocess.Popen(**place.command) as killed:
        while not (part and part[0].stat().st_size > 100_000):
            assert killed.poll() is None
            time.sleep(0.01)
            part = [*results.rglob(".test-00001-of-00002.parquet.*.part")]
        killed.kill()
    place.goes_on.set()
    have, asked = part[0].stat().st_size, len(place.requests)
    assert not place.source.exists()
    subprocess.run(**place.command, check=True)
    asked_again = [(path.rpartition("/")[2], first) for path, first, _ in place.requests[asked:] if "resolve" in path]
    assert asked_again == [("test-00001-of-00002.parquet", f"bytes={have}-")]
    assert {token for path, _, token in place.requests if "org/set" in path} == {"Bearer hf_mine"}
    assert read(hub.manifest(SETTINGS, place.source)) == [("test", b"A", "one"), ("test", place.noise, "two")]
    assert not list(results.rglob("*.parquet")) and not list(results.rglob("*.part"))


def test_file_with_another_hash_is_deleted(place):
    place.tree[0]["lfs"]["oid"] = "f" * 64
    with pytest.raises(UserError, match=r"test-00000-of-00002.parquet \(is sha256:\w+, expected sha256:f+"):
        hub.fetch(SETTINGS, place.source)
    assert not place.source.exists() and not list(place.source.parent.parent.rglob("*.parquet"))


def test_gated_repository_says_what_to_do(place):
    place.tree = None
    with pytest.raises(UserError, match=r"GatedRepoError: .* if it is gated, accept its terms on its page and set HF_"):
        hub.fetch(SETTINGS, place.source)
