"""Decodes every video file of a folder and lists which can be trusted."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from centerclip.command import shown
from centerclip.data.datasets.files import listing
from centerclip.data.video.decoding import decode
from centerclip.data.video.extraction import choose
from centerclip.data.video.reading import Lost
from centerclip.data.video.watch import watched

COLUMNS = ["file", "container", "codec", "decoder", "frames", "seconds", "stored", "reason"]


def audit(name: str, beat: Callable[[], None], folder: Path, fps: float) -> dict:
    """The row of a file in `folder`: its format, its length, how many frames are stored at `fps` frames a second, and
    what is wrong with it. Raises Lost."""
    decoded = decode(folder / name, lambda shown: [choose(shown, fps, 0, np.nan)], np.shape, beat)
    values = decoded.container, decoded.codec, decoded.decoder, len(decoded.shown.starts), round(decoded.shown.end, 3)
    return dict(zip(COLUMNS, (name, *values, len(decoded.parts[0]), decoded.remark), strict=True))


def table(folder: Path, fps: float, processes: int, stall_seconds: float) -> pd.DataFrame:
    """A row for each video file in and below `folder`, with COLUMNS. Raises UserError as `listing`."""
    found = listing(folder)
    if others := found.passed_over():
        print(f"note: {others}", file=sys.stderr)
    rows = [{"file": name, "stored": 0, "reason": reason} for name, reason in found.closed.items()]
    work = watched(partial(audit, folder=folder, fps=fps), found.videos, processes, stall_seconds)
    for name, row in tqdm(work, "audit", len(found.videos), unit="video"):
        rows.append({"file": name, "stored": 0, "reason": str(row)} if isinstance(row, Lost) else row)
    rows = [row | {"file": shown(row["file"])} for row in rows]  # a name may have line breaks, or not be text
    report = pd.DataFrame(rows).reindex(columns=COLUMNS).sort_values("file", ignore_index=True)
    return report.astype({"frames": "Int64", "stored": "Int64"})


def summary(report: pd.DataFrame) -> str:
    """A `table` in one line."""
    good = report["stored"] > 0
    remarks = (good & (report["reason"].fillna("") != "")).sum()
    counts = f"frames stored: {report['stored'].sum()}, with remarks: {remarks}, without frames: {(~good).sum()}"
    return f"{len(report)} files: {counts}"
