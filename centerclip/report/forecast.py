"""Estimate what a run takes before it starts: steps, operations, GPU-hours, downloads, disk. Finished work is left out.
Heavy modules are imported only to read captions and to measure."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from centerclip.backbones import pretrained
from centerclip.command import UserError, tell
from centerclip.data import datasets
from centerclip.data.datasets import planning
from centerclip.data.download import sources
from centerclip.evaluate import operations
from centerclip.settings import layout, resolve
from centerclip.settings.cell import COSTLY, Cell, Costs, read_cell

PEAKS = {  # dense float16 TFLOPS with float32 sums, and float32 TFLOPS without TF32, of the makers' data sheets
    "V100": (125, 15.7),
    "A100": (312, 19.5),
    "H100": (989, 67),
    "H200": (989, 67),
    "RTX4090": (165, 82.6),
}
SHARE = 0.3  # of its peak that a GPU is assumed to give
# Mean length of a video, as the authors give it; ActivityNet's: of the captions' train and val_1 files
SECONDS = {"msvd": 10, "msrvtt": 15, "didemo": 30, "lsmdc": 5, "activitynet": 117, "shapes": 2}
CAPTIONS = 4  # of a video that `shapes` renders
# On 20 real clips (docs/benchmarks/2026-11-26-frames.md): core-seconds of preparing a second of video, bytes of a frame
CORE_SECONDS, FRAME_BYTES, FRAME_SIZE = 0.018, 10_600, 224
CHECKPOINT = 4  # times the weights: the model's, AdamW's two moments, the selected epoch's; see Checkpoints.save
MEASURING = 170  # seconds
CPU_PAIRS = 4  # pairs of a step measured on a CPU, whose time is proportional to them

if TYPE_CHECKING:
    import torch

Rates = Callable[[Cell], tuple[float, float]]  # operations a second of a cell's training and of its evaluation


@dataclass(frozen=True)
class Work:
    """The remaining work of a cell: steps of training, and operations of training and of evaluation."""

    cell: Cell
    steps: int
    training: float
    evaluation: float

    @property
    def left(self) -> bool:
        return self.evaluation > 0

    def hours(self, rates: Rates) -> float:
        """Its GPU-hours."""
        training, evaluation = rates(self.cell)
        return (self.training / training + self.evaluation / evaluation) / 3600


class Storage(NamedTuple):
    """The remaining storage of a dataset: files to download, frames, their bytes and the core-hours of decoding.
    Unknown numbers are None."""

    downloads: list[sources.Source]
    videos: int
    frames: float | None
    frames_bytes: float | None
    core_hours: float | None


def counts(config: dict, benchmark: str) -> dict[str, int]:
    """Videos and captions of each split, as `manifest.counted`, from the manifest or the user's own csv, else from the
    config's `counts`. Raises UserError if none of them has the numbers."""
    block, manifest = config["benchmarks"][benchmark], Path(layout.MANIFEST.format(benchmark=benchmark))
    source, known = block["source"], block.get("counts") or {}
    if source["reader"] == planning.FOLDER or manifest.exists():
        from centerclip.data.datasets import folder
        from centerclip.data.datasets.manifest import counted, read_manifest

        return counted(read_manifest(manifest) if manifest.exists() else folder.clips(source))
    if source["reader"] == "shapes":
        known = {split: {"videos": count, "captions": CAPTIONS * count} for split, count in source["videos"].items()}
    found = {}
    for split in datasets.SPLITS:
        numbers = known.get(split) or {}
        videos = numbers.get("videos", numbers.get("captions", 0))  # LSMDC's clips have one caption each
        captions = numbers.get("captions", numbers.get("videos", 0))
        found |= {f"{split}.videos": videos, f"{split}.captions": captions}
    if not found["test.videos"]:
        key = f"benchmarks.{benchmark}.counts.test"
        raise UserError(f"{key}: give the expected videos or captions, because {manifest} is not there yet")
    return found


