"""The checkpoints of a training: written whole, and resumed if settings, data and revisions are the same."""

import fcntl
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch

from centerclip.command import UserError, atomic, first_line, flock, is_damage, tell
from centerclip.method.digest import digest
from centerclip.settings import revisions
from centerclip.settings.cell import Cell
from centerclip.train import processes

LAST, PREVIOUS, ASIDE = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.aside.pt"


def origin(cell: Cell, rows: pd.DataFrame, report: Path) -> dict[str, str]:
    """Fingerprints of the settings, the data and the revisions that a checkpoint of `cell` is made with.

    `rows` are those of the manifest whose captions train or select the epoch; `report` is that of the stored frames.
    """
    weights = cell.located_model.weights
    pairs = rows[["split", "video_id", "caption"]].to_csv(index=False)
    return {
        "settings": fingerprint(json.dumps(cell.settings(), sort_keys=True).encode()),
        "data": fingerprint(pairs.encode(), report, *([Path(weights)] if weights else [])),
        "revisions": fingerprint(json.dumps(revisions.of_training(cell)).encode()),
    }


def fingerprint(*parts: bytes | Path) -> str:
    """16 hex digits that differ for different `parts`: bytes, or files, which may be larger than the memory."""
    hashes = []
    for part in parts:
        with io.BytesIO(part) if isinstance(part, bytes) else open(part, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").digest())
    return digest(*hashes)


@contextmanager
def sole_owner(directory: Path) -> Iterator[None]:
    """Lock `directory`, so that two runs never write one checkpoint. Raises UserError if another run holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w", encoding="utf-8") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory}: another process is training this cell; wait for it or stop it") from None
        os.register_at_fork(after_in_child=lock.close)  # a loader's worker lives on for seconds if training is killed
        yield


class Checkpoints:
    """The last checkpoint in `directory` and the one before it, each with its `origin`."""

    def __init__(self, directory: Path, origin: dict[str, str]):
        self.origin = origin
        self.last, self.previous, self.aside = (directory / name for name in (LAST, PREVIOUS, ASIDE))

    def save(self, state: dict) -> None:
        """Write a checkpoint of `state`, in the first of several processes; the last one becomes the previous one.
        Raises UserError if it cannot be written."""
        if processes.rank():
            return
        try:
            with atomic(self.last) as temporary:
                with open(temporary, "wb") as file:
                    torch.save({"made_from": self.origin} | state, file)
                if self.last.exists():
                    os.replace(self.last, self.previous)
        except (OSError, RuntimeError) as error:
            # weights, AdamW's two moments, and the selected epoch's weights
            megabytes = 4 * 4e-6 * sum(tensor.numel() for tensor in state["model"].values())
            cause = error if isinstance(error, OSError) else error.__context__  # torch's own words hide a full disk
            reason = getattr(cause, "strerror", None) or first_line(error)
            line = f"cannot write the checkpoint, which needs up to {megabytes:.0f} MB: {reason}"
            raise UserError(f"{self.last}: {line}{'; the last is intact' * self.last.exists()}") from None

    def resume(self, device: torch.device) -> dict | None:
        """The state of the last whole checkpoint, on the CPU; None without one. A checkpoint of another origin is kept
        as `aside`, and a line on the terminal says why."""
        path, state = self.read()
        processes.any_over_ranks(False, device)  # all have read it before one sets it aside or writes the next
        if state is None:
            return None
        made_from = state.get("made_from", {})  # of an earlier version it may lack a part
        different = " and ".join(part for part, mark in self.origin.items() if made_from.get(part) != mark)
        if not different:
            return state
        if processes.rank() == 0:
            os.replace(path, self.aside)
            self.previous.unlink(missing_ok=True)
            kept = f"training starts from the beginning, and {self.aside.name} keeps the checkpoint"
            tell(f"{path} was made with other {different}: {kept}")
        return None

    def read(self) -> tuple[Path | None, dict | None]:
        """The file and the state of the last checkpoint that is whole; None and None without one."""
        for path in filter(Path.exists, (self.last, self.previous)):
            try:
                return path, load(path)
            except Exception as error:
                if not is_damage(error):
                    raise
                print(f"warning: {path} is damaged ({type(error).__name__}); looking for the one before it")
        return None, None


def load(path: Path) -> dict:
    """The state in a checkpoint. A damaged one raises an error of any type."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():  # torch.load ignores checksums
            raise zipfile.BadZipFile(damaged)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if missing := {"model", "optimizer", "scaler", "progress", "selected", "chunk"} - set(state):
        raise KeyError(*sorted(missing))
    return state


def remove(directory: Path) -> None:
    """Delete the checkpoints of a training that has ended, except one set aside."""
    for name in (LAST, PREVIOUS):
        (directory / name).unlink(missing_ok=True)
