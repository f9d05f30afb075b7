"""Compare models with a baseline on the same queries: metrics with intervals, and the queries that flip."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from centerclip.command import UserError, read_json, shown
from centerclip.data.datasets.manifest import read_manifest
from centerclip.evaluate import ranks, statistics
from centerclip.evaluate.ranks import DIRECTIONS, Ranks
from centerclip.evaluate.statistics import DRAWS, Estimate
from centerclip.report.documents import Document, Table
from centerclip.report.rows import R1, naming
from centerclip.settings import layout


class Model(NamedTuple):
    """A model's name, its first file, its benchmark's manifest (None if captions are unknown), and the ranks of its
    trainings by seed (None if the file names no seed)."""

    name: str
    file: Path
    manifest: Path | None
    trainings: dict[int | None, dict[str, Ranks]]


class Comparison(NamedTuple):
    """A model beside its baseline. seeds: seeds of the paired trainings. pairs: their ranks. values: SCORES and R_SUM
    [2, S, M], the baseline's first. differences: the model's minus the baseline's."""

    baseline: Model
    model: Model
    seeds: list[int | None]
    pairs: list[tuple[dict[str, Ranks], dict[str, Ranks]]]
    values: np.ndarray
    differences: dict[str, Estimate]


def models(files: list[Path], group_equal_videos: bool = False) -> list[Model]:
    """The models of results, files of ranks and files of vectors, in the order of the files. Results of one folder,
    benchmark and variant are trainings of one model. Raises UserError for other files, and for a result without
    ranks."""
    found = {}
    for file in files:
        model = read(file, group_equal_videos)
        found.setdefault((file.parent, model.manifest, model.name), model).trainings.update(model.trainings)
    names = [model.name for model in found.values()]
    return [model if names.count(model.name) == 1 else model._replace(name=str(model.file)) for model in found.values()]


def read(file: Path, group_equal_videos: bool) -> Model:
    """The model of one file. Texts and videos of a file of vectors are named by their numbers."""
    if file.suffix == ".json":
        content = read_json(file)
        with naming(file, "a result, such as results/shapes_kmedoids.json"):
            settings = content["settings"]
            name, seed = settings["variant"], settings["seed"]
            manifest = layout.path(layout.MANIFEST, file.parent, benchmark=settings["benchmark"])
        path = ranks.beside(file)
        if not path.exists():
            raise UserError(f"{path}: no such file; {layout.remake(path, layout.RANKS)}")
        return Model(name, file, manifest, {seed: ranks.read(path)})
    if file.name.endswith(ranks.SUFFIX):
        return Model(file.name, file, None, {None: ranks.read(file)})
    from centerclip.evaluate import metrics, vector_file  # imports torch, which doubles the time for results

    texts, videos, truth = vector_file.read(file, group_equal_videos)
    found = metrics.numbered(metrics.answers(texts, videos, truth), truth, len(videos))
    return Model(file.name, file, None, {None: found})


def compare(model: Model, baseline: Model) -> Comparison:
    """Compare the trainings of the seeds that both models have. A file without a seed is compared with the other
    model's first training. Raises UserError for models without a common seed or with different queries."""
    seeds = [seed for seed in baseline.trainings if seed in model.trainings]
    pairs = [(baseline.trainings[seed], model.trainings[seed]) for seed in seeds]
    if not seeds and None in (*baseline.trainings, *model.trainings):
        seeds, pairs = [None], [tuple(next(iter(side.trainings.values())) for side in (baseline, model))]
    if not seeds:
        of_both = "; ".join(", ".join(map(str, side.trainings)) for side in (baseline, model))
        raise UserError(f"{baseline.file} and {model.file}: no seed in common: {of_both}")
    before, after = zip(*pairs, strict=True)
    try:
        counts = statistics.histograms([*after, *before])
    except UserError as error:
        raise UserError(f"{baseline.file} and {model.file}: {error}") from None
    own, other = np.split(statistics.measured(counts), 2)
    differences = statistics.differences(after, before, counts)
    return Comparison(baseline, model, seeds, pairs, np.stack([other, own]), differences)


