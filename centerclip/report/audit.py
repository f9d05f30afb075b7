"""Check whether the files of a results folder are whole and belong together.

centerclip audit results/
"""

from pathlib import Path

from tqdm import tqdm

from centerclip.command import UserError, explained, is_damage, read_json
from centerclip.data.video import frames
from centerclip.data.video.shards import combine
from centerclip.settings import layout
from centerclip.settings.cell import check_own, read_cell


def is_results(folder: Path) -> bool:
    """Whether a folder holds results rather than videos."""
    return any(any(folder.glob(pattern)) for pattern in ("*/*/cell.json", "*/frames/*px/*.csv"))


def joined_report(report: Path) -> None:
    """Compare a store's report with those of its shards."""
    joined, stored = combine(sorted(report.parent.glob("[0-9]*.csv")), report.parent), frames.read_report(report)
    columns = [column for column in ("video_id", "frames", "state", "shard") if column in joined]
    if not set(columns) <= set(stored) or not joined[columns].equals(stored[columns]):
        raise frames.unusable(report, "it differs from the csv files of its shards")


def complete_frames(path: Path) -> None:
    """Compare a cell's manifest with the report of its frames."""
    from centerclip.data.datasets.manifest import read_manifest

    cell = read_cell(path)
    manifest, report = cell.path(layout.MANIFEST), cell.path(layout.FRAMES)
    if manifest.exists() and report.exists():
        frames.check_complete(read_manifest(manifest), frames.read_report(report), cell.splits, report)


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


CHECKS = {  # files -> what raises UserError for a fault in one
    "*/frames/*px/[0-9]*.lmdb": frames.check_shard,
    "*/frames/*px/report.csv": joined_report,
    "*/*/cell.json": complete_frames,
    "*/*/weights.safetensors": whole_weights,
    "*/*/history.json": read_json,
    "*/*/checkpoints/checkpoint*.pt": whole_checkpoint,
    "*_*.json": check_own,
    "weights/**/*.safetensors": whole_weights,
}


def audit(results: Path) -> str:
    """Check all files of a results folder and print a line for each fault; returns a summary. Raises UserError, with
    the summary, if there is a fault."""
    items = [(check, path) for pattern, check in CHECKS.items() for path in sorted(results.glob(pattern))]
    faults = set()
    for check, path in tqdm(items, "audit", unit="file"):
        try:
            check(path)
        except (UserError, OSError) as error:
            line = explained(error) if isinstance(error, OSError) else str(error)
            if line not in faults:  # two files may tell the same
                tqdm.write(line)
            faults.add(line)
    summary = f"{results}: {len(items)} files checked, faults: {len(faults)}"
    if faults:
        raise UserError(summary)
    return summary
