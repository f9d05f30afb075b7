"""After any edits, deletions and kills, a run that succeeds has every target as a fresh run makes it.

The real Snakefile runs; its jobs are `support.hashed`. CENTERCLIP_EDITS is the number of steps (200 take 10 minutes),
CENTERCLIP_EDITS_SEED says which.
"""

import copy
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import yaml
from conftest import REPOSITORY
from support import hashed

from centerclip.settings.config import BASE, merged, read_yaml
from centerclip.settings.resolve import cell

STEPS, SEED = int(os.environ.get("CENTERCLIP_EDITS", "6")), int(os.environ.get("CENTERCLIP_EDITS_SEED", "0"))
FOLDER = {
    "source": {"reader": "folder", "videos": "v", "captions": "c.csv"},
    **{"fps": 3, "shards": 2, "max_unreadable_share": 0.2, "frames": 6, "text_tokens": 32},
    "stage": {"block": 2, "segments": 2, "clusters": 49},
}
CONFIG = {
    "run": {"benchmarks": ["mine", "shapes"], "variants": ["zeroshot", "baseline"], "costs": False},
    "backbone": "tiny",
    "benchmarks": {"mine": FOLDER, "shapes": {"shards": 2}},
}
RESULTS = [f"results/{benchmark}_{name}.json" for benchmark in ("mine", "shapes") for name in ("zeroshot", "baseline")]
TARGETS = [*RESULTS, "results/tables/mine.md", "results/tables/shapes.csv", "results/tables/summary.md"]
OLD = 10**9  # seconds: a time before that of all files


