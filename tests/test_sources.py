"""The table of sources, and fetching files by it: downloads, archives, local copies, single videos."""

import hashlib
import io
import zipfile

import pytest
from support.server import serving

from centerclip.command import UserError
from centerclip.data.download import sources
from centerclip.data.download.sources import fetch, needs, read_table, wanted, wishes

COLUMNS = "dataset,file,inside,url,mirrors,bytes,hashes,credentials,seen,licence"


def test_every_row_of_the_table_is_complete():
    for dataset, files in read_table().items():
        for name, source in files.items():
            assert source.inside or source.urls, (dataset, name)
            assert all(url.startswith("https://") for url in source.urls)
            assert source.licence or not source.urls


def test_setting_of_a_local_copy():
    assert read_table()["clip"]["ViT-B-32.pt"].setting == "weights: {ViT-B-32: path/to/ViT-B-32.pt}"
    assert read_table()["msvd"]["videos"].setting == "source.local"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{COLUMNS}\na,b,,https://x/b,,,,,,\na,c\n", ", line 3: inside: is missing"),
        (f"{COLUMNS}\na,b,,https://x/b,,many,,,,\n", ", line 2: bytes: 'many' is not a number"),
        (f"{COLUMNS}\na,b,,https://x/b,,,md5:12,,,\n", ", line 2: hashes: 'md5:12' is not sha256:... or git:"),
        (f"{COLUMNS}\na,b,,https://x/{{0}},,,,,,\n", ", line 2: url: 'https://x/{0}' is not a url"),
        (f"{COLUMNS}\na,../b,,https://x/b,,,,,,\n", ", line 2: file: '../b' is not a name"),
        (f"{COLUMNS}\na,b,c.zip,,,,,,,\n", ": b: inside: 'c.zip' is not an archive of a"),
        (f"{COLUMNS}\na,\udcff,,https://x/b,,,,,,\n", ": not a csv: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(tmp_path, text, reason):
    (tmp_path / "table.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "table.csv")
    assert str(error.value).startswith(f"{tmp_path}/table.csv{reason}") and "\n" not in str(error.value)


def test_missing_credentials_and_local_copies_are_named(monkeypatch):
    monkeypatch.delenv("LSMDC_USER", raising=False)
    monkeypatch.setenv("LSMDC_PASSWORD", "secret")
    (line,) = needs("lsmdc", {})
    assert line.startswith("set LSMDC_USER, or name local copies, for LSMDC16_annos_training.csv, ")
    assert "https://sites.google.com" in line and "secret" not in line
    everything = dict.fromkeys(wanted(read_table()["lsmdc"]), __file__) | {"videos": "/"}
    assert needs("lsmdc", everything) == []
    assert needs("msvd", {}) == []
    assert needs("msvd", {"videos": "nowhere"}) == ["videos: no such local copy: nowhere"]
    assert needs("msvd", {"videos": __file__}) == [
        f"videos: not a directory: {__file__}; name an archive as YouTubeClips.tar"
    ]
    assert needs("msvd", {"YouTubeClips.tar": "/"}) == ["YouTubeClips.tar: not a file: /"]
    assert needs("msvd", {"video": "/"})[0].startswith("video: not a file of the dataset, which has videos, raw-")
    lines = wishes("mine", {"reader": "lsmdc"})
    assert len(lines) == 2 and lines[0].startswith("mine: set LSMDC_USER") and "mine.source.local" in lines[1]
    assert wishes("shapes", {"reader": "shapes"}) == wishes("msvd", {"reader": "msvd"}) == []


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A server, and a table of two datasets on it: `packed` in archives, `single` a file a video with credentials."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("data/list.txt", "one\ntwo\n")
    listed = hashlib.sha256(b"one\ntwo\n").hexdigest()
    with serving(
        {
            "/data.zip": packed.getvalue(),
            "/names.txt": b"m/a.avi\nm/b.avi\n", "/avi/m/a.avi": b"A", "/mp4/b.mp4": b"B",
        }
    ) as server:  # fmt: skip
        (tmp_path / "sources.csv").write_text(
            f"{COLUMNS}\n"
            f"packed,list.txt,data.zip,,,,sha256:{listed},,,\n"
            f"packed,data.zip,,{server.url}/gone.zip,{server.url}/data.zip,,,,,\n"
            f"packed,videos,videos.zip,,,,,,,\n"
            f"packed,videos.zip,,{server.url}/data.zip,,,,,,\n"
            f"single,names.txt,,{server.url}/names.txt,,,,KEY,,ask\n"
            f"single,videos,,{server.url}/avi/{{name}},{server.url}/mp4/{{stem}}.mp4,,,KEY,,ask\n"
        )
        table = read_table(tmp_path / "sources.csv")
        monkeypatch.setattr(sources, "read_table", lambda: table)
        monkeypatch.setenv("KEY_USER", "me")
        monkeypatch.setenv("KEY_PASSWORD", "secret")
        server.out = tmp_path / "results/mine/source"
        yield server


def names(source):
    return (source / "names.txt").read_text().split()


def test_archives_are_unpacked_and_linked(place):
    fetch({"reader": "packed"}, place.out, None)
    assert sorted(path.name for path in place.out.iterdir()) == ["list.txt", "videos"]
    assert (place.out / "list.txt").read_text() == "one\ntwo\n"
    assert (place.out / "videos/data/list.txt").is_file()


def test_fetched_files_are_not_requested_again(place):
    fetch({"reader": "packed"}, place.out, None)
    before = len(place.requests)
    fetch({"reader": "packed"}, place.out, None)
    fetch({"reader": "packed"}, place.out.parent.parent / "other/source", None)
    assert len(place.requests) == before


def test_local_copies_are_preferred_and_verified(place, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own.txt").write_text("one\ntwo\n")
    local = {"list.txt": str(tmp_path / "own.txt"), "videos": str(tmp_path / "own")}
    fetch({"reader": "packed", "local": local}, place.out, None)
    assert not place.requests and (place.out / "list.txt").resolve() == tmp_path / "own.txt"
    (tmp_path / "own.txt").write_text("three\n")
    with pytest.raises(UserError, match=r"list.txt: .*own.txt is sha256:\w+, expected sha256:\w+"):
        fetch({"reader": "packed", "local": local}, place.out, None)
    assert (place.out / "videos").is_dir()  # the earlier result stays


def test_local_archive_is_unpacked(place, tmp_path):
    (tmp_path / "own.zip").write_bytes(place.files["/data.zip"])
    fetch({"reader": "packed", "local": {"data.zip": str(tmp_path / "own.zip"), "videos": "/"}}, place.out, None)
    assert not place.requests and (place.out / "list.txt").read_text() == "one\ntwo\n"


def test_replaced_local_archive_is_unpacked_again(place, tmp_path):
    local = {"data.zip": str(tmp_path / "own.zip"), "videos": "/"}
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as file:
        file.writestr("other.txt", "of another data set")
    with pytest.raises(UserError, match=r"data.zip: it has no list.txt"):
        fetch({"reader": "packed", "local": local}, place.out, None)
    (tmp_path / "own.zip").write_bytes(place.files["/data.zip"])
    fetch({"reader": "packed", "local": local}, place.out, None)
    assert (place.out / "list.txt").read_text() == "one\ntwo\n"


def test_single_videos_come_from_a_mirror_that_has_them(place):
    fetch({"reader": "single"}, place.out, names)
    assert (place.out / "videos/m/a.avi").read_bytes() == b"A"
    assert (place.out / "videos/m/b.avi").read_bytes() == b"B"
    assert all(authorization for _, _, authorization in place.requests)
    kept = [path for path in place.out.parent.parent.rglob("*") if path.is_file()]
    assert kept and not any(b"secret" in path.read_bytes() for path in kept)


def test_without_credentials_nothing_is_requested(place, monkeypatch):
    monkeypatch.delenv("KEY_USER", raising=False)
    monkeypatch.delenv("KEY_PASSWORD", raising=False)
    with pytest.raises(UserError, match="single: set KEY_USER and KEY_PASSWORD, or name local copies, for names"):
        fetch({"reader": "single"}, place.out, names)
    assert not place.requests and not place.out.exists()


@pytest.mark.parametrize(
    ("listed", "line"),
    [
        (b"m/a.avi\nm/c.avi\n", "1 of 2 videos could not be downloaded"),
        (b"../../a.avi\n", "leads out of its directory"),
    ],
)
def test_too_many_failed_videos_are_an_error(place, listed, line):
    place.files["/names.txt"] = listed
    with pytest.raises(UserError, match=line):
        fetch({"reader": "single"}, place.out, names)
    assert not place.out.exists()
