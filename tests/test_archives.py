"""Archives are unpacked whole or not at all, and never outside their directory."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
from conftest import REPOSITORY

from centerclip.command import UserError
from centerclip.download import archives
from centerclip.download.archives import unpack

pytestmark = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python unpacks no tar safely")
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


def tar_through_a_path_too_long_to_look_at(path):
    """CVE-2025-4517: links to nested long names, through which a file outside is hard-linked and overwritten."""
    members, steps, long = [], [], "d" * 247
    for letter in "abcdefghijklmnop":
        members.append(tar_member("/".join([*steps, long]), tarfile.DIRTYPE))
        members.append(tar_member("/".join([*steps, letter]), tarfile.SYMTYPE, long))
        steps.append(letter)
    beyond = "/".join([*steps, "l" * 254])
    members.append(tar_member(beyond, tarfile.SYMTYPE, "../" * len(steps)))
    members.append(tar_member("escape", tarfile.SYMTYPE, f"{beyond}/.."))
    members.append(tar_member("hard", tarfile.LNKTYPE, "escape/victim"))
    return make_tar(path, [*members, tar_member("hard")])


OUTSIDE |= {
    "tar too long": tar_through_a_path_too_long_to_look_at,
    "tar through a link": lambda path: make_tar(
        path, [tar_member("d/up", tarfile.SYMTYPE, ".."), tar_member("d/up/up", tarfile.SYMTYPE, "d/up/../..")]
    ),
    "tar twice": lambda path: make_tar(path, [tar_member("a.txt")]),
    "tar onto a link": lambda path: make_tar(path, [tar_member("l", tarfile.SYMTYPE, "a.txt"), tar_member("l")]),
    "zip empty name": lambda path: make_zip(path, [("", 0, "x")]),
    "zip twice": lambda path: make_zip(path, [("A.txt/../a.txt", 0, "x")]),
    "zip too long": lambda path: make_zip(path, [("n" * 300, 0, "x")]),
}


def test_a_file_outside_is_not_touched(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"leads out of the archive, or is too long|link out"):
        unpack([tar_through_a_path_too_long_to_look_at(tmp_path / "x")], tmp_path / "out")
    assert victim.read_bytes() == b"precious"


def test_links_inside_a_tar_are_kept(tmp_path):
    links = [tar_member("d/link", tarfile.SYMTYPE, "../a.txt"), tar_member("hard", tarfile.LNKTYPE, "d/b.txt")]
    unpack([make_tar(tmp_path / "x", [tar_member("./", tarfile.DIRTYPE), *links])], tmp_path / "out")
    assert os.readlink(tmp_path / "out/d/link") == "../a.txt"
    assert (tmp_path / "out/hard").read_bytes() == FILES["d/b.txt"]


class TestRefused:
    def refused(self, paths, tmp_path):
        before = sorted(path for path in tmp_path.rglob("*"))
        with pytest.raises(UserError) as error:
            unpack(paths, tmp_path / "deep/er/out")
        assert "\n" not in str(error.value)
        left = sorted(path for path in tmp_path.rglob("*") if path not in before and path.suffix != ".lock")
        assert [path.name for path in left] == ["deep", "er"]
        return str(error.value)

    def test_a_tar_where_python_cannot_refuse_what_it_holds(self, tmp_path, monkeypatch):
        monkeypatch.delattr(tarfile, "data_filter")
        line = self.refused([make_tar(tmp_path / "x")], tmp_path)
        assert line.startswith("x: unpacking a tar safely wants Python 3.11.4 or later, not 3.")

    @pytest.mark.parametrize("kind", OUTSIDE)
    def test_what_leads_outside(self, tmp_path, kind):
        self.refused([OUTSIDE[kind](tmp_path / "x")], tmp_path)

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


def test_killed_in_the_middle_it_is_done_again_whole(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"{number}.txt"))
    code = "import pathlib, centerclip.download.archives as a; a.unpack([pathlib.Path('x.tar')], pathlib.Path('out'))"
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
