"""After any edits, deletions and kills, a run that succeeds has every target as a fresh run makes it.

The real Snakefile runs; its jobs are `support.hashed`. CENTERCLIP_EDITS is the number of steps (200 take 10 minutes),
CENTERCLIP_EDITS_SEED says which.
"""

import copy
import json
import os
import random
import shutil
import signal
import sys
import time
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
        kind = self.draw.choice(
            ["caption", "video", "gone", "row", "lr", "fps", "counts", "share", "seed", "columns", "source"]
            + ["precision"] + ["well"] * 3 + ["delete"] * 4 + ["results"] * 2 + ["touch"] * 2 + ["targets"] * 2
        )  # fmt: skip
        if kind == "caption":
            self.draw.choice(self.rows)[2] = self.draw.choice(["red", "green", "blue"])
        elif kind == "video":
            self.videos[self.draw.choice(list(self.videos))] = self.draw.choice(["this", "that 2"])
        elif kind == "gone":
            del self.videos[self.draw.choice(list(self.videos))]
        elif kind == "row":
            name = f"new{len(self.rows)}.mp4"
            self.rows.append([name, self.draw.choice(hashed.SPLITS), "new"])
            self.videos[name] = "new"
        elif kind == "lr":
            self.config["training"] = {"lr": self.draw.choice([0.1, 0.2, 0.3])}
        elif kind == "precision":
            self.config["evaluation"] = {"precision": self.draw.choice(["float32", "float16"])}
        elif kind == "fps":
            block["fps"] = self.draw.choice([2, 3])
        elif kind == "counts":
            block["counts"] = self.draw.choice([None, {"test": {"captions": self.draw.choice([2, 5])}}])
        elif kind == "share":
            block["max_unreadable_share"] = self.draw.choice([0.0, 0.1, 0.9])
        elif kind == "seed":
            self.config["seeds"] = [self.draw.choice([1, 2])]
        elif kind == "columns":
            self.config["benchmarks"]["mine"]["source"]["columns"] = {"video": "video"}
        elif kind == "well":
            self.videos |= {name: "again" for name, *_ in self.rows if name not in self.videos}
            for name in ("mine", "shapes"):
                self.config["benchmarks"][name] |= {"counts": None, "max_unreadable_share": 0.2}
        elif kind == "delete" and made:
            for path in self.draw.sample(made, min(len(made), self.draw.choice([1, 1, 5, 20]))):
                path.unlink()
        elif kind == "results":
            for path in (self.directory / "results").glob("*.json"):
                path.unlink()
        elif kind == "source":
            shutil.rmtree(self.directory / "results/shapes/source", ignore_errors=True)
        elif kind == "touch" and made:
            os.utime(self.draw.choice(made))
        elif kind == "targets":
            self.targets = self.draw.sample(TARGETS, self.draw.choice([1, 2, len(TARGETS)]))
        return kind

    def run(self, kill_after: float | None = None) -> tuple[int, str]:
        """What Snakemake ends with and says; it may be killed."""
        log = self.directory / "log"
        arguments = [
            *self.targets,
            "-s",
            str(REPOSITORY / "Snakefile"),
            "--directory",
            str(self.directory),
            "--nolock",
            "--cores",
            "2",
        ]
        arguments += ["--rerun-incomplete", "--configfile", str(self.directory / "small.yaml")]
        if not (process := os.fork()):  # of a process that has imported Snakemake: that takes longest
            with open(log, "w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            os.chdir(self.directory)
            os.environ["PATH"] = f"{self.directory / 'bin'}:{os.environ['PATH']}"
            status = 99
            try:
                main(arguments)
            except SystemExit as ended:
                status = int(ended.code or 0)
            finally:
                os._exit(status)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status < 0:
            time.sleep(0.5)  # for jobs that still run
        return status, log.read_text()

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
                contents[f"results/tables/{benchmark}.{'md' if benchmark == 'mine' else 'csv'}"] = hashed.digest(
                    *results
                )
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


def main(arguments: list[str]) -> None:
    from snakemake import cli

    cli.main(arguments)


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
