"""A cell, benchmark x variant x seed: its settings by group, its role in comparisons, where its files lie."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from centerclip.backbones import pretrained
from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.settings import layout

PRECISIONS = "float32", "float16", "bfloat16"
PUBLISHED_FRAMES = {"activitynet": 60}  # of a video in the paper's main tables; the other benchmarks' have 12


@dataclass(frozen=True)
class Stage:
    """One reduction stage: after `block` blocks, each of `segments` segments keeps `clusters` tokens.

    With `segments` None frames, or the segments of earlier stages, stay apart. Instead of `clusters` there may be
    `remove`: how many tokens fewer a segment has, as a number or as a share of them, [CLASS] counted; half of the
    patches at most. What is kept is each cluster's `medoid` or, with `keep` "mean" or "weighted", the mean of its
    tokens, each counted once or as often as it stands for patches. `embedding` adds a learned vector to each.

    An `inside` stage acts in the block that comes next, between attention and MLP. It may compare what the block's
    attention `sees`, "keys" (their mean over heads), in place of the tokens. `classes` says what becomes of the [CLASS]
    of joined frames: their "mean", or "all" go on. `clip_embedding` is how many frames or segments the stage is given
    that get a learned vector each, 0 if none does. `padded`, "drop" or "keep", says which segments of a short video
    count (`ReductionStage`). `options` go to the algorithm.
    """

    algorithm: str
    block: int
    segments: int | None = None
    clusters: int | None = None
    keep: str = "medoid"
    embedding: bool = False
    padded: str = "drop"
    options: dict = field(default_factory=dict)
    remove: float | None = None
    inside: bool = False
    sees: str = "tokens"
    classes: str = "mean"
    clip_embedding: int = 0

    @property
    def place(self) -> tuple[int, bool]:
        """Where it acts: stages act in this order."""
        return self.block, self.inside

    def kept(self, patches: int, classes: int) -> int:
        """How many of the patches of a segment stay, beside its [CLASS] tokens."""
        if self.clusters is not None:
            return self.clusters
        fewer = int(self.remove * (patches + classes)) if isinstance(self.remove, float) else self.remove
        return patches - min(fewer, patches // 2)


@dataclass(frozen=True)
class Model:
    """A video-text model: a backbone, what it starts from (None: random weights) and what is done to its tokens.

    With `proportional` attention a token weighs as much as the patches that it stands for.
    """

    backbone: str
    weights: str | None = None
    stages: tuple[Stage, ...] = ()
    shift: str | None = None
    proportional: bool = False

    @property
    def plain(self) -> bool:
        """Whether every token goes through every block as it is."""
        return not self.stages and self.shift is None


@dataclass(frozen=True)
class Data:
    """What the model sees of a video and its caption."""

    frames: int
    text_tokens: int
    image_size: int  # pixels


@dataclass(frozen=True)
class Training:
    """The recipe: what trained weights depend on besides the data and the model. The defaults are the published ones,
    the paper's or, where it says nothing, its authors' code's."""

    epochs: int = 5
    batch_size: int = 128
    lr: float = 5e-6
    lr_new: float = 5e-6
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    no_decay: str = "biases"  # or "vectors", all of one dimension or none
    warmup: float = 0.1
    clip_norm: float = 1.0
    frozen: str = "stem"  # what does not train, or "none"
    spans: str = "floor"  # that frames are drawn from, or "whole"
    precision: str = "float16"  # of matrix products on a GPU
    select: str = "best"


@dataclass(frozen=True)
class Costs:
    """What costs are measured on, which no other result depends on."""

    batch_size: int = 64  # videos of the training step whose memory is measured


@dataclass(frozen=True)
class Runtime:
    """How jobs go about their work, which changes no result."""

    gpus: int = 1
    chunk: int | None = None
    grad_checkpointing: bool = False
    workers: int = 0
    checkpoint_minutes: float = 10
    threads: int = 1
    evaluation_batch_size: int = 32
    evaluation_workers: int = 0
    evaluation_threads: int = 1

    @property
    def evaluation_options(self) -> str:
        """The options of the command `evaluate`, besides GPUs and threads."""
        return f"--batch-size {self.evaluation_batch_size} --workers {self.evaluation_workers}"

    @property
    def training_options(self) -> str:
        """The options of the command `train`, besides GPUs and threads."""
        chunk = f" --chunk {self.chunk}" if self.chunk else ""
        recompute = " --grad-checkpointing" if self.grad_checkpointing else ""
        loading = f"--workers {self.workers} --checkpoint-minutes {self.checkpoint_minutes:g}"
        evaluating = self.evaluation_options.replace("--", "--evaluation-")
        return f"{loading}{chunk}{recompute} {evaluating}"


