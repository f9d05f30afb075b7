"""Data sets of the Hugging Face Hub in the layout of its retrieval sets: parquet files, a row a video and its captions.

The video is bytes, a path in the repository, or a struct of `bytes` and `path`; captions are a string or a list.
"""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pandas as pd
import requests
from filelock import FileLock
from huggingface_hub import HfApi, get_token, hf_hub_url, is_offline_mode, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from centerclip.command import UserError, atomic_directory, first_line, read_json, shown
from centerclip.data.datasets.files import VIDEO_SUFFIXES
from centerclip.data.datasets.manifest import from_captions
from centerclip.data.download.http import Refused, check, download
from centerclip.method.digest import digest

ROWS = "rows.json"  # a list of rows {video, texts}: the name of a file without suffix, and lists of strings by column
GATED = "if it is gated, accept its terms on its page and set HF_TOKEN"


def fetch(settings: dict, out: Path) -> None:
    """Make the directory `out` of the videos and the rows of all splits.

    Parquet files are downloaded, verified, unpacked and deleted one after the other. Unpacked files stay in
    `results/downloads/hub`, so that an interrupted fetch continues. Files in the Hub's own cache are used from there
    and kept. Raises UserError: no such files, no access, damage, or columns that do not fit.
    """
    if find_spec("pyarrow") is None:
        raise UserError(f"{settings['repository']}: the reader hub needs pyarrow (pip install pyarrow)")
    name = f"{settings['repository'].replace('/', '--')}@{settings['revision']}"
    store, rows = out.parent.parent / "downloads/hub" / name, []
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / ".lock"), atomic_directory(out) as temporary:
        (temporary / "videos").mkdir()
        repository = Repository(settings, store)
        shards = [(split, shard) for split, glob in settings["files"].items() for shard in repository.matching(glob)]
        for split, shard in tqdm(shards, shown(f"fetch: {settings['repository']}"), unit="file"):
            unpacked = repository.unpack(shard)
            for row in read_json(unpacked / ROWS):
                captions(row, settings)  # raises for a wrong column before all files are downloaded
                rows.append(row | {"split": split})
            (temporary / "videos" / unpacked.name).symlink_to(unpacked.resolve())
        (temporary / ROWS).write_text(json.dumps(rows), encoding="utf-8")


def manifest(settings: dict, source: Path) -> pd.DataFrame:
    """The manifest: rows with the same video, byte for byte, are captions of one video, named by its digest. A row
    without a caption makes its video a candidate only."""
    pairs = {}
    for row in read_json(source / ROWS):
        pairs.setdefault(row["split"], []).extend((row["video"], text) for text in captions(row, settings))
    return from_captions(pairs, source / "videos")


def captions(row: dict, settings: dict) -> list[str]:
    """The captions of a row of ROWS. Raises UserError without such a column of text."""
    column = (settings.get("columns") or {}).get("caption", "caption")
    if column not in row["texts"]:
        raise missing_column(settings["repository"], "caption", column, row["texts"])
    return row["texts"][column] or [""]


def missing_column(where: str, standard: str, column: str, columns: list[str]) -> UserError:
    has = f"it has {', '.join(columns) or 'none'} (`columns` in the config maps names)"
    return UserError(f"{where}: no column {column!r} for {standard}; {has}")


def add_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the user's token, if there is one, to a request."""
    if token := get_token():
        request.headers["Authorization"] = f"Bearer {token}"
    return request


