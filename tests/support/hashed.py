"""Stands in for `python -m centerclip` in jobs of the real workflow: what it writes is a hash of all that a result
depends on, so that a job that was wrongly left out shows. `expected` says what must come out, without any workflow.

It reads real arguments and writes the real files, but decodes, trains and draws nothing: a job takes 50 ms.
"""

import csv
import hashlib
import json
import os
import random
import signal
import sys
import zlib
from pathlib import Path

SPLITS = ("train", "val", "test")


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def rows_of(source: dict, raw: Path | None) -> list[dict]:
    """The manifest's rows: of a user's csv, or of what `fetch` wrote."""
    file = Path(source["captions"]) if source["reader"] == "folder" else raw / "captions.csv"
    videos = Path(source["videos"]) if source["reader"] == "folder" else raw
    with open(file, newline="") as lines:
        return [row | {"path": str(videos / row["video"])} for row in csv.DictReader(lines)]


def fetched(source: dict) -> str:
    names = [(f"{split}{number}.mp4", split) for split in SPLITS for number in range(2)]
    return "video,split,caption\n" + "".join(f"{name},{split},{digest(source, name)}\n" for name, split in names)


def frames_of(path: str, fps: object, size: int) -> str:
    """What is stored of a video; '' for one that is not there."""
    return digest(Path(path).read_text(), str(fps), int(size)) if os.path.isfile(path) else ""


def check(rows: list[dict], frames: dict[str, str], splits: list[str], limits: dict) -> None:
    """Raise ValueError where the rows have other counts, or the videos of splits too few frames."""
    for key, number in limits.get("expect", {}).items():
        split, what = key.split(".")
        found = [row["video" if what == "videos" else "caption"] for row in rows if row["split"] == split]
        if len(set(found) if what == "videos" else found) != int(number):
            raise ValueError(f"{key} is not {number}")
    needed = {row["video"] for row in rows if row["split"] in splits}
    if sum(not frames.get(name, "") for name in needed) > float(limits.get("share", 1)) * len(needed):
        raise ValueError("too few frames")


def seen(rows: list[dict], frames: dict[str, str], splits: list[str], told: list[str]) -> list:
    """What a cell sees: the frames of splits, and the captions of those that are told."""
    return [sorted({(row["video"], frames[row["video"]]) for row in rows if row["split"] in splits}),
            [(row["video"], row["caption"]) for row in rows if row["split"] in told]]  # fmt: skip


def trained(cell: dict, rows: list[dict], frames: dict[str, str]) -> str:
    """A test caption that changes does not train again: docs/resume.md."""
    return digest("train", cell, seen(rows, frames, ["train", "test"], ["train"]))


def evaluated(cell: dict, rows: list[dict], frames: dict[str, str], weights: str, precision: str) -> dict:
    return {"settings": cell, "value": digest("evaluate", seen(rows, frames, ["test"], ["test"]), weights, precision)}


def splits_of(cell: dict) -> list[str]:
    return ["test", "train"] if cell["training"] else ["test"]


# The same from files, as jobs do


def stored(report: Path) -> dict[str, str]:
    with open(report, newline="") as lines:
        return {row["video_id"]: row["frames"] for row in csv.DictReader(lines)}


def write(path: str | Path, text: str) -> None:
    from centerclip.command import atomic

    with atomic(Path(path)) as temporary:
        temporary.write_text(text)


def write_report(path: str | Path, frames: dict[str, str]) -> None:
    write(path, "video_id,frames\n" + "".join(f"{name},{value}\n" for name, value in frames.items()))


def read_rows(path: Path) -> list[dict]:
    with open(path, newline="") as lines:
        return list(csv.DictReader(lines))