def cells(config: dict, benchmark: str) -> list[Cell]:
    """The cells that `all` makes of a benchmark."""
    return [resolve.cell(config, benchmark, name) for name in resolve.cell_names(config, benchmark)]


def works(config: dict) -> dict[str, list[Work]]:
    """The remaining work of the cells of each benchmark of the run."""
    counted = {name: counts(config, name) for name in config["run"]["benchmarks"]}
    return {name: [work(cell, counted[name]) for cell in cells(config, name)] for name in counted}


def has(cell: Cell, template: str) -> bool:
    """Whether a file of `cell` exists, made with its settings."""
    with suppress(UserError):
        made_by = read_cell(cell.path(layout.RESULT if template == layout.RESULT else layout.CELL))
        return cell.path(template).is_file() and made_by.settings() == cell.settings()
    return False


def work(cell: Cell, counted: dict[str, int]) -> Work:
    """The remaining work of `cell`, whose benchmark has the counts."""
    if has(cell, layout.RESULT):
        return Work(cell, 0, 0, 0)
    encoding, text = operations_of(cell)
    test, val = (
        counted[f"{split}.videos"] * encoding + counted[f"{split}.captions"] * text for split in ("test", "val")
    )
    if not cell.trained or has(cell, layout.WEIGHTS):
        return Work(cell, 0, 0, test)
    recipe, steps = cell.training, steps_of(cell, counted)
    epoch = test + (val if recipe.select == "val" else 0)
    return Work(cell, steps, steps * recipe.batch_size * pair(cell), recipe.epochs * epoch + test)


def steps_of(cell: Cell, counted: dict[str, int]) -> int:
    """Steps of the whole training of `cell`, whose benchmark has the counts. Raises UserError without captions."""
    if not counted["train.captions"]:
        raise UserError(f"benchmarks.{cell.benchmark}.counts.train: give the expected captions, because none are known")
    return counted["train.captions"] // cell.training.batch_size * cell.training.epochs


def operations_of(cell: Cell) -> tuple[float, float]:
    """Operations of encoding a video and a caption."""
    video = operations.of_video(cell.model, *cell.data.shape)
    return video, operations.of_text(cell.model.backbone, cell.data.text_tokens)


def costly_clustering(cell: Cell) -> str | None:
    """As `operations.costly_clustering`."""
    parts = operations.parts(cell.model.backbone, cell.data.image_size)
    return operations.costly_clustering(parts, cell.model.stages, cell.data.frames)


def pair(cell: Cell) -> float:
    """Operations of training on a pair: a forward pass and, twice as many, a backward pass. Reductions have no
    gradients, nor has what is frozen in front of all that trains. Low-rank tuning skips the gradients of the weights
    other than q, k and v, 18 of 24 D^2 a token. A chunk smaller than the batch and checkpointed activations are a
    further forward pass each."""
    parts, runtime = operations.video(cell.model, *cell.data.shape), cell.runtime
    chunked = (runtime.chunk or cell.training.batch_size) < cell.training.batch_size // runtime.gpus
    forward = sum(parts.values()) + operations_of(cell)[1]
    behind_stem = forward - parts["reductions"] - parts["stem"]
    backward = {
        "none": 2 * (behind_stem + parts["stem"]),
        "stem": 2 * behind_stem,
        "backbone": 2 * parts["projection"],
        "lora": (2 - 18 / 24) * behind_stem,
    }
    trained = cell.training.frozen if cell.tunes_all else cell.training.tune
    return (1 + chunked + runtime.grad_checkpointing) * forward + backward[trained]


def of_gpu(half: float, single: float, share: float = 1) -> Rates:
    """The rates of a GPU that gives a share of `half` TFLOPS in float16 or bfloat16 and of `single` in float32."""

    def rates(cell: Cell) -> tuple[float, float]:
        # A training evaluates its epochs in float32
        precisions = (cell.training.precision, "float32") if cell.training else (cell.precision, cell.precision)
        return tuple(1e12 * share * (single if precision == "float32" else half) for precision in precisions)

    return rates