class Repository:
    """A repository of data sets at one commit, whose unpacked files lie in the directory `store`."""

    def __init__(self, settings: dict, store: Path):
        self.store, self.video = store, (settings.get("columns") or {}).get("video", "video")
        self.name, self.globs = settings["repository"], [*settings["files"].values()]
        self.commit = {"repo_id": self.name, "repo_type": "dataset", "revision": settings["revision"]}
        try:
            self.files = self.listing()
        except Exception as error:  # each layer of the network has its own errors
            remedy = f"check its name; {GATED}" if isinstance(error, RepositoryNotFoundError) else "try again"
            raise UserError(f"{self.name}: {type(error).__name__}: {first_line(error)}; {remedy}") from None

    def listing(self) -> dict[str, tuple[int | None, tuple[str, ...]]]:
        """The size and the hashes, if known, of each file of the repository; offline, of each file in the cache."""
        if is_offline_mode():
            folder = Path(snapshot_download(**self.commit, allow_patterns=self.globs, local_files_only=True))
            return {path.relative_to(folder).as_posix(): (None, ()) for path in folder.rglob("*") if path.is_file()}
        entries = [entry for entry in HfApi().list_repo_tree(**self.commit, recursive=True) if type(entry) is RepoFile]
        return {
            entry.path: (entry.size, (f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}",))
            for entry in entries
        }

    def matching(self, glob: str) -> list[str]:
        """The paths that match a glob, sorted. Raises UserError if none does."""
        if not (found := sorted(path for path in self.files if fnmatchcase(path, glob))):
            raise UserError(f"{self.name}: no file {glob!r}; it has {', '.join(sorted(self.files)[:8])}")
        return found

    def unpack(self, shard: str) -> Path:
        """The directory of the videos of a parquet file and of its ROWS."""
        out = self.store / f"{shard.replace('/', '--')}.{self.video}"
        if not out.exists():
            path = self.obtain(shard)
            with atomic_directory(out) as temporary:
                rows = list(self.rows(path, shard, temporary))
                (temporary / ROWS).write_text(json.dumps(rows), encoding="utf-8")
            self.discard(path)
        return out

    def rows(self, path: Path, shard: str, out: Path) -> Iterator[dict]:
        """The rows of a parquet file. Writes their videos into `out`."""
        import pyarrow
        from pyarrow.parquet import ParquetFile

        def is_text(kind: pyarrow.DataType) -> bool:
            listed = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
            kind = kind.value_type if listed else kind
            return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)

        try:
            with ParquetFile(path) as file:
                schema = file.schema_arrow
                if self.video not in schema.names:
                    raise missing_column(f"{self.name}, {shard}", "video", self.video, schema.names)
                texts = [field.name for field in schema if is_text(field.type) and field.name != self.video]
                batches = file.iter_batches(8, columns=[self.video, *texts])  # few rows, as videos are large
                for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                    data, suffix = self.video_of(row.pop(self.video), f"{self.name}, {shard}, row {number}", shard)
                    name = digest(data)
                    (out / f"{name}{suffix}").write_bytes(data)
                    strings = {name: [text] if isinstance(text, str) else text or [] for name, text in row.items()}
                    yield {"video": name, "texts": {name: [t for t in text if t] for name, text in strings.items()}}
        except pyarrow.ArrowException as error:
            raise UserError(f"{path}: not a whole parquet file: {first_line(error)}") from None

    def video_of(self, cell: dict | bytes | str | None, where: str, shard: str) -> tuple[bytes, str]:
        """The bytes of a video and the suffix of its name. Raises UserError for a cell without a video."""
        struct = cell if isinstance(cell, dict) else {"path" if isinstance(cell, str) else "bytes": cell}
        data, path = struct.get("bytes"), struct.get("path") or ""
        if not (data and isinstance(data, bytes)):
            name = PurePosixPath(path.removeprefix(f"hf://datasets/{self.name}@{self.commit['revision']}/"))
            inside = [p for p in map(str, (name, PurePosixPath(shard).parent / name)) if p in self.files]
            if not inside:
                raise UserError(f"{where}: no bytes of a video, and its path {path!r} is not a file of the repository")
            file = self.obtain(inside[0])
            data = file.read_bytes()
            self.discard(file)
        suffix = PurePosixPath(path).suffix.lower()
        return data, suffix if suffix in VIDEO_SUFFIXES else ".mp4"

    def obtain(self, name: str) -> Path:
        """A file of the repository, from the Hub's cache or downloaded into `store`. Raises UserError."""
        path, (size, hashes) = try_to_load_from_cache(filename=name, **self.commit), self.files[name]
        if not isinstance(path, str):  # huggingface_hub does not resume after it was killed
            path = self.store / "files" / name
            download(path, [hf_hub_url(filename=name, **self.commit)], size, hashes, add_token, otherwise=GATED)
        elif hashes:
            try:
                check(Path(path), size, hashes, name)
            except Refused as error:
                raise UserError(f"{path}: {error}; delete it and run again") from None
        return Path(path)

    def discard(self, path: Path) -> None:
        """Delete a file that was downloaded into `store`."""
        if path.is_relative_to(self.store):
            path.unlink()
