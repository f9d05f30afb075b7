"""The checkpoints of a training: written whole, resumed where settings, data and revisions are the same."""

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
    """A fingerprint of each thing that a checkpoint must have been made from to be resumed.

    Args:
        cell: whose settings count, and its pretrained weights; how it is run does not.
        rows: of the manifest, those whose captions are trained on or select the epoch.
        report: of the stored frames.
    """
    weights = cell.located_model.weights
    pairs = rows[["split", "video_id", "caption"]].to_csv(index=False)
    return {
        "settings": fingerprint(json.dumps(cell.settings(), sort_keys=True).encode()),
        "data": fingerprint(pairs.encode(), report, *([Path(weights)] if weights else [])),
        "revisions": fingerprint(json.dumps(revisions.of_training(cell)).encode()),
    }


def fingerprint(*parts: bytes | Path) -> str:
    """16 hex digits that tell different contents apart, given or of files, which may be larger than the memory."""
    hashes = []
    for part in parts:
        with io.BytesIO(part) if isinstance(part, bytes) else open(part, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").digest())
    return digest(*hashes)


@contextmanager
def sole_owner(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process, so that two runs never write one checkpoint. Raises UserError if held."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w", encoding="utf-8") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory}: another process is training this cell; wait for it or stop it") from None
        yield


class Checkpoints:
    """The last checkpoint in `directory` and the one before it, each with the `origin` that it was made from."""

    def __init__(self, directory: Path, origin: dict[str, str]):
        self.origin = origin
        self.last, self.previous, self.aside = (directory / name for name in (LAST, PREVIOUS, ASIDE))

    def save(self, state: dict) -> None:
        """Write a checkpoint of `state`, whole or not at all; the one before it stays beside it. Of several processes
        the first does.

        Raises:
            UserError: it cannot be written.
        """
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
        """The state to go on from, on the CPU; None if there is none. One of another origin is set aside."""
        saved = self.read()
        processes.any_over_ranks(False, device)  # all have read it before one sets it aside or writes the next
        if saved is None:
            return None
        path, state = saved
        made_from = state.get("made_from", {})
        different = [part for part, mark in self.origin.items() if made_from.get(part) != mark]
        if not different:
            return state
        if processes.rank() == 0:
            self.set_aside(path, different)
        return None

    def read(self) -> tuple[Path, dict] | None:
        """The file and the content of the last checkpoint that is whole; None if there is none."""
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                return path, load(path)
            except Exception as error:
                if not is_damage(error):
                    raise
                print(f"warning: {path} is damaged ({type(error).__name__}); looking for the one before it")
        return None

    def set_aside(self, path: Path, different: list[str]) -> None:
        """Keep a checkpoint that cannot be resumed, in place of one kept before, and say on the terminal why."""
        os.replace(path, self.aside)
        self.previous.unlink(missing_ok=True)
        tell(f"{path} is of other {' and '.join(different)}: training starts anew and keeps it as {self.aside.name}")


def load(path: Path) -> dict:
    """The content of a checkpoint. A damaged one raises an error, of any type."""
    with zipfile.ZipFile(path) as archive:  # whose checksums torch.load does not look at
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if missing := {"model", "optimizer", "scaler", "progress", "selected", "chunk"} - set(state):
        raise KeyError(*sorted(missing))
    return state


def remove(directory: Path) -> None:
    """Delete the checkpoints of a training that has ended; one set aside stays."""
    for name in (LAST, PREVIOUS):
        (directory / name).unlink(missing_ok=True)