class World:
    """A directory with a config, captions and videos of the user's, and what Snakemake makes of them."""

    def __init__(self, directory: Path, seed: int):
        self.directory, self.draw, self.config = directory, random.Random(seed), copy.deepcopy(CONFIG)
        self.rows = [[f"{split}{number}.mp4", split, "grey"] for split in hashed.SPLITS for number in range(5)]
        self.videos = {name: "at first" for name, *_ in self.rows}
        self.fate, self.targets = 0.0, TARGETS
        (directory / "v").mkdir()
        (directory / "bin").mkdir()
        python = directory / "bin/python"
        python.write_text(f"#!{sys.executable} -S\n{Path(hashed.__file__).read_text()}")
        python.chmod(0o755)

    def write(self) -> None:
        """The files, those that changed alone, and with a date that says nothing."""
        texts = {"c.csv": "video,split,caption\n" + "".join(",".join(row) + "\n" for row in self.rows)}
        texts |= {f"v/{name}": text for name, text in self.videos.items()}
        for name, text in texts.items():
            path = self.directory / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                times = (OLD, OLD) if self.draw.random() < 0.5 else None
                os.utime(path, times)
        for path in (self.directory / "v").iterdir():
            if path.name not in self.videos:
                path.unlink()
        (self.directory / "small.yaml").write_text(yaml.safe_dump(self.config))
        (self.directory / "fate").write_text(f"{self.fate} {self.draw.random()}")

    def edit(self) -> str:
        """Change something; returns what."""
        block = self.config["benchmarks"][self.draw.choice(["mine", "shapes"])]
        made = [path for path in (self.directory / "results").rglob("*") if path.is_file()]
        made = sorted(path for path in made if "source" not in path.parts)  # a directory is one output
        choice, config = self.draw.choice, self.config

        def new_row() -> None:
            name = f"new{len(self.rows)}.mp4"
            self.rows.append([name, choice(hashed.SPLITS), "new"])
            self.videos[name] = "new"

        def mend() -> None:
            self.videos |= {name: "again" for name, *_ in self.rows if name not in self.videos}
            for name in ("mine", "shapes"):
                config["benchmarks"][name] |= {"counts": None, "max_unreadable_share": 0.2}

        def delete(paths: Iterable[Path]) -> None:
            for path in paths:
                path.unlink()

        edits = {
            "caption": lambda: choice(self.rows).__setitem__(2, choice(["red", "green", "blue"])),
            "video": lambda: self.videos.update({choice(list(self.videos)): choice(["this", "that 2"])}),
            "gone": lambda: self.videos.pop(choice(list(self.videos))),
            "row": new_row,
            "lr": lambda: config.update(training={"lr": choice([0.1, 0.2, 0.3])}),
            "precision": lambda: config.update(evaluation={"precision": choice(["float32", "float16"])}),
            "fps": lambda: block.update(fps=choice([2, 3])),
            "counts": lambda: block.update(counts=choice([None, {"test": {"captions": choice([2, 5])}}])),
            "share": lambda: block.update(max_unreadable_share=choice([0.0, 0.1, 0.9])),
            "seed": lambda: config.update(seeds=[choice([1, 2])]),
            "columns": lambda: config["benchmarks"]["mine"]["source"].update(columns={"video": "video"}),
            "source": lambda: shutil.rmtree(self.directory / "results/shapes/source", ignore_errors=True),
            "well": mend,
            "delete": lambda: delete(self.draw.sample(made, min(len(made), choice([1, 1, 5, 20])))),
            "results": lambda: delete((self.directory / "results").glob("*.json")),
            "touch": lambda: made and os.utime(choice(made)),
            "targets": lambda: setattr(self, "targets", self.draw.sample(TARGETS, choice([1, 2, len(TARGETS)]))),
        }
        often = {"well": 3, "delete": 4, "results": 2, "touch": 2, "targets": 2}
        (kind,) = self.draw.choices([*edits], [often.get(name, 1) for name in edits])
        edits[kind]()
        return kind

    def run(self, kill_after: float | None = None) -> tuple[int, str]:
        """What Snakemake ends with and says; it may be killed. It runs in a fork, as its import takes longest."""
        process = multiprocessing.get_context("fork").Process(target=self.snakemake)
        process.start()
        process.join(kill_after)
        process.kill()
        process.join()
        if process.exitcode < 0:
            time.sleep(0.5)  # for jobs that still run
        return process.exitcode, (self.directory / "log").read_text()

    def snakemake(self) -> None:
        from snakemake import cli

        with open(self.directory / "log", "w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.chdir(self.directory)
        os.environ["PATH"] = f"{self.directory / 'bin'}:{os.environ['PATH']}"
        options = f"--snakefile {REPOSITORY}/Snakefile --nolock --cores 2 --rerun-incomplete --configfile small.yaml"
        cli.main([*self.targets, *options.split()])

    def expected(self) -> dict[str, str]:
        """The content of each target, as a fresh run makes it; of those alone that it makes."""
        config = merged(read_yaml([BASE])[str(BASE)], self.config)
        precision = config["evaluation"]["precision"]
        contents = {}
        for benchmark in ("mine", "shapes"):
            block, results = config["benchmarks"][benchmark], []
            counts = (block.get("counts") or {}).items()
            expect = {f"{split}.{what}": number for split, numbers in counts for what, number in numbers.items()}
            if benchmark == "mine":
                rows = [dict(zip(("video", "split", "caption"), row, strict=True)) for row in self.rows]
                texts = self.videos
            else:
                lines = hashed.fetched(block["source"]).splitlines()[1:]
                rows = [dict(zip(("video", "split", "caption"), line.split(","), strict=True)) for line in lines]
                texts = {row["video"]: hashed.digest(block["source"], row["video"]) for row in rows}
            frames = {row["video"]: "" for row in rows}
            frames |= {name: hashed.digest(text, str(block["fps"]), 56) for name, text in texts.items()}
            for name in ("zeroshot", "baseline"):
                settings = cell(config, benchmark, name).settings()
                try:
                    limits = {"expect": expect, "share": block["max_unreadable_share"]}
                    hashed.check(rows, frames, hashed.splits_of(settings), limits)
                except ValueError:
                    continue
                weights = hashed.trained(settings, rows, frames) if settings["training"] else ""
                results.append(json.dumps(hashed.evaluated(settings, rows, frames, weights, precision)))
                contents[f"results/{benchmark}_{name}.json"] = results[-1]
            if len(results) == 2:
                suffix = "md" if benchmark == "mine" else "csv"
                contents[f"results/tables/{benchmark}.{suffix}"] = hashed.digest(*results)
        tables = [contents[path] for path in TARGETS[4:6] if path in contents]
        return contents | ({TARGETS[6]: hashed.digest(*tables)} if len(tables) == 2 else {})

    def check(self, status: int, told: str, killed: bool) -> None:
        """Whether what a run said is so."""
        expected = self.expected()
        wanted = {target: expected.get(target) for target in self.targets}
        if status == 0:
            made = {target: (self.directory / target).read_text() for target in self.targets}
            assert made == wanted, told
        elif not killed:  # it may fail for too few videos of splits that only earlier runs needed
            assert None in wanted.values() or "videos are there (" in told or "too few frames" in told, told


def test_a_run_that_succeeds_has_every_target_as_a_fresh_run_makes_it(tmp_path):
    import snakemake.cli  # noqa: F401

    world, ended = World(tmp_path, SEED), []
    for step in range(STEPS):
        edits = [world.edit() for _ in range(world.draw.choice([0, 1, 1, 2, 3]))] if step else []
        world.fate = world.draw.choice([0.0, 0.0, 0.0, 0.05, 0.3])
        world.write()
        kill = world.draw.uniform(0.3, 4) if world.draw.random() < 0.2 else None
        status, told = world.run(kill)
        killed = status < 0 or world.fate > 0
        world.check(status, told, killed)
        ended.append(status)
        print(step, edits, world.fate, kill, status, flush=True)
    assert STEPS < 20 or ended.count(0) > STEPS / 8  # many fail, as they must: jobs are killed and limits not kept
