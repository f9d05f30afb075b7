"""One cell of the demo made from nothing in several ways: how long each takes, and that they agree.

python tests/ways_to_train.py --out docs/benchmarks/DATE-training.json
"""

import argparse
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from support import slurm
from support.workflow import ENVIRONMENT, SNAKEMAKE, copy_repository, result

from centerclip.command import run, write_json

VARIANT = "kmedoids"
WAYS = {  # changes to the demo's config
    "local": {},
    "two processes (gloo)": {"training": {"gpus": 2}},
    "chunks of 16 of 64": {"training": {"chunk": 16}},
    "recomputed activations": {"training": {"grad_checkpointing": True}},
    "SLURM": {},
}


@contextmanager
def machine(way: str, directory: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The arguments and the environment for Snakemake to go this way."""
    if way != "SLURM":
        yield ["--cores", "2"], ENVIRONMENT
        return
    directory.mkdir()
    with slurm.cluster(directory, ENVIRONMENT, gpus=2, cpus=8) as environment:
        yield ["--workflow-profile", "workflow/profiles/slurm"], environment


def go(way: str, directory: Path) -> dict:
    """A row: what it took to make the cell this way, its recall, losses and weights."""
    repository = copy_repository(directory / "repository", WAYS[way])
    with machine(way, directory / "slurm") as (arguments, environment):
        command = [*SNAKEMAKE, "--configfile", "config/demo.yaml", "small.yaml", *arguments]
        start = time.perf_counter()
        subprocess.run([*command, f"results/shapes_{VARIANT}.json"], cwd=repository, env=environment, check=True)
        seconds = time.perf_counter() - start
    made = result(repository, VARIANT)
    weights = (repository / f"results/shapes/{VARIANT}/weights.safetensors").read_bytes()
    return {
        "how": way,
        "seconds": round(seconds),
        "of which training": round(made["training"]["seconds"]),
        "t2v R@1": round(made["text_to_video"]["R@1"], 2),
        "losses": [epoch["loss"] for epoch in made["training"]["epochs"]],
        "weights' sha256": hashlib.sha256(weights).hexdigest()[:12],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)

    def job(arguments: argparse.Namespace) -> None:
        rows = []
        for way in WAYS:
            if way == "SLURM" and (reason := slurm.missing()):
                print(f"left out: {way}, {reason}")
                continue
            with tempfile.TemporaryDirectory() as directory:
                rows.append(go(way, Path(directory)))
            apart = [abs(loss / first - 1) for loss, first in zip(rows[-1]["losses"], rows[0]["losses"], strict=True)]
            rows[-1]["largest difference of a loss, %"] = round(100 * max(apart), 3)
        print(pd.DataFrame(rows).drop(columns="losses").to_markdown(index=False))
        write_json(arguments.out, {"rows": rows})

    run(parser, job)


if __name__ == "__main__":
    main()