def for_programs(comparison: Comparison) -> pd.DataFrame:
    """The rows of a csv, one for each metric."""
    before, after = comparison.values.mean(1)
    numbers = pd.DataFrame(comparison.differences.values()).rename(columns={"value": "difference"})
    names = {"baseline": comparison.baseline.name, "model": comparison.model.name}
    columns = names | {"metric": list(comparison.differences), "of_baseline": before, "of_model": after}
    return pd.DataFrame(columns).join(numbers)


def for_people(comparison: Comparison, flips: int) -> Document:
    """The table of a comparison, its explanation, and the `flips` largest gains and losses of each direction."""
    rows = []
    for name, before, after, found in zip(
        comparison.differences, *comparison.values.swapaxes(1, 2), comparison.differences.values(), strict=True
    ):
        numbers = with_spread(before), with_spread(after), with_spread(after - before, "+.1f")
        interval = f"[{found.low:+.1f}, {found.high:+.1f}]"
        rows.append([name, *numbers, interval, "<0.001" if found.p < 0.001 else f"{found.p:.3f}"])
    columns = ["", comparison.baseline.name, comparison.model.name, "difference", "95 % interval", "p"]
    lines = [part for direction in DIRECTIONS for part in flipped(comparison, direction, flips)]
    return [Table(pd.DataFrame(rows, columns=columns)), sentences(comparison), *lines]


def with_spread(values: np.ndarray, numbers: str = ".1f") -> str:
    """The mean of `values` [S] and, for more than one value, their standard deviation."""
    return f"{values.mean():{numbers}}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def sentences(comparison: Comparison) -> str:
    """Sentences on what the interval and the spread cover, and whether R1 tells the models apart."""
    found, name, baseline = comparison.differences[R1], comparison.model.name, comparison.baseline.name
    noise, seeds = "One training each: training noise is", ""
    if found.seeds > 1:
        seeds = f" and {found.seeds} seeds"
        noise = f"{found.seeds} trainings each, of seeds {', '.join(map(str, comparison.seeds))}: ± is their standard"
        noise += " deviation, which is"
    drawn = f"Interval: videos resampled {DRAWS:,} times with all their captions. {noise} not in the interval."
    needed, size = found.enough(), f"{abs(found.value):.1f} points"
    if needed is None:
        verdict = f"{name} and {baseline} have the same."
    elif found.told:
        verdict = f"{name} is {size} {'above' if found.value > 0 else 'below'} {baseline}: told apart."
    else:
        more = f"{float(f'{needed[0]:.3g}'):,.0f} captions" + (f" and {needed[1]} seeds" if seeds else "")
        verdict = f"{name} and {baseline} cannot be told apart by {found.queries:,} captions{seeds};"
        verdict += f" about {more} would tell {size}."
    return f"{drawn}\n{R1}: {verdict}"


def flipped(comparison: Comparison, direction: str, count: int) -> Document:
    """The numbers of queries that a direction gains and loses at rank 1, then a list of the `count` largest of each."""
    baseline, model = comparison.baseline.name, comparison.model.name
    before, after = comparison.pairs[0]
    gained, lost = ranks.flips(before, after, direction)
    where = direction.replace("_", " ") + (f", seed {comparison.seeds[0]}" if len(comparison.seeds) > 1 else "")
    changed = f"{model} gains {len(gained)} at rank 1 and loses {len(lost)}"
    heading = f"{where}: of {len(before[direction].queries):,} queries {changed}."
    texts, manifest = {}, comparison.baseline.manifest
    if count and direction == "text_to_video" and manifest and manifest.exists():
        texts = read_manifest(manifest).set_index("caption_id")["caption"]
    lines = []
    for word, other, queries in (("gained", baseline, gained), ("lost", model, lost)):
        for flip in queries[:count]:
            asked = f"“{shown(texts[flip.query])}” of {flip.video}" if flip.query in texts else flip.query
            lines.append(f"- {word}, rank {flip.before} → {flip.after}: {asked}; {other} finds {flip.wrong}")
    return [heading, "\n".join(lines)] if lines else [heading]
