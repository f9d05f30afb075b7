"""Lists the video files of a directory and finds the file of a video's name."""

import os
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from centerclip.command import UserError

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m2v", ".m4v", ".mkv"),
    *(".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm"),
    *(".webp", ".wmv"),
)
# Folders of file servers and systems for thumbnails, snapshots and deleted files; casefolded
SYSTEM_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "lost+found"),
    *("system volume information", "__macosx"),
}


class Listing(NamedTuple):
    """The files in and below a folder. Paths are relative to it."""

    videos: dict[str, tuple[int, int]]  # path -> size in bytes, time of change in ns
    closed: dict[str, str]  # folder that cannot be read -> reason
    others: Counter[str]  # suffix of other files -> count

    def passed_over(self) -> str:
        """The number of other files by suffix, in one line; '' if there are none."""
        common = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        counts = [f"{suffix or 'without'} {count}" for suffix, count in common[:8]] + ["..."] * (len(common) > 8)
        return f"{self.others.total()} files with other suffixes passed over: {', '.join(counts)}" if common else ""


def listing(folder: Path) -> Listing:
    """The files in and below `folder`, as `walk` finds them. Raises UserError if there is no such folder, or no video
    in it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: {'a file, not a folder' if folder.exists() else 'no such folder'}")
    found = Listing({}, {}, Counter())
    for directory, files in walk(folder):
        if isinstance(files, OSError):
            found.closed[os.path.relpath(directory, folder)] = files.strerror
            continue
        for path in map(Path, files):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                found.videos[os.path.relpath(path, folder)] = changes(path)
            else:
                found.others[path.suffix.lower()] += 1
    if not found.videos and not found.closed:
        others = f"; {line}" if (line := found.passed_over()) else ""
        raise UserError(f"{folder}: no videos in it ({' '.join(VIDEO_SUFFIXES)}){others}")
    return found._replace(videos=dict(sorted(found.videos.items())))


def walk(folder: str | Path) -> Iterator[tuple[str, list[str] | OSError]]:
    """`folder` and each folder below it, with the paths of its files, or with the error if it cannot be read. Hidden
    files, hidden folders and SYSTEM_FOLDERS are left out.

    Links are followed, but each folder is visited once, under its own name rather than a link's.
    """
    visited, pending = set(), deque([str(folder)])
    while pending:
        directory, files = pending.popleft(), []
        try:
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            yield directory, error
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            link = entry.is_symlink()
            if not (os.path.isdir(entry.path) if link else entry.is_dir()):  # entries know their kind, links do not
                files.append(entry.path)
            elif entry.name.casefold() not in SYSTEM_FOLDERS:
                (pending.append if link else pending.appendleft)(entry.path)
        yield directory, files


def changes(path: Path) -> tuple[int, int]:
    """The size of a file in bytes and its time of change in ns; (-1, -1) for a broken link."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def files_by_stem(directory: Path) -> dict[str, str]:
    """The paths of the files below `directory` by name without the extension. Of several files with one name, a video
    is preferred to a .gif or .webp, which may be its thumbnail, and these to other files; then the first path."""

    def preference(path: str) -> tuple[bool, bool, str]:
        suffix = os.path.splitext(path)[1].lower()
        return suffix not in VIDEO_SUFFIXES, suffix in (".gif", ".webp"), path

    paths = sorted(all_files(directory), key=preference, reverse=True)
    return {os.path.splitext(os.path.basename(path))[0]: path for path in paths}


def all_files(directory: str | Path) -> list[str]:
    """The paths of all files below `directory` that `walk` finds."""
    return [path for _, files in walk(directory) if not isinstance(files, OSError) for path in files]