def makespan(jobs: Iterable[tuple[float, int]], gpus: int) -> float:
    """Hours until all `jobs`, pairs of GPU-hours and GPUs, are done on `gpus` GPUs, the longest first."""
    free = [0.0] * gpus
    for hours, wanted in sorted(jobs, key=lambda job: job[0] / job[1], reverse=True):
        taken = [heapq.heappop(free) for _ in range(min(wanted, gpus))]
        for _ in taken:
            heapq.heappush(free, taken[-1] + hours / len(taken))
    return max(free)


def stored(config: dict, works: Iterable[Work]) -> dict[str, Storage]:
    """The remaining storage of each dataset."""
    left = sorted((work.cell for work in works if work.left), key=attrgetter("dataset"))
    return {name: storage(config, name, list(cells)) for name, cells in groupby(left, attrgetter("dataset"))}


def storage(config: dict, dataset: str, wanted: list[Cell]) -> Storage:
    """The remaining downloads and frames of a dataset for the cells `wanted`."""
    block = config["benchmarks"][dataset]
    source, splits = block["source"], {split for cell in wanted for split in cell.splits}
    tables = [counts(config, name) for name in resolve.benchmarks_of(config, dataset)]  # share the stored frames
    videos = sum(max(table[f"{split}.videos"] for table in tables) for split in splits)
    names = [f"{number:04d}" for number in range(block["shards"])]
    sizes = {cell.data.stored: cell.data.image_size for cell in wanted}
    left = {}  # a folder of frames -> share of its shards
    for stored in sizes:
        reports = [Path(layout.SHARD_REPORT.format(dataset=dataset, size=stored, shard=name)) for name in names]
        left[stored] = sum(not report.exists() for report in reports) / len(reports)
    here, length = sum(left.values()), SECONDS.get(source["reader"])
    if here == 0:
        return Storage([], 0, 0, 0, 0)
    files = to_download(source) if not Path(layout.SOURCE.format(dataset=dataset)).exists() else []
    if length is None or block["fps"] == "all":
        return Storage(files, videos, None, None, None)
    seconds = videos * min(length, source.get("seconds") or length)
    frames = seconds * block["fps"]
    pixels = sum(share * (sizes[stored] / FRAME_SIZE) ** 2 for stored, share in left.items())
    return Storage(files, videos, here * frames, FRAME_BYTES * frames * pixels, here * seconds * CORE_SECONDS / 3600)


def unlisted(dataset: str, file: str, licence: str = "") -> sources.Source:
    """A file to download that the table of sources does not list."""
    return sources.Source(dataset, file, (), (), None, (), "", licence)


def to_download(source: dict) -> list[sources.Source]:
    """The published files of a `source` block that are still to be downloaded."""
    if source["reader"] == "hub":
        return [unlisted("hub", source["repository"], "as its page on the Hub says")]
    if (dataset := source["reader"]) not in sources.read_table():
        return []
    files = sources.fetched(sources.files_of(dataset), source.get("local") or {})
    return [file for file in files if not Path(layout.DOWNLOADS, dataset, file.file).is_file()]


def weights_to_download(config: dict, works: Iterable[Work]) -> list[sources.Source]:
    """The published weights that are still to be downloaded. Sizes of open_clip's downloads are unknown."""
    found = {}
    for cell in (work.cell for work in works if work.left):
        backbone, name = cell.model.backbone, config["weights"][cell.model.backbone]
        if pretrained.published(name) and not Path(cell.model.weights).exists():
            listed = sources.files_of("clip") if name == pretrained.OPENAI else {}
            found[backbone] = listed.get(f"{backbone}.pt") or unlisted("clip", f"{backbone}: {name}")
    return list(found.values())


