"""Archives are unpacked all or nothing, and never outside their directory."""

import io
import os
import stat
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from centerclip.command import UserError
from centerclip.data.download import archives
from centerclip.data.download.archives import unpack

LINK, HARD_LINK = tarfile.SYMTYPE, tarfile.LNKTYPE
FILES = {"a.txt": b"a" * 10, "d/b.txt": b"b" * 100_000}


def make_tar(path, members=(), mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in members:
            tar.addfile(member)
    return path


def make_zip(path, members=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in FILES.items():
            file.writestr(name, data)
        for name, mode, data in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            file.writestr(member, data)
    return path


def tar_member(name, kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar_is_unpacked_over_remains_of_a_killed_process(tmp_path, mode):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp/half.txt").touch()
    unpack([make_tar(tmp_path / "x.tar", mode=mode)], tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    ("make", "link"),
    [(make_zip, ("d/l", stat.S_IFLNK, "/etc/passwd")), (make_tar, tar_member("d/l", LINK, "/etc/passwd"))],
)
def test_symbolic_links_are_left_out_and_counted(tmp_path, make, link, capsys):
    unpack([make(tmp_path / "x", [link])], tmp_path / "out")
    assert contents(tmp_path / "out") == FILES and not os.path.lexists(tmp_path / "out/d/l")
    assert "x: 1 symbolic links left out" in capsys.readouterr().out


def test_hard_links_stay_links_and_permissions_are_usual_ones(tmp_path):
    loud, out = tar_member("d/loud"), tmp_path / "out"
    loud.mode = 0o7777
    hard = [tar_member("h2", HARD_LINK, "a.txt"), tar_member("h3", HARD_LINK, "h2")]
    unpack([make_tar(tmp_path / "x.tar", [tar_member("./", tarfile.DIRTYPE), *hard, loud])], out)
    assert (out / "h3").samefile(out / "a.txt")
    assert stat.S_IMODE((out / "d/loud").stat().st_mode) & 0o7133 == 0


@pytest.mark.parametrize(("mode", "size"), [("w", 1000), ("w", 4096), ("w", 200_000), ("w:gz", 100)])
def test_tar_in_parts_is_unpacked(tmp_path, mode, size):
    data = make_tar(tmp_path / "x.tar", mode=mode).read_bytes()
    parts = [tmp_path / f"x.tar.part-{start:08d}" for start in range(0, len(data), size)]
    for number, part in enumerate(parts):
        part.write_bytes(data[number * size :][:size])
    unpack(parts, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_existing_directory_stays(tmp_path):
    (tmp_path / "out").mkdir()
    unpack([tmp_path / "not even there.zip"], tmp_path / "out")


def refused(paths, tmp_path):
    """The message of a failed `unpack`, which leaves nothing."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        unpack(paths, tmp_path / "deep/er/out")
    assert "\n" not in str(error.value)
    left = [path for path in tmp_path.rglob("*") if path not in before and path.suffix != ".lock"]
    assert sorted(path.name for path in left) == ["deep", "er"]
    return str(error.value)


OUT, TAKEN = "leads out of the archive", "another member takes its place"


@pytest.mark.parametrize(
    ("make", "members", "reason"),
    [
        (make_tar, [tar_member("../evil")], f"'../evil': {OUT}"),
        (make_tar, [tar_member("l", LINK, ".."), tar_member("h", HARD_LINK, "l/precious")], "'h': cannot be unpacked"),
        (make_tar, [tar_member("l", HARD_LINK, "../evil")], f"'l': {OUT}"),
        (make_tar, [tar_member("l", HARD_LINK, "d")], "'l': cannot be unpacked"),
        (make_tar, [tar_member("l", HARD_LINK, "s"), tar_member("s", LINK, "d")], "'l': cannot be unpacked"),
        (make_tar, [tar_member("l", HARD_LINK, "a.txt"), tar_member("l")], f"'l': {TAKEN}"),
        (make_tar, [tar_member("a.txt")], f"'a.txt': {TAKEN}"),
        (make_tar, [tar_member("a.txt/c.txt")], f"'a.txt/c.txt': {TAKEN}"),
        (make_tar, [tar_member("d")], f"'d': {TAKEN}"),
        (make_tar, [tar_member("n" * 300)], f"'{'n' * 100}': cannot be unpacked: File name too long"),
        (make_tar, [tar_member("null", tarfile.CHRTYPE)], "'null': a device or pipe"),
        (make_tar, [tar_member("\033[2J\nok", tarfile.FIFOTYPE)], r"'\x1b[2J\nok': a device or pipe"),
        (make_zip, [("d/../../evil", 0, "x")], f"'d/../../evil': {OUT}"),
        (make_zip, [("d\\..\\..\\evil", 0, "x")], f"'d/../../evil': {OUT}"),
        (make_zip, [("/evil", 0, "x")], f"'/evil': {OUT}"),
        (make_zip, [("null", stat.S_IFCHR, "")], "'null': a device or pipe"),
        (make_zip, [("", 0, "x")], "'': a file without a name"),
        (make_zip, [("./", 0, ""), (".", 0, "")], "'.': a file without a name"),
        (make_zip, [("A.txt", 0, ""), ("./A.txt", 0, "")], f"'./A.txt': {TAKEN}"),
        (make_zip, [("a.txt/b", 0, "")], f"'a.txt/b': {TAKEN}"),
    ],
)
def test_refused_member_is_named(tmp_path, make, members, reason):
    assert f"x: {reason}" in refused([make(tmp_path / "x", members)], tmp_path)


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("keep", [0.5, 0.02, 0])
def test_truncated_archive_is_an_error(tmp_path, make, keep):
    path = make(tmp_path / "x")
    os.truncate(path, int(keep * path.stat().st_size))
    assert "x: " in refused([path], tmp_path)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_more_bytes_than_the_free_disk_are_refused(tmp_path, make, monkeypatch):
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    assert "bytes, but the disk has 50,000 free" in refused([make(tmp_path / "x")], tmp_path)


def test_zip_with_more_bytes_than_declared_is_an_error(tmp_path):
    path = make_zip(tmp_path / "x")
    data = path.read_bytes().replace((100_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    path.write_bytes(data)
    assert "Bad CRC-32" in refused([path], tmp_path)


PATHS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "out", ".out.tmp", "/precious"]), max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, LINK, LINK, HARD_LINK])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(tar_member, PATHS, KINDS, PATHS), max_size=6))
def test_no_tar_changes_anything_outside_or_leaves_a_link_to_it(members):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        out, precious = place / "deep/out", place / "precious"
        precious.write_bytes(b"old")
        with suppress(UserError):
            unpack([make_tar(place / "x", members)], out)
        assert {path.name for path in place.iterdir()} <= {"precious", "x", "deep"}
        assert {path.name for path in out.parent.iterdir()} <= {"out", ".out.lock"}
        assert precious.read_bytes() == b"old" and precious.stat().st_nlink == 1
        for path in out.rglob("*"):
            assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([make_tar, make_zip]), st.data())
def test_damaged_archive_is_one_line_or_is_unpacked(make, data):
    with tempfile.TemporaryDirectory() as place:
        path = make(Path(place) / "x")
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged[data.draw(st.integers(0, 99)) :])
        try:
            unpack([path], Path(place) / "out")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            assert not (Path(place) / "out").exists()
