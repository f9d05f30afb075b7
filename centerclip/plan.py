"""What the workflow's jobs read, and what their results depend on, before any job runs."""

import json
import math
import os
import shlex
from functools import cache, partial
from pathlib import Path

from centerclip.backbones.pretrained import published
from centerclip.command import UserError, file_state
from centerclip.data import datasets
from centerclip.data.datasets import checks, planning
from centerclip.data.datasets.files import VIDEO_SUFFIXES, all_files
from centerclip.data.download import sources
from centerclip.method.digest import json_digest
from centerclip.report import forecast, pictures, plots
from centerclip.settings import layout, resolve, revisions
from centerclip.settings.cell import Cell, check_cell
from centerclip.settings.config import check_installed, full_size


class Plan:
    """The cells of a checked config. `prefix` stands before the paths of all results, as in a module of Snakemake's.

    Jobs depend on digests, too, because inputs alone are not enough: if a run stops after an input was made again, and
    the input is then deleted, Snakemake sees no change. `packages`: as in `check_config`.
    """

    def __init__(self, config: dict, prefix: str = "", packages: bool = True):
        self.config, self.prefix, self.packages = config, prefix, packages
        self.cell = cache(partial(resolve.cell, config))  # benchmark, name -> Cell
        self.counts = cache(partial(forecast.counts, config))  # benchmark -> videos and captions of its splits
        self.read = {}  # dataset -> the splits that jobs of this run read
        self.told = set()  # datasets whose `wishes` were told

    def cells(self, benchmark: str) -> list[Cell]:
        """The cells that `all` makes of a benchmark."""
        return [self.cell(benchmark, name) for name in resolve.cell_names(self.config, benchmark)]

    def compared(self, benchmark: str) -> list[Cell]:
        """The cells whose costs are measured together: of a benchmark, or of `layout.FULL_SIZE`."""
        if benchmark == layout.FULL_SIZE:
            return full_size()
        return [self.cell(benchmark, name) for name in resolve.variants(self.config, benchmark)]

    def source(self, benchmark: str) -> dict:
        return self.config["benchmarks"][benchmark]["source"]

    def in_folder(self, benchmark: str) -> bool:
        """Whether the captions are the user's own. Jobs depend on their digests, which tell more than a file's date."""
        return self.source(benchmark)["reader"] == planning.FOLDER

    def own_weights(self, cell: Cell) -> bool:
        """Whether a cell starts from weights in a file of the user's own."""
        return bool(cell.model.weights) and not published(self.config["weights"][cell.model.backbone])

    def settings(self, cell: Cell) -> dict:
        """A cell's settings for its CELL file. With a `prefix`, that file is not in the folder that the path of the
        user's own weights starts from."""
        settings = cell.settings()
        if self.prefix and self.own_weights(cell):
            settings["model"]["weights"] = os.path.relpath(cell.model.weights, self.prefix)
        return settings

    def misfit(self, cell: Cell) -> str:
        """Why a cell cannot be made: settings that do not fit each other, or a missing package; '' if it can."""
        try:
            check_cell(cell)
            if self.packages:
                check_installed(self.config, cell)
        except UserError as error:
            return str(error)
        return ""

    def untrained(self, cell: Cell) -> str:
        """Why a cell has no weights of its own; '' if it has."""
        return "" if cell.trained else f"{cell.name} is evaluated as it starts, and not trained"

    def not_run(self, plot: str) -> str:
        """Why a plot is not made; '' if it is."""
        grid = plot.partition(plots.ABLATION)[2]
        return f"{grid} is not one of run.grids" if grid and grid not in self.config["run"]["grids"] else ""

    def plotted(self, benchmark: str, plot: str) -> list[str]:
        """The variants that a plot shows: its grid's points, or the benchmark's list."""
        grid = plot.partition(plots.ABLATION)[2]
        return list(resolve.points(self.config, grid)) if grid else resolve.listed(self.config, benchmark)

    def pictured(self, benchmark: str, picture: str) -> list[Cell]:
        """The cells that a picture shows."""
        return pictures.pictures_of(self.compared(benchmark)).get(picture, [])

    def figures(self, benchmark: str) -> list[str]:
        """The files of a benchmark's plots and pictures that are not empty."""
        cells, run = self.compared(benchmark), self.config["run"]
        drawn = [layout.PLOT.format(benchmark=benchmark, plot=plot)
                 for plot in plots.plots_of(cells, run["grids"], run["costs"])]  # fmt: skip
        shown = [layout.PICTURE.format(benchmark=benchmark, picture=name) for name in pictures.pictures_of(cells)]
        return [f"{plot}.{kind}" for plot in drawn for kind in ("png", "svg")] + shown

    def options(self, cell: Cell, kind: str) -> str:
        """The options of a cell's job that change no result, `kind` of Runtime, with the user's own captions, which the
        job reads, and the digest that `check_current` compares."""
        block = self.source(cell.benchmark)
        source = ["--source", json.dumps(block)] if self.in_folder(cell.benchmark) else []
        settings = ["--settings", json_digest(self.settings(cell))]
        return f"{getattr(cell.runtime, kind)} {shlex.join([*settings, *source])}"

    def frames_options(self, dataset: str) -> str:
        """The options of a shard's job that change no result, and the user's own captions, which the job reads."""
        names = resolve.benchmarks_of(self.config, dataset)
        blocks = [json.dumps(self.source(name)) for name in names if self.in_folder(name)]
        sources = ["--sources", *blocks] if blocks else []
        return shlex.join(["--stall-seconds", str(self.config["stall_seconds"]), *sources])

    def shard_reports(self, dataset: str, size: str) -> list[str]:
        """The reports of all shards of a dataset."""
        numbers = range(self.config["benchmarks"][dataset]["shards"])
        return [layout.SHARD_REPORT.format(dataset=dataset, size=size, shard=f"{number:04d}") for number in numbers]

    def manifests(self, *benchmarks: str) -> list[str]:
        """The manifests that a job reads; none for the user's own captions, as a manifest changes with the captions of
        other splits, too. (`ancient` does not help: while that file is being made, Snakemake skips the other jobs that
        depend on it.)"""
        return [layout.MANIFEST.format(benchmark=name) for name in benchmarks if not self.in_folder(name)]

    def raw_files(self, benchmark: str) -> list[str]:
        """The fetched files that a manifest is read from; none for the user's own captions."""
        source = layout.SOURCE.format(dataset=resolve.dataset(self.config, benchmark))
        return [] if self.in_folder(benchmark) else [source]

    def fetch_revision(self, dataset: str) -> int | None:
        """The revision of a generated dataset's files; None for downloads."""
        return revisions.MANIFEST if self.source(dataset)["reader"] == "shapes" else None

    def captions(self, benchmark: str) -> str:
        """The digest of what a manifest is made of besides fetched files: the user's own captions or, in a partial
        benchmark, the names of the videos in the user's own folder, so that a new video is noticed; else ''."""
        local = self.source(resolve.dataset(self.config, benchmark)).get("local") or {}
        if self.config["benchmarks"][benchmark].get("partial") and "videos" in local:
            files = all_files(local["videos"])  # none of a missing folder, which the job reports
            return json_digest(*sorted(file for file in files if file.lower().endswith(VIDEO_SUFFIXES)))
        return planning.captions(self.source(benchmark))

    def fetch_priority(self, dataset: str) -> float:
        """The priority of fetching a dataset's files: files that need no download come first."""
        return 0.5 if forecast.to_download(self.source(dataset)) else 1

    def training_priority(self, cell: Cell) -> float:
        """The priority of a cell's training: above 1, higher for more operations; 1 where their number is unknown."""
        try:
            steps = forecast.steps_of(cell, self.counts(cell.benchmark))
        except UserError:
            return 1
        return 1 + math.log10(1 + steps * cell.training.batch_size * forecast.pair(cell)) / 100

    def wishes(self, dataset: str) -> list[str]:
        """What the user must do to have the files of a dataset, a line each; told once, while the files are missing."""
        there = Path(self.prefix + layout.SOURCE.format(dataset=dataset)).exists() or dataset in self.told
        self.told.add(dataset)
        return [] if there else sources.wishes(dataset, self.source(dataset))

    def splits(self, dataset: str) -> list[str]:
        """The splits whose frames are stored: all that this run or an earlier run reads; without any reader, all."""
        file = Path(self.prefix + layout.SPLITS.format(dataset=dataset))
        read = self.read.get(dataset, set()) | set(checks.needed_splits(file) if file.exists() else [])
        return [split for split in datasets.SPLITS if split in (read or datasets.SPLITS)]

    def shards(self, dataset: str) -> list[str]:
        """A digest for each shard of a dataset, of its clips and of the states of their files."""
        names = resolve.benchmarks_of(self.config, dataset)
        manifests = [Path(self.prefix + layout.MANIFEST.format(benchmark=name)) for name in names]
        sources = zip(map(self.source, names), manifests, strict=True)
        return planning.shards(sources, self.splits(dataset), self.config["benchmarks"][dataset]["shards"])

    def weights_from(self, cell: Cell) -> str:
        """The digest of what a cell's trained weights depend on."""
        splits = [split for split in cell.splits if split != "test"]
        return self.seen(cell, splits, revisions.of_training(cell))

    def metrics_from(self, cell: Cell) -> str:
        """The digest of what a cell's metrics depend on."""
        return self.seen(cell, cell.splits, [cell.precision, *revisions.of_evaluation(cell)])

    def seen(self, cell: Cell, splits: list[str], how: list) -> str:
        """The digest of a cell's settings and data, with the captions of `splits`, and of `how`."""
        captions = planning.captions(self.source(cell.benchmark), splits)
        weights = file_state(cell.model.weights) if self.own_weights(cell) else ""
        return json_digest(self.settings(cell), captions, self.shards(cell.dataset), weights, how)

    def tables_from(self, *benchmarks: str) -> str:
        """The digest of what the tables of benchmarks depend on."""
        recalls = [self.metrics_from(cell) for name in benchmarks for cell in self.cells(name)]
        compared = [self.compared(name) for name in benchmarks if self.config["run"]["costs"]]
        costs = [[cell.cost_settings() for cell in cells] + revisions.of_costs(cells) for cells in compared]
        return json_digest(recalls, costs)
