"""Whether the files of a results folder are whole and belong together.

centerclip audit results/
"""

import math
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from centerclip.command import UserError, explained, is_damage, read_json
from centerclip.data.video import frames
from centerclip.data.video.frames import read_report, unusable
from centerclip.data.video.shards import combine
from centerclip.data.video.watch import watched
from centerclip.settings import layout
from centerclip.settings.cell import check_own, read_cell


def is_results(folder: Path) -> bool:
    """Whether a folder is one of results, and not of videos."""
    return any(any(folder.glob(pattern)) for pattern in ("*/*/cell.json", "*/frames/*px/*.csv"))


def checks(results: Path) -> list[tuple[Callable, Path]]:
    """The files of a results folder, each with what raises UserError for a fault in it."""
    files = {
        "*/frames/*px/[0-9]*.lmdb": whole_shard,
        "*/frames/*px/report.csv": joined_report,
        "*/*/cell.json": complete_frames,
        "*/*/weights.safetensors": whole_weights,
        "*/*/history.json": read_json,
        "*/*/checkpoints/checkpoint*.pt": whole_checkpoint,
        "*_*.json": check_own,
        "weights/**/*.safetensors": whole_weights,
    }
    return [(check, path) for pattern, check in files.items() for path in sorted(results.glob(pattern))]


def whole_shard(shard: Path) -> None:
    """Compare a shard with its checksums or, without any, decode all of its pictures."""
    frames.check_shard(shard)
    if shard.stat().st_size % frames.PAGE:
        return
    with frames.open_shard(shard).begin(buffers=True) as transaction:
        for name, data in transaction.cursor():
            try:
                frames.picture(data)
            except ValueError as error:
                raise unusable(shard, f"{bytes(name).decode()} is not a picture ({error})") from None
        for row in read_report(shard.with_suffix(".csv")).itertuples():
            if any(transaction.get(frames.key(row.video_id, index)) is None for index in range(row.frames)):
                raise unusable(shard, f"it lacks frames of {row.video_id}")


def joined_report(report: Path) -> None:
    """Compare a store's report with those of its shards."""
    joined, stored = combine(sorted(report.parent.glob("[0-9]*.csv")), report.parent), read_report(report)
    columns = [column for column in ("video_id", "frames", "state", "shard") if column in joined]
    if not set(columns) <= set(stored) or not joined[columns].equals(stored[columns]):
        raise unusable(report, "it is not what the csv files of its shards say")


def complete_frames(path: Path) -> None:
    """Compare a cell's manifest with the report of its frames."""
    from centerclip.data.datasets.manifest import read_manifest

    cell = read_cell(path)
    manifest, report = cell.path(layout.MANIFEST), cell.path(layout.FRAMES)
    if manifest.exists() and report.exists():
        frames.check_complete(read_manifest(manifest), read_report(report), cell.splits, report)


def whole_weights(path: Path) -> None:
    from centerclip.train.finished import read_own

    read_own(path)


def whole_checkpoint(path: Path) -> None:
    from centerclip.train.checkpoints import load

    try:
        load(path)
    except Exception as error:
        if not is_damage(error):
            raise
        raise UserError(f"{path}: damaged ({type(error).__name__}); delete it: training goes on without it") from None


def outcome(item: tuple[Callable, Path], beat: Callable[[], None]) -> str | None:
    """What is wrong with a file, in a line; None if nothing is."""
    check, path = item
    beat()
    try:
        check(path)
    except (UserError, OSError) as error:
        return explained(error) if isinstance(error, OSError) else str(error)


def audit(results: Path) -> str:
    """Check all files of a results folder and print a line for each fault; returns a summary. Files are read in another
    process, which a shard without checksums may crash. Raises UserError, with the summary, if there is a fault."""
    items, faults = checks(results), set()
    for (_, path), fault in tqdm(watched(outcome, items, 1, math.inf), "audit", len(items), unit="file"):
        line = fault if isinstance(fault, str) else fault and f"{path}: {fault}"
        if line and line not in faults:
            faults.add(line)
            tqdm.write(line)
    summary = f"{results}: {len(items)} files checked, faults: {len(faults)}"
    if faults:
        raise UserError(summary)
    return summary