class Job:
    """The commands; `words` are the arguments behind options, by option, those before any at ''."""

    def __init__(self, words: dict[str, list[str]]):
        self.words = words
        expect = dict(word.split("=") for word in words.get("--expect", []))
        self.limits = {"expect": expect, "share": words.get("--max-unreadable-share", ["1"])[0]}

    def one(self, option: str) -> str:
        return self.words[option][0]

    def cell(self) -> tuple[Path, dict, list[dict], dict[str, str]]:
        path = Path(self.one(""))
        cell, benchmark = json.loads(path.read_text()), path.parent.parent
        frames = benchmark.parent / cell["dataset"] / f"frames/{cell['data']['image_size']}px/report.csv"
        source = self.words.get("--source")
        rows = rows_of(json.loads(source[0]), None) if source else read_rows(benchmark / "manifest.csv")
        found = stored(frames)
        check(rows, found, splits_of(cell), self.limits)
        return path.parent, cell, rows, found

    def fetch(self) -> None:
        settings = json.loads(Path(self.one("")).read_text())
        source = Path(self.one("")).parent / "source"
        source.mkdir(exist_ok=True)
        write(source / "captions.csv", fetched(settings["source"]))
        for row in rows_of(settings["source"], source):
            write(row["path"], digest(settings["source"], row["video"]))

    def manifest(self) -> None:
        path = Path(self.one(""))
        settings = json.loads(path.read_text())
        rows = rows_of(settings["source"], path.parent / "source")
        splits = json.loads(Path(self.one("--splits")).read_text())["splits"]
        check(rows, {row["video"]: str(os.path.isfile(row["path"]) or "") for row in rows}, splits, self.limits)
        lines = [
            f"{row['video']},{row['video']},{row['split']},{row['path']},{row['caption']},{number},0,"
            for number, row in enumerate(rows)
        ]
        header = "video,video_id,split,path,caption,caption_id,start_s,end_s"
        write(path.parent / "manifest.csv", "\n".join([header, *lines]) + "\n")

    def frames(self) -> None:
        tables = [read_rows(Path(path)) for path in self.words["--manifests"]]
        tables += [rows_of(json.loads(source), None) for source in self.words.get("--sources", [])]
        splits = json.loads(Path(self.one("--splits")).read_text())["splits"]
        shard, shards = Path(self.one("")), int(self.one("--shards"))
        paths = {row["video"]: row["path"] for rows in tables for row in rows if row["split"] in splits}
        mine = {name: path for name, path in paths.items() if zlib.crc32(path.encode()) % shards == int(shard.stem)}
        found = {name: frames_of(path, self.one("--fps"), self.one("--size")) for name, path in mine.items()}
        write(shard, json.dumps(found))
        write_report(shard.with_suffix(".csv"), found)

    def frames_report(self) -> None:
        parts = [stored(Path(path)) for path in self.words[""]]
        write_report(self.one("--out"), {name: value for part in parts for name, value in part.items()})

    def train(self) -> None:
        directory, cell, rows, frames = self.cell()
        write(directory / "weights.safetensors", trained(cell, rows, frames))
        write(directory / "history.json", "{}")

    def evaluate(self) -> None:
        directory, cell, rows, frames = self.cell()
        weights = (directory / "weights.safetensors").read_text() if cell["training"] else ""
        text = json.dumps(evaluated(cell, rows, frames, weights, self.one("--precision")))
        for name in ("evaluation.ranks.npz", "evaluation.json"):
            write(directory / name, text)

    def result(self) -> None:
        directory, *_ = self.cell()
        results = directory.parent.parent
        for suffix in ("ranks.npz", "json"):
            text = (directory / f"evaluation.{suffix}").read_text()
            write(results / f"{directory.parent.name}_{directory.name}.{suffix}", text)

    def table(self) -> None:
        text = digest(*(Path(path).read_text() for path in self.words["--cells"]))
        for suffix in ("csv", "html", "md", "tex"):
            write(f"{self.one('--out')}.{suffix}", text)

    def summary(self) -> None:
        text = digest(*(Path(path).read_text() for path in self.words["--tables"]))
        for path in (f"{self.one('--out')}.html", f"{self.one('--out')}.md", self.one("--findings")):
            write(path, text)


def main() -> None:
    """`python -m centerclip COMMAND ...`. A job may end by SIGKILL, as likely as the file `fate` says."""
    from centerclip.command import FAILED, marked

    command, *arguments = sys.argv[3:]
    words, option = {"": []}, ""
    for word in arguments:
        if word.startswith("--"):
            option = word
            words[option] = []
        else:
            words[option].append(word)
    if command == "partial":
        return
    log = Path(words["--log"][0])
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    likely, step = Path("fate").read_text().split()
    draw, likely = random.Random(f"{step} {arguments}"), float(likely)
    with marked(Path(f"{log}{FAILED}")):
        if draw.random() < likely / 2:
            os.kill(os.getpid(), signal.SIGKILL)
        getattr(Job(words), command.replace("-", "_"))()
        if draw.random() < likely / 2:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