@dataclass(frozen=True)
class Cell:
    """One model on one benchmark. `training` is None for a model that is not trained; `results` is the directory that
    its files are in. With `source`, a `source` block of the config, captions come from there, not from the manifest."""

    benchmark: str
    dataset: str  # whose files and stored frames it uses
    variant: str
    seed: int
    name: str  # VARIANT, or VARIANT-seed-N for a further seed
    model: Model
    data: Data
    training: Training | None
    precision: str = "float32"  # of matrix products on a GPU, outside of training
    costs: Costs = Costs()
    runtime: Runtime = Runtime()
    results: Path = Path("results")
    source: dict | None = None

    @property
    def trained(self) -> bool:
        return self.training is not None

    @property
    def baseline(self) -> bool:
        """Whether others of its `group` are measured against it: trained, with every token kept as it is."""
        return self.trained and self.model.plain

    @property
    def clustering(self) -> bool:
        """Whether its first stage brings like tokens together; the paper's sampling baselines do not."""
        return bool(self.model.stages) and reduction.kind(self.model.stages[0].algorithm) == reduction.CLUSTERING

    @property
    def splits(self) -> list[str]:
        """The splits that its training and evaluation read."""
        trained = ["train", "val"] if self.trained and self.training.select == "val" else ["train"] * self.trained
        return ["test", *trained]

    @property
    def group(self) -> tuple[str, str, int]:
        """Equal for cells whose costs and recall can be compared."""
        return self.benchmark, self.model.backbone, self.data.frames

    @property
    def as_published(self) -> bool:
        """Whether it has nothing that the models of the paper's main tables have not."""
        stages = self.model.stages
        plain = all(stage == Stage(stage.algorithm, stage.block, stage.segments, stage.clusters) for stage in stages)
        frames = PUBLISHED_FRAMES.get(self.benchmark, 12)
        return plain and len(stages) < 2 and self.model.shift is None and self.data.frames == frames

    @property
    def segment_frames(self) -> int:
        """How many frames a segment of its last stage holds; 1 without stages."""
        segments = (stage.segments for stage in self.model.stages if stage.segments and stage.classes == "mean")
        return self.data.frames // min(segments, default=self.data.frames)

    @property
    def located_model(self) -> Model:
        """Its model as it starts, whose pretrained weights are found from any directory."""
        weights = self.model.weights
        if weights and not pretrained.published(weights):
            weights = str(self.results.absolute().parent / weights)
        return replace(self.model, weights=weights)

    def path(self, template: str) -> Path:
        """Where a file of `layout` lies for this cell."""
        names = {"benchmark": self.benchmark, "dataset": self.dataset, "variant": self.name}
        return layout.path(template, self.results, size=self.data.image_size, backbone=self.model.backbone, **names)

    @property
    def trained_files(self) -> list[Path]:
        """Its trained weights and their history; none if it is not trained."""
        return [self.path(layout.WEIGHTS), self.path(layout.HISTORY)] if self.trained else []

    def settings(self) -> dict:
        """All that its trained weights depend on, for json."""
        groups = asdict(self)
        for group in ("precision", "costs", "runtime", "results", "source"):
            del groups[group]
        return json.loads(json.dumps(groups))

    def cost_settings(self) -> dict:
        """All that its costs depend on, for json: neither its weights nor most of its recipe."""
        recipe = self.training and Training(frozen=self.training.frozen, precision=self.training.precision)
        bare = replace(self, seed=0, name=self.variant, model=replace(self.model, weights=None), training=recipe)
        return bare.settings() | {"precision": self.precision, "costs": asdict(self.costs)}


def from_settings(settings: dict, **fields) -> Cell:
    """The cell of `Cell.settings` or `Cell.cost_settings`, with further `fields`. Raises TypeError, KeyError."""
    model, training = dict(settings["model"]), settings["training"]
    model["stages"] = tuple(Stage(**stage) for stage in model["stages"])
    groups = {
        "model": Model(**model),
        "data": Data(**settings["data"]),
        "training": training and Training(**training | {"betas": tuple(training["betas"])}),
        "costs": Costs(**settings.get("costs", {})),
    }
    return Cell(**settings | groups | fields)


def read_cell(path: str | Path, **fields) -> Cell:
    """The cell of a CELL or RESULT file, whose `results` is the directory that the file is in or below.

    A relative path to its pretrained weights starts where that directory lies. Raises UserError for another file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        settings = content.get("settings", content)
        results = path.parent if "settings" in content else path.parent.parent.parent
        return from_settings(settings, results=results, **fields)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a cell or its results, such as results/shapes_kmedoids.json") from None


def check_own(path: Path) -> None:
    """Raise UserError for a RESULT file whose settings are not those of the CELL that it is named after."""
    settings = read_cell(path).settings()
    for file in path.parent.glob("*/*/cell.json"):
        if "_".join(file.parts[-3:-1]) == path.stem and read_cell(file).settings() != settings:
            raise UserError(
                f"{path}: made with other settings than {file}; delete it and run your snakemake command again"
            )


def read_compared(path: Path) -> list[Cell]:
    """The cells of a COMPARED file, as their costs depend on them. Raises UserError for another file."""
    try:
        cells = [from_settings(settings) for settings in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError, AttributeError):
        cells = []
    if not cells:
        raise UserError(f"{path}: not a list of cells, such as results/shapes/compared.json")
    return cells
