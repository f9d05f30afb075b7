"""Archives are unpacked whole or not at all, and never outside their directory."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from centerclip.command import UserError
from centerclip.data.download import archives
from centerclip.data.download.archives import unpack

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
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


class TestWhole:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
    def test_tar(self, tmp_path, mode):
        unpack([make_tar(tmp_path / "x.tar", mode=mode)], tmp_path / "out")
        assert contents(tmp_path / "out") == FILES

    def test_zip(self, tmp_path):
        unpack([make_zip(tmp_path / "x.zip", [("link", stat.S_IFLNK | 0o777, "a.txt")])], tmp_path / "out")
        assert contents(tmp_path / "out") == FILES

    def test_links_inside_a_tar_stay_links_and_permissions_are_usual_ones(self, tmp_path):
        loud = tar_member("d/loud")
        loud.mode = 0o7777
        links = [tar_member("d/up", tarfile.SYMTYPE, ".././d/../a.txt"), tar_member("e/dir", tarfile.SYMTYPE, "../d")]
        hard = [tar_member("h2", tarfile.LNKTYPE, "a.txt"), tar_member("h3", tarfile.LNKTYPE, "h2")]
        root = tar_member("./", tarfile.DIRTYPE)
        unpack([make_tar(tmp_path / "x.tar", [root, *links, *hard, loud])], tmp_path / "out")
        out = tmp_path / "out"
        assert os.readlink(out / "d/up") == "../a.txt" and (out / "d/up").read_bytes() == FILES["a.txt"]
        assert os.readlink(out / "e/dir") == "../d" and (out / "e/dir/b.txt").read_bytes() == FILES["d/b.txt"]
        assert (out / "h3").samefile(out / "a.txt")
        assert stat.S_IMODE((out / "d/loud").stat().st_mode) & 0o7133 == 0

    @pytest.mark.parametrize("size", [1000, 4096, 200_000])
    def test_a_tar_in_parts(self, tmp_path, size):
        data = make_tar(tmp_path / "x.tar").read_bytes()
        parts = []
        for start in range(0, len(data), size):
            parts.append(tmp_path / f"x.tar.part-{start:08d}")
            parts[-1].write_bytes(data[start : start + size])
        unpack(parts, tmp_path / "out")
        assert contents(tmp_path / "out") == FILES

    def test_what_is_there_stays(self, tmp_path):
        (tmp_path / "out").mkdir()
        unpack([tmp_path / "not even there.zip"], tmp_path / "out")


OUTSIDE = {
    "tar ..": lambda path: make_tar(path, [tar_member("../evil.txt")]),
    "tar link out": lambda path: make_tar(path, [tar_member("link", tarfile.SYMTYPE, "../../evil")]),
    "tar absolute link": lambda path: make_tar(path, [tar_member("link", tarfile.SYMTYPE, "/etc/passwd")]),
    "tar hard link out": lambda path: make_tar(path, [tar_member("link", tarfile.LNKTYPE, "../evil")]),
    "tar device": lambda path: make_tar(path, [tar_member("null", tarfile.CHRTYPE)]),
    "tar pipe": lambda path: make_tar(path, [tar_member("pipe", tarfile.FIFOTYPE)]),
    "zip ..": lambda path: make_zip(path, [("d/../../evil.txt", 0, "x")]),
    "zip ..\\": lambda path: make_zip(path, [("d\\..\\..\\evil.txt", 0, "x")]),
    "zip absolute": lambda path: make_zip(path, [("/evil.txt", 0, "x")]),
    "zip link out": lambda path: make_zip(path, [("d/link", stat.S_IFLNK | 0o777, "../../evil")]),
    "zip absolute link": lambda path: make_zip(path, [("d/link", stat.S_IFLNK | 0o777, "/etc/passwd")]),
    "zip device": lambda path: make_zip(path, [("null", stat.S_IFCHR, "")]),
}


LINK, HARD_LINK = tarfile.SYMTYPE, tarfile.LNKTYPE
MEMBERS = [
    *(
        (partial(make, members=members), reason)
        for make, members, reason in [
            (make_tar, [tar_member("../evil")], "'../evil': leads out of the archive"),
            (make_tar, [tar_member("l", LINK, "d/../../evil")], "'l': leads out of the archive"),
            (make_tar, [tar_member("l", LINK, "d"), tar_member("l/c.txt")], "'l': another member takes its place"),
            (make_tar, [tar_member("l", LINK, "a.txt"), tar_member("l")], "'l': another member takes its place"),
            (make_tar, [tar_member("l", HARD_LINK, "d"), tar_member("d/s", LINK, "..")], "'l': cannot be unpacked"),
            (make_tar, [tar_member("l", HARD_LINK, "s"), tar_member("s", LINK, "d")], "'l': cannot be unpacked"),
            (make_tar, [tar_member("l", HARD_LINK, "a.txt"), tar_member("l")], "'l': another member takes its place"),
            (make_tar, [tar_member("a.txt")], "'a.txt': another member takes its place"),
            (make_tar, [tar_member("a.txt/c.txt")], "'a.txt/c.txt': another member takes its place"),
            (make_tar, [tar_member("d")], "'d': another member takes its place"),
            (make_tar, [tar_member("n" * 300)], f"'{'n' * 100}': cannot be unpacked: File name too long"),
            (make_tar, [tar_member("n/" * 600)], f"'{'n/' * 50}': a path longer than 1,000 bytes"),
            (make_tar, [tar_member("null", tarfile.CHRTYPE)], "'null': a device or pipe"),
            (make_tar, [tar_member("\033[2J\nok", tarfile.FIFOTYPE)], r"'\x1b[2J\nok': a device or pipe"),
            (make_zip, [("", 0, "x")], "'': a file without a name"),
            (make_zip, [("./", 0, ""), (".", 0, "")], "'.': a file without a name"),
            (make_zip, [("A.txt", 0, ""), ("./A.txt", 0, "")], "'./A.txt': another member takes its place"),
            (make_zip, [("a.txt/b", 0, "")], "'a.txt/b': another member takes its place"),
            (make_zip, [("l", stat.S_IFLNK, "../evil")], "'l': leads out of the archive"),
        ]
    )
]


class TestRefused:
    def refused(self, paths, tmp_path):
        before = sorted(path for path in tmp_path.rglob("*"))
        with pytest.raises(UserError) as error:
            unpack(paths, tmp_path / "deep/er/out")
        assert "\n" not in str(error.value)
        left = sorted(path for path in tmp_path.rglob("*") if path not in before and path.suffix != ".lock")
        assert [path.name for path in left] == ["deep", "er"]
        return str(error.value)

    @pytest.mark.parametrize("kind", OUTSIDE)
    def test_what_leads_outside(self, tmp_path, kind):
        self.refused([OUTSIDE[kind](tmp_path / "x")], tmp_path)

    @pytest.mark.parametrize(("make", "reason"), MEMBERS)
    def test_each_member_by_its_name(self, tmp_path, make, reason):
        assert f"x: {reason}" in self.refused([make(tmp_path / "x")], tmp_path)

    @pytest.mark.parametrize("short", [False, True])
    def test_a_file_through_links_too_deep_to_be_resolved(self, tmp_path, short):
        """CVE-2025-4517: `tarfile.data_filter` of Python 3.11.7 lets this overwrite a file outside."""
        out, precious = tmp_path / "out", tmp_path / "precious"
        precious.write_bytes(b"old")
        members, real, linked = [], "", ""
        for letter in "abcdefghijklmnop":
            at = linked if short else real
            members.append(tar_member(f"{at}{'d' * 247}", tarfile.DIRTYPE))
            members.append(tar_member(f"{at}{letter}", tarfile.SYMTYPE, "d" * 247))
            real, linked = f"{real}{'d' * 247}/", f"{linked}{letter}/"
        members.append(tar_member(f"{linked}{'l' * 254}", tarfile.SYMTYPE, "../" * 16))
        members.append(tar_member("escape", tarfile.SYMTYPE, f"{linked}{'l' * 254}/../precious"))
        members.append(tar_member("hard", tarfile.LNKTYPE, "escape"))
        members.append(tar_member("hard"))
        members[-1].size = 3
        with tarfile.open(tmp_path / "x", "w", format=tarfile.GNU_FORMAT) as tar:
            for member in members:
                tar.addfile(member, io.BytesIO(b"new"))
        reason = "'hard': cannot be unpacked: No such file" if short else "'d{100}': a path longer than 1,000 bytes"
        with pytest.raises(UserError, match=f"x: {reason}"):
            unpack([tmp_path / "x"], out)
        assert precious.read_bytes() == b"old"

    @pytest.mark.parametrize("make", [make_tar, make_zip])
    @pytest.mark.parametrize("keep", [0.5, 0.02])
    def test_truncated(self, tmp_path, make, keep):
        path = make(tmp_path / "x")
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        assert "x: " in self.refused([path], tmp_path)

    def test_neither_tar_nor_zip(self, tmp_path):
        (tmp_path / "x").write_text("<html>")
        self.refused([tmp_path / "x"], tmp_path)

    def test_damaged_inside(self, tmp_path):
        data = bytearray(make_zip(tmp_path / "x").read_bytes())
        data[40:45] = b"XXXXX"
        (tmp_path / "x").write_bytes(data)
        self.refused([tmp_path / "x"], tmp_path)

    @pytest.mark.parametrize("make", [make_tar, make_zip])
    def test_more_than_the_disk_has(self, tmp_path, make, monkeypatch):
        usage = archives.shutil.disk_usage(tmp_path)._replace(free=50_000)
        monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
        line = self.refused([make(tmp_path / "x")], tmp_path)
        assert "bytes and the disk has 50,000 free" in line

    def test_a_zip_that_gives_more_than_it_declares(self, tmp_path):
        path = make_zip(tmp_path / "x")
        data = path.read_bytes().replace((100_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
        path.write_bytes(data)
        assert "Bad CRC-32" in self.refused([path], tmp_path)

    def test_a_sparse_tar(self, tmp_path):
        with open(tmp_path / "sparse", "wb") as file:
            file.truncate(1 << 30)
        command = ["tar", "-C", tmp_path, "--sparse", "--format=gnu", "-cf", tmp_path / "x", "sparse"]
        subprocess.run(command, check=True)
        assert (tmp_path / "x").stat().st_size < 100_000
        assert "sparse" in self.refused([tmp_path / "x"], tmp_path)


PATHS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "out", ".out.tmp", "/precious"]), max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(tar_member, PATHS, KINDS, PATHS), max_size=6))
def test_whatever_a_tar_holds_nothing_outside_changes_and_no_link_leads_there(members):
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
def test_a_damaged_archive_is_one_line_or_unpacks(make, data):
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


def test_killed_in_the_middle_it_is_done_again_whole(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"{number}.txt"))
    code = "import centerclip.data.download.archives as a; a.unpack([a.Path('x.tar')], a.Path('out'))"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (tmp_path / ".out.tmp/10.txt").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    assert len(os.listdir(tmp_path / "out")) == 3000 and not (tmp_path / ".out.tmp").exists()
