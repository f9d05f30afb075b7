"""The files of the paper's benchmarks and weights, fetched from where the table config/sources.csv says they are.

A row of the table is a file that a reader wants (`MSRVTT_data.json`), the directory `videos`, or an archive with them:

- `dataset`, `file`: its name.
- `inside`: the archive that holds it, or the parts of that archive, as their own rows call them.
- `url`, `mirrors`: where it comes from otherwise. With `{name}` or `{stem}` in them, every video is a file of its own.
- `bytes`, `hashes`: what it must be, `sha256:...` or `git:...` (git's blob id); one of several hashes must be right.
- `credentials`: the prefix of the environment variables ..._USER and ..._PASSWORD, which the server of `url` asks for.
- `seen`: when the url last worked, or empty if nobody knows. `licence`: the terms, and where to ask for access.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from centerclip import ROOT
from centerclip.command import UserError, atomic_directory, shown
from centerclip.data.download.archives import unpack
from centerclip.data.download.http import DiskFull, Refused, check, download

TABLE = ROOT / "config/sources.csv"
AT_ONCE = 8  # videos that are files of their own
MAX_LOST = 0.01  # largest share of them to go on without


@dataclass(frozen=True)
class Source:
    """A row of the table."""

    dataset: str
    file: str
    inside: tuple[str, ...]
    urls: tuple[str, ...]
    size: int | None
    hashes: tuple[str, ...]
    credentials: str
    licence: str

    @property
    def each(self) -> bool:
        """Whether every video is a file of its own."""
        return any("{" in url for url in self.urls)

    @property
    def variables(self) -> list[str]:
        """The environment variables with the user and the password for its server; none if it asks for none."""
        return [f"{self.credentials}_USER", f"{self.credentials}_PASSWORD"] if self.credentials else []

    def auth(self) -> tuple[str, ...] | None:
        """The user and the password for its server; None if it asks for none."""
        return tuple(os.environ[name] for name in self.variables) or None

    @property
    def setting(self) -> str:
        """Where the config names a local copy."""
        return f"weights: {{{Path(self.file).stem}: path/to/{self.file}}}" if self.dataset == "clip" else "source.local"


@cache
def read_table(path: Path = TABLE) -> dict[str, dict[str, Source]]:
    """The rows of the table: for each dataset its sources by the names of their files.

    Raises:
        UserError: the table is damaged; the message names the line.
    """
    table = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in (rows := csv.DictReader(file)):
                try:
                    source = read_source(row)
                except ValueError as error:
                    raise UserError(f"{path}: line {rows.line_num}: {error}") from None
                table.setdefault(source.dataset, {})[source.file] = source
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table: {error}") from None
    for files in table.values():
        for source in files.values():
            for archive in source.inside:
                if archive not in files or files[archive].inside:
                    raise UserError(f"{path}: {source.file}: inside: {archive!r} is no archive of {source.dataset}")
    return table


def read_source(row: dict[str, str | None]) -> Source:
    """A row of the table. Raises ValueError for a wrong one."""
    for column in ("dataset", "file", "inside", "url", "mirrors", "bytes", "hashes", "credentials", "licence"):
        if row.get(column) is None:
            raise ValueError(f"has no {column}")
    inside, mirrors, hashes = (tuple(row[column].split()) for column in ("inside", "mirrors", "hashes"))
    urls = (row["url"], *mirrors) if row["url"] else mirrors
    if row["file"] in ("", "..") or PurePosixPath(row["file"]).name != row["file"]:
        raise ValueError(f"file: {row['file']!r} is not a name")
    if not re.fullmatch("[0-9]{0,18}", row["bytes"]):
        raise ValueError(f"bytes: {row['bytes']!r} is not a number")
    for text in hashes:
        if not re.fullmatch("sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", text):
            raise ValueError(f"hashes: {text!r} is neither sha256: and 64 hex digits nor git: and 40")
    for url in urls:
        if not re.fullmatch(r"https?://[^{}\s]+(\{(name|stem)\}[^{}\s]*)*", url):
            raise ValueError(f"{url!r} is not a url")
    size = int(row["bytes"]) if row["bytes"] else None
    return Source(row["dataset"], row["file"], inside, urls, size, hashes, row["credentials"], row["licence"])


def files_of(dataset: str) -> dict[str, Source]:
    """The sources of a dataset by the names of their files. Raises UserError if the table has none."""
    if dataset not in (table := read_table()):
        raise UserError(f"{TABLE}: has no row of {dataset}")
    return table[dataset]


def wanted(files: dict[str, Source]) -> list[str]:
    """The names of the files that the reader of a dataset wants: all that are no archive of another."""
    archives = {name for source in files.values() for name in source.inside}
    return [name for name in files if name not in archives]


def fetched(files: dict[str, Source], local: dict[str, str]) -> list[Source]:
    """The sources that must come over the network, because the user has no local copy; `local` has the paths of those.

    They are the files that are `wanted`, and the archives that hold them.
    """
    queue = [name for name in wanted(files) if name not in local]
    for name in queue:
        queue += [archive for archive in files[name].inside if archive not in local and archive not in queue]
    return [files[name] for name in queue if files[name].urls]


def needs(dataset: str, local: dict[str, str]) -> list[str]:
    """What the user must do before `dataset` can be fetched: a line a missing credential or local copy."""
    files = files_of(dataset)
    lines = [f"{name}: local copy {path} does not exist" for name, path in local.items() if not Path(path).exists()]
    unknown = [name for name in local if name not in files]
    lines += [f"{name}: no such file; the dataset has {', '.join(files)}" for name in unknown]
    lacking = {}
    for source in fetched(files, local):
        if variables := [name for name in source.variables if not os.environ.get(name)]:
            lacking.setdefault((" and ".join(variables), source.licence), []).append(source.file)
    for (variables, licence), names in lacking.items():
        lines.append(f"set {variables}, or name local copies, for {', '.join(names)} ({licence})")
    return lines


def wishes(name: str, settings: dict) -> list[str]:
    """The lines of `needs` for the user to read, each with the `name` of the benchmark; `settings` as in `fetch`."""
    if settings["reader"] not in read_table():
        return []
    lines = [f"{name}: {line}" for line in needs(settings["reader"], settings.get("local") or {})]
    return lines and [*lines, f"{name}: local copies are named in the config: benchmarks.{name}.source.local"]


def fetch(settings: dict, out: Path, video_names: Callable[[Path], Iterable[str]]) -> None:
    """Make the directory `out` of links to all that the reader of `settings` wants: its annotation files and `videos`.

    Downloads and unpacked archives are made once and stay in `results/downloads/{dataset}`. A local copy is preferred
    to a download, and is verified like one.

    Args:
        settings: `reader` is the name of the dataset, and `local` has the paths of local copies by their files' names.
        video_names: called with the directory of the annotation files, it names the videos if each is a file.

    Raises:
        UserError: the user must do something first, a file cannot be fetched, or it is not what it should be.
    """
    dataset, local = settings["reader"], settings.get("local") or {}
    files, cache_directory = files_of(dataset), out.parent.parent / "downloads" / dataset
    if lines := needs(dataset, local):
        raise UserError(f"{dataset}: {'; '.join(lines)}")
    with atomic_directory(out) as temporary:
        for name in sorted(wanted(files), key=lambda name: files[name].each):  # single videos are named in the others
            if files[name].each and name not in local:
                path = cache_directory / name
                fetch_each(files[name], video_names(temporary), path)
            else:
                path = obtain(files, name, local, cache_directory)
            (temporary / name).symlink_to(path.resolve())


def obtain(files: dict[str, Source], name: str, local: dict[str, str], directory: Path) -> Path:
    """The path of a file, or of the directory `videos`, which is a local copy, unpacked from an archive or downloaded.

    Raises:
        UserError: the file cannot be fetched, or it is not what it should be.
    """
    source = files[name]

    def verified(path: Path) -> Path:
        if path.is_file():
            try:
                check(path, source.size, source.hashes, path.name)
            except Refused as error:
                raise UserError(f"{name}: {path} {error}") from None
        return path

    if name in local:
        return verified(Path(local[name]))
    if source.inside:
        paths = [obtain(files, archive, local, directory) for archive in source.inside]
        unpacked = directory / f"{source.inside[0]}.{stamp(paths)}.unpacked"
        unpack(paths, unpacked)
        if name == "videos":
            return unpacked
        inside = next((path for path in sorted(unpacked.rglob(name)) if path.is_file()), None)
        if inside is None:
            raise UserError(f"{source.inside[0]} has no {name}")
        return verified(inside)
    otherwise = f"name a local copy in the config ({source.setting})"
    download(directory / name, source.urls, source.size, source.hashes, source.auth(), otherwise)
    return directory / name


def stamp(paths: Iterable[Path]) -> str:
    """8 hex digits that change when one of the files is another, or has changed."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha1(json.dumps(files).encode()).hexdigest()[:8]


def fetch_each(source: Source, names: Iterable[str], directory: Path) -> None:
    """Download videos that are files of their own, several at a time; videos that fail are named and left out.

    Raises:
        UserError: a name leads out of `directory`, the disk is full, or more than MAX_LOST fail.
    """

    def fetch_video(name: str) -> bool:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{source.dataset}: video {name!r} leads out of its directory")
        urls = [url.format(name=name, stem=os.path.splitext(path.name)[0]) for url in source.urls]
        try:
            download(directory / name, urls, auth=source.auth(), quiet=True)
        except DiskFull:
            raise
        except UserError as error:
            tqdm.write(shown(error))
            return False
        return True

    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        got = list(tqdm(pool.map(fetch_video, names), shown(f"download: {source.dataset}"), len(names), unit="video"))
    line = f"{source.dataset}: {got.count(False)} of {len(names)} videos could not be downloaded"
    if got.count(False) > MAX_LOST * len(names):
        raise UserError(f"{line}; the downloaded videos are kept")
    tqdm.write(line)
