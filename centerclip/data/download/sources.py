"""Fetches the files of the paper's benchmarks and weights from the sources that config/sources.csv lists.

A row of the table is a file that a reader needs (`MSRVTT_data.json`), the directory `videos`, or an archive of these:

- `dataset`, `file`: its name.
- `inside`: the archive that holds it, or the parts of that archive, each a row of its own.
- `url`, `mirrors`: where it comes from otherwise. With `{name}` or `{stem}` in them, every video is a file of its own.
- `bytes`, `hashes`: its size and one or several allowed hashes, `sha256:...` or `git:...` (git's blob id).
- `credentials`: the prefix of the environment variables ..._USER and ..._PASSWORD for the server of `url`.
- `seen`: when the url last worked, if known. `licence`: the terms, and where to ask for access.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from centerclip import ROOT
from centerclip.command import UserError, atomic_directory, shown
from centerclip.data.download.archives import unpack
from centerclip.data.download.http import Refused, check, download

TABLE = ROOT / "config/sources.csv"
AT_ONCE = 8  # downloads at a time of videos that are files of their own
MAX_LOST = 0.01  # largest share of these that may fail
URL = r"https?://[^{}\s]+(\{(name|stem)\}[^{}\s]*)*"
COLUMNS = {  # -> pattern of a value, what it is
    "dataset": (r"\w+", "a name"),
    "file": (r"(?!\.\.$)[^/]+", "a name"),
    "inside": (r".*", "names"),
    "url": (rf"({URL})?", "a url"),
    "mirrors": (rf"({URL}\s*)*", "urls"),
    "bytes": (r"[0-9]{0,18}", "a number"),
    "hashes": (r"((sha256:[0-9a-f]{64}|git:[0-9a-f]{40})\s*)*", "sha256:... or git:... in hex digits"),
    "credentials": (r"\w*", "a name"),
    "licence": (r".*", "text"),
}


class Source(NamedTuple):
    """A row of the table."""

    dataset: str
    file: str
    inside: tuple[str, ...]
    urls: tuple[str, ...]
    size: int | None  # bytes
    hashes: tuple[str, ...]
    credentials: str
    licence: str

    @property
    def each(self) -> bool:
        """Whether every video is a file of its own."""
        return any("{" in url for url in self.urls)

    @property
    def variables(self) -> list[str]:
        """The environment variables with the user and the password for its server; [] if it needs none."""
        return [f"{self.credentials}_USER", f"{self.credentials}_PASSWORD"] if self.credentials else []

    def auth(self) -> tuple[str, ...] | None:
        """The user and the password for its server; None if it needs none."""
        return tuple(os.environ[name] for name in self.variables) or None

    @property
    def setting(self) -> str:
        """The setting that names a local copy."""
        return f"weights: {{{Path(self.file).stem}: path/to/{self.file}}}" if self.dataset == "clip" else "source.local"


@cache
def read_table(path: Path = TABLE) -> dict[str, dict[str, Source]]:
    """The rows of the table: for each dataset its sources by file name. Raises UserError for a mistake in it."""
    table = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in (rows := csv.DictReader(file)):
                for column, (pattern, what) in COLUMNS.items():
                    if not re.fullmatch(pattern, row.get(column) or "", re.DOTALL) or row.get(column) is None:
                        value = f"{row[column]!r} is not {what}" if row.get(column) else "is missing"
                        raise UserError(f"{path}, line {rows.line_num}: {column}: {value}")
                inside, mirrors, hashes = (tuple(row[column].split()) for column in ("inside", "mirrors", "hashes"))
                urls, size = (row["url"], *mirrors) if row["url"] else mirrors, int(row["bytes"] or 0) or None
                source = Source(
                    row["dataset"], row["file"], inside, urls, size, hashes, row["credentials"], row["licence"]
                )
                table.setdefault(source.dataset, {})[source.file] = source
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a csv: {error}") from None
    for files in table.values():
        for source in files.values():
            for archive in source.inside:
                if archive not in files or files[archive].inside:
                    raise UserError(f"{path}: {source.file}: inside: {archive!r} is not an archive of {source.dataset}")
    return table


def files_of(dataset: str) -> dict[str, Source]:
    """The sources of a dataset by file name. Raises UserError if the table lacks them."""
    if dataset not in (table := read_table()):
        raise UserError(f"{TABLE}: no row for {dataset}")
    return table[dataset]


def wanted(files: dict[str, Source]) -> list[str]:
    """The names of the files that the reader of a dataset needs: all but archives of others."""
    archives = {name for source in files.values() for name in source.inside}
    return [name for name in files if name not in archives]


def fetched(files: dict[str, Source], local: dict[str, str]) -> list[Source]:
    """The sources to download: the `wanted` files without a `local` copy (name -> path), and the archives of these."""
    queue = [name for name in wanted(files) if name not in local]
    for name in queue:
        queue += [archive for archive in files[name].inside if archive not in local and archive not in queue]
    return [files[name] for name in queue if files[name].urls]


def needs(dataset: str, local: dict[str, str]) -> list[str]:
    """What the user must do before `dataset` can be fetched: a line for each missing credential or local copy."""
    files, lines, lacking = files_of(dataset), [], {}
    for name, path in local.items():
        if name not in files:
            lines.append(f"{name}: not a file of the dataset, which has {', '.join(files)}")
        elif not Path(path).exists():
            lines.append(f"{name}: no such local copy: {path}")
        elif Path(path).is_dir() != (name == "videos"):
            archive = f"; name an archive as {files[name].inside[0]}" if name == "videos" and files[name].inside else ""
            lines.append(f"{name}: not a {'directory' if name == 'videos' else 'file'}: {path}{archive}")
    for source in fetched(files, local):
        if variables := [name for name in source.variables if not os.environ.get(name)]:
            lacking.setdefault((" and ".join(variables), source.licence), []).append(source.file)
    for (variables, licence), names in lacking.items():
        lines.append(f"set {variables}, or name local copies, for {', '.join(names)} ({licence})")
    return lines


def wishes(name: str, settings: dict) -> list[str]:
    """The lines of `needs` for the benchmark `name`, with advice; `settings` as in `fetch`."""
    if settings["reader"] not in read_table():
        return []
    lines = [f"{name}: {line}" for line in needs(settings["reader"], settings.get("local") or {})]
    return lines and [*lines, f"{name}: name local copies in the config: benchmarks.{name}.source.local"]


def fetch(settings: dict, out: Path, video_names: Callable[[Path], Iterable[str]]) -> None:
    """Make the directory `out` of links to the files that the reader of `settings` needs: annotations and `videos`.

    Downloads and unpacked archives stay in `results/downloads/{dataset}`. A local copy is preferred to a download and
    verified like one.

    Args:
        settings: `reader` is the name of the dataset; `local` has the paths of local copies by file name.
        video_names: the names of the videos, from the directory of the annotation files; called if each is a file.

    Raises:
        UserError: the user must do something first, or a file cannot be fetched or is wrong.
    """
    dataset, local = settings["reader"], settings.get("local") or {}
    files, downloads = files_of(dataset), out.parent.parent / "downloads" / dataset
    if lines := needs(dataset, local):
        raise UserError(f"{dataset}: {'; '.join(lines)}")
    with atomic_directory(out) as temporary:
        annotations_first = sorted(wanted(files), key=lambda name: files[name].each)  # they name the videos
        for name in annotations_first:
            if files[name].each and name not in local:
                path = downloads / name
                fetch_each(files[name], video_names(temporary), path)
            else:
                path = obtain(files, name, local, downloads)
            (temporary / name).symlink_to(path.resolve())


def obtain(files: dict[str, Source], name: str, local: dict[str, str], directory: Path) -> Path:
    """The path of a file or of the directory `videos`: a local copy, or from an archive, or downloaded to `directory`.
    Raises UserError if it cannot be fetched or is wrong."""
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
            raise UserError(f"{source.inside[0]}: it has no {name}; replace it")
        return verified(inside)
    otherwise = f"name a local copy in the config ({source.setting})"
    download(directory / name, source.urls, source.size, source.hashes, source.auth(), otherwise)
    return directory / name


def stamp(paths: Iterable[Path]) -> str:
    """8 hex digits that change when one of the files is replaced or changed."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha1(json.dumps(files).encode()).hexdigest()[:8]


def fetch_each(source: Source, names: Iterable[str], directory: Path) -> None:
    """Download videos that are files of their own. Videos that fail are named and left out. Raises UserError if a name
    leads out of `directory` or more than MAX_LOST fail, OSError if the disk is full."""

    def fetch_video(name: str) -> bool:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{source.dataset}: video {name!r} leads out of its directory")
        urls = [url.format(name=name, stem=os.path.splitext(path.name)[0]) for url in source.urls]
        try:
            download(directory / name, urls, auth=source.auth(), quiet=True)
        except UserError as error:
            tqdm.write(shown(error))
            return False
        return True

    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        got = list(tqdm(pool.map(fetch_video, names), shown(f"download: {source.dataset}"), len(names), unit="video"))
    line = f"{source.dataset}: {got.count(False)} of {len(names)} videos could not be downloaded"
    if got.count(False) > MAX_LOST * len(names):
        raise UserError(f"{line}; run again, which continues the download")
    tqdm.write(line)
