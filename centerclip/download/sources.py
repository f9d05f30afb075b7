"""Where the files of the paper's benchmarks and weights come from: the table config/sources.csv, and getting them.

A row is a file that a reader wants (`MSRVTT_data.json`), the directory `videos`, or an archive that holds them:

- `dataset`, `file`: its name.
- `inside`: the archive that holds it, or the parts of one, by their rows' names.
- `url`, `mirrors`: where else it comes from. With `{name}` or `{stem}` in it, every video is a file of its own.
- `bytes`, `hashes`: what it must be, `sha256:...` or `git:...` (git's blob id); of several hashes one must be right.
- `credentials`: the prefix of the environment variables ..._USER and ..._PASSWORD that the server asks for.
- `seen`: when somebody last said that the url works; empty: not known. `licence`: terms, and where to ask.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from centerclip import ROOT
from centerclip.command import UserError
from centerclip.download.archives import unpack
from centerclip.download.http import DiskFull, Refused, check, download

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
    seen: str
    licence: str

    @property
    def each(self) -> bool:
        """Whether every video is a file of its own."""
        return any("{" in url for url in self.urls)

    def auth(self) -> tuple[str, str] | None:
        """User and password for its server, of the environment."""
        if not self.credentials:
            return None
        return os.environ[f"{self.credentials}_USER"], os.environ[f"{self.credentials}_PASSWORD"]

    def lacking(self) -> list[str]:
        """The environment variables that its server wants and that are not set."""
        names = [f"{self.credentials}_USER", f"{self.credentials}_PASSWORD"] if self.credentials else []
        return [name for name in names if not os.environ.get(name)]


@cache
def read_table(path: Path = TABLE) -> dict[str, dict[str, Source]]:
    """The table: dataset -> file -> Source."""
    table = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            urls = (*filter(None, [row["url"]]), *row["mirrors"].split())
            size = int(row["bytes"]) if row["bytes"] else None
            table.setdefault(row["dataset"], {})[row["file"]] = Source(
                row["dataset"], row["file"], tuple(row["inside"].split()), urls, size, tuple(row["hashes"].split()),
                row["credentials"], row["seen"], row["licence"],
            )  # fmt: skip
    return table


def wanted(files: dict[str, Source]) -> list[str]:
    """The files of a dataset that its reader wants: those that are no other's archive."""
    archives = {name for source in files.values() for name in source.inside}
    return [name for name in files if name not in archives]


def fetched(files: dict[str, Source], local: dict[str, str]) -> list[Source]:
    """What must come over the network for what is `wanted`, where `local` (file -> path) has not got it."""
    queue, fetched_files = [name for name in wanted(files) if name not in local], {}
    for name in queue:
        queue += [archive for archive in files[name].inside if archive not in local and archive not in queue]
        if files[name].urls:
            fetched_files[name] = files[name]
    return list(fetched_files.values())


def needs(dataset: str, local: dict[str, str]) -> list[str]:
    """What the user must do before `dataset` can be had, a line each: credentials, local copies that are not there."""
    files = read_table()[dataset]
    lines = [f"{name}: local copy {path} does not exist" for name, path in local.items() if not Path(path).exists()]
    unknown = [name for name in local if name not in files]
    lines += [f"{name}: no such file; the dataset has {', '.join(files)}" for name in unknown]
    lacking = {}
    for source in fetched(files, local):
        if variables := source.lacking():
            lacking.setdefault((" and ".join(variables), source.licence), []).append(source.file)
    for (variables, licence), names in lacking.items():
        lines.append(f"set {variables}, or name local copies, for {', '.join(names)} ({licence})")
    return lines


def wishes(name: str, settings: dict) -> list[str]:
    """What the user must do before the files of dataset `name` can be had, for a person; `settings` as in `fetch`."""
    if settings["reader"] not in read_table():
        return []
    lines = [f"{name}: {line}" for line in needs(settings["reader"], settings.get("local") or {})]
    return lines and [*lines, f"{name}: local copies are named in the config: benchmarks.{name}.source.local"]


def fetch(settings: dict, out: Path, video_names: Callable[[Path], Iterable[str]]) -> None:
    """Make the directory `out` of links to all that the reader of `settings` wants: its annotation files and `videos`.

    Downloads and unpacked archives stay in `results/downloads/{dataset}`, beside the benchmarks' directories, and are
    made once. A local copy always wins and is verified the same way. `settings`: `reader` the dataset's name, `local`
    its local copies (file -> path). `video_names(out)` gives the names of videos that are files of their own.

    Raises:
        UserError: what the user must do first, a file that cannot be had, or one that is not what it should be.
    """
    dataset, local = settings["reader"], settings.get("local") or {}
    files, cache_directory = read_table()[dataset], out.parent.parent / "downloads" / dataset
    if lines := needs(dataset, local):
        raise UserError(f"{dataset}: {'; '.join(lines)}")
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in sorted(wanted(files), key=lambda name: files[name].each):  # single videos are named in the others
        if files[name].each and name not in local:
            path = cache_directory / name
            fetch_each(files[name], video_names(temporary), path)
        else:
            path = obtain(files, name, local, cache_directory)
        (temporary / name).symlink_to(path.resolve())
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)


def obtain(files: dict[str, Source], name: str, local: dict[str, str], directory: Path) -> Path:
    """The path of a file, or of the directory `videos`: a verified local copy, downloaded, or out of an archive."""
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
    download(directory / name, source.urls, source.size, source.hashes, source.auth())
    return directory / name


def stamp(paths: Iterable[Path]) -> str:
    """Of which files an archive was unpacked: another for another local copy, or one that was put right."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha1(json.dumps(files).encode()).hexdigest()[:8]


def fetch_each(source: Source, names: Iterable[str], directory: Path) -> None:
    """Download videos that are files of their own, several at a time. Those that cannot be had are told and left out.

    Raises:
        UserError: a name that leads out of `directory`, a full disk, or more than MAX_LOST that cannot be had.
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
            tqdm.write(str(error))
            return False
        return True

    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        got = list(tqdm(pool.map(fetch_video, names), f"download: {source.dataset}", len(names), unit="video"))
    if (lost := got.count(False)) > MAX_LOST * len(names):
        raise UserError(f"{source.dataset}: {lost} of {len(names)} videos cannot be had; those that came are kept")
    tqdm.write(f"{source.dataset}: {lost} of {len(names)} videos cannot be had")