def gigabytes(sizes: Iterable[float | None]) -> str:
    """The sum of bytes as GB: "3.1 + ?" where some are unknown, "?" where all are."""
    sizes = list(sizes)
    unknown = sizes.count(None)
    known = f"{sum(size or 0 for size in sizes) / 1e9:,.1f}"
    return "?" if unknown and unknown == len(sizes) else known + " + ?" * bool(unknown)


def disk(works: Iterable[Work], stored: Collection[Storage], gpus: int) -> dict[str, list[float | None]]:
    """Bytes of the files of each stage, None if unknown, with `gpus` trainings at the same time."""
    archives = [file.size for each in stored for file in each.downloads if not file.each]
    cells = [work.cell for work in works if work.steps]
    weights = [4 * operations.parameters(cell.model.backbone, cell.data.image_size) for cell in cells]
    return {
        "archives": archives,
        "unpacked": archives,
        "frames": [each.frames_bytes for each in stored],
        "checkpoints": [2 * CHECKPOINT * size for size in sorted(weights)[-gpus:]],  # the last and the one before it
        "weights": weights,
    }


def measured(works: Iterable[Work]) -> tuple[str, Rates]:
    """The name of this machine's device, and its rates by a real step of each distinct model and a batch of videos,
    the least work first. After MEASURING seconds the other models get the rates of the last one, and a line says so."""
    from centerclip.backbones.device import device_name, pick_device

    distinct = {model_key(each.cell): each.cell for each in works if each.left}
    device, found, last, end = pick_device(), {}, (1.0, 1.0), time.perf_counter() + MEASURING
    for key, cell in sorted(distinct.items(), key=lambda item: trial(item[1])):
        if found and time.perf_counter() + 3 * trial(cell) / min(last) > end:
            tell(f"measured {len(found)} of {len(distinct)} models in the time; the others get the last one's rates")
            break
        found[key] = last = measure(cell, device)
    return device_name(device), lambda cell: found.get(model_key(cell), last)


def model_key(cell: Cell) -> str:
    """Equal for cells whose steps take equally long."""
    recipe = cell.training and [getattr(cell.training, name) for name in ("batch_size", *COSTLY)]
    return repr((replace(cell.model, weights=None), cell.data, recipe, cell.runtime))


def trial(cell: Cell) -> float:
    """Operations of a step of `cell`, or of encoding a batch where it is not trained."""
    if cell.trained:
        return cell.training.batch_size * pair(cell)
    return cell.runtime.evaluation.batch_size * operations_of(cell)[0]


def measure(cell: Cell, device: torch.device) -> tuple[float, float]:
    """The rates of `cell` on `device`, with random weights and generated videos. The second step is timed, because the
    first one finds the chunk. On a CPU, CPU_PAIRS stand for the batch."""
    import torch

    from centerclip.backbones.clip import build
    from centerclip.backbones.device import autocast
    from centerclip.evaluate.costs import elapsed, smooth_videos
    from centerclip.evaluate.efficiency import training_steps

    cell, most = replace(cell, model=replace(cell.model, weights=None)), CPU_PAIRS if device.type == "cpu" else 1 << 30
    mark, training = torch.zeros(1, device=device), None
    if cell.trained:
        count = min(cell.training.batch_size // cell.runtime.gpus, most)
        steps = training_steps(replace(cell, costs=Costs(count)), device)
        model = next(steps).model.eval()
        training = count * pair(cell) / (elapsed(lambda: next(steps), mark) / 1000)
    else:
        model = build(cell.model, 0, cell.data.image_size).eval().to(device)
    count = min(cell.runtime.evaluation.batch_size, most)
    videos = smooth_videos(count, *cell.data.shape).to(device)
    with torch.no_grad(), autocast(device, "float32" if cell.trained else cell.precision):
        model.video_vectors(videos)
        seconds = elapsed(lambda: model.video_vectors(videos), mark) / 1000
    evaluation = count * operations_of(cell)[0] / seconds
    return training or evaluation, evaluation
