"""Evaluate a cell, trained or not, on the test split of its benchmark."""

import argparse
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from centerclip.command import natural, positive, read_json, writable, write_json
from centerclip.data.datasets import source_block
from centerclip.data.datasets.checks import add_limits, check_benchmark
from centerclip.gpus import claim
from centerclip.settings import layout
from centerclip.settings.cell import check_current, read_cell
from centerclip.settings.schema import Evaluation, EvaluationBlock, Runtime, add_settings, settings_of


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", type=Path, help="results/BENCHMARK/VARIANT/cell.json")
    parser.add_argument("--out", type=Path, help="file to write (default: evaluation.json beside the cell)")
    parser.add_argument("--gpus", type=natural, default=1, help="GPUs for this job alone; 0: share GPUs (default: 1)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default: 1)")
    add_settings(parser, EvaluationBlock)
    parser.add_argument("--settings", metavar="DIGEST", help="digest of the settings that the cell must have")
    parser.add_argument("--source", type=source_block, help="`source` block that the captions come from, json")
    add_limits(parser)


def job(arguments: argparse.Namespace) -> None:
    runtime = Runtime(evaluation=Evaluation(**settings_of(Evaluation, arguments)))
    cell = read_cell(arguments.cell, runtime=runtime, source=arguments.source, precision=arguments.precision)
    check_current(arguments.cell, arguments.settings)
    out = arguments.out or cell.path(layout.EVALUATION)
    writable(out)
    check_benchmark(cell, arguments)
    claim(arguments.gpus)
    import torch

    from centerclip.backbones.device import computed_in, device_name, pick_device
    from centerclip.data.datasets.manifest import captions_digest
    from centerclip.data.video.batches import stored
    from centerclip.evaluate import metrics, ranks
    from centerclip.evaluate.features import count_cut, count_short, features
    from centerclip.train import checkpoints
    from centerclip.train.finished import build_finished

    torch.set_num_threads(arguments.threads)
    manifest, store, splits = stored(cell, ["test"])
    test, rows = manifest[manifest["split"] == "test"], splits["test"]
    device = pick_device()
    vectors = features(build_finished(cell).to(device), rows, store, cell)
    answers = metrics.answers(*vectors)
    result = {
        "benchmark": cell.benchmark,
        "variant": cell.variant,
        **metrics.metrics(answers, rows["video_id"].nunique()),
        "n_texts_cut": count_cut(rows["caption"], cell),
        "n_videos_short": count_short(rows["video_id"].unique(), store.counts, cell),
        "n_videos_left_out": test["video_id"].nunique() - rows["video_id"].nunique(),
        "n_texts_left_out": int((test["caption"] != "").sum() - (rows["caption"] != "").sum()),
        "training": read_json(cell.path(layout.HISTORY)) if cell.trained else None,
        "provenance": {
            "evaluated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "data_revision": captions_digest(rows, ["test"]),
            "commit": commit(),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "open_clip_torch", "centerclip")},
            "device": device_name(device),
            "precision": computed_in(device, cell.precision),
            "threads": torch.get_num_threads(),
        },
        "settings": cell.settings() | {"precision": cell.precision},
    }
    captioned = rows[rows["caption"] != ""]
    ids = captioned["caption_id"], captioned["video_id"], rows["video_id"].unique()
    ranks.write(ranks.beside(out), metrics.named(answers, *ids))
    write_json(out, result)
    checkpoints.remove(cell.path(layout.CHECKPOINTS))  # the weights are complete


def commit() -> str | None:
    """The commit of this code, with + if files were changed; None outside a git repository."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
