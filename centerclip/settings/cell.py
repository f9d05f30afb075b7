"""A cell, benchmark x variant x seed: its settings by group, its role in comparisons, where its files lie."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from centerclip import backbones
from centerclip.backbones import pretrained
from centerclip.backbones.pretrained import OPENAIS, Images
from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.method.digest import json_digest
from centerclip.method.errors import Misfit
from centerclip.method.fit import check_stages
from centerclip.method.stage import Model, Stage
from centerclip.settings import layout
from centerclip.settings.schema import Runtime, Training, option_problem

LOW_RANK = ("tune", "rank", "where")
COSTLY = ("frozen", "loss", "precision", *LOW_RANK)  # keys of a recipe that costs depend on
PUBLISHED_FRAMES = {"activitynet": 60}  # frames of a video in the paper's main tables; 12 for other benchmarks


@dataclass(frozen=True)
class Data:
    """What the model sees of a video and its caption."""

    frames: int
    text_tokens: int
    image_size: int  # pixels
    images: Images = OPENAIS

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames, self.image_size

    @property
    def stored(self) -> int | str:
        """What its stored frames are called and how they are made, as in `extraction.squared`."""
        made = ["squash"] * self.images.squash + ["bilinear"] * (self.images.interpolation == "bilinear")
        return "-".join([*made, str(self.image_size)]) if made else self.image_size


@dataclass(frozen=True)
class Costs:
    """What costs are measured on. No other result depends on it."""

    batch_size: int = 64  # videos of the training step whose memory is measured


@dataclass(frozen=True)
class Cell:
    """One model on one benchmark. `training` is None for a model that is not trained; `results` is the directory of its
    files. With `source`, a `source` block of the config, captions come from there, not from the manifest."""

    benchmark: str
    dataset: str  # the benchmark whose files and stored frames it uses
    variant: str
    seed: int
    name: str  # VARIANT, or VARIANT-seed-N for a further seed
    model: Model
    data: Data
    training: Training | None
    precision: str = "float32"  # of matrix products on a GPU, outside of training
    costs: Costs = Costs()
    runtime: Runtime = field(default_factory=Runtime)
    results: Path = Path("results")
    source: dict | None = None
    against: str | None = None  # the `kind` of the baseline that a control is compared with

    @property
    def trained(self) -> bool:
        return self.training is not None

    @property
    def tunes_all(self) -> bool:
        """Whether it is trained without low-rank factors."""
        return self.trained and self.training.tune == "all"

    @property
    def baseline(self) -> bool:
        """Whether others of its `group` are measured against it: it is trained, keeps all tokens and is no control."""
        return self.trained and self.model.plain_clip and self.against is None

    @property
    def clustering(self) -> bool:
        """Whether its first stage is of the KIND "clustering". False for an algorithm that is not installed here."""
        first = self.model.stages[0].algorithm if self.model.stages else None
        return first in reduction.names() and reduction.kind(first) == reduction.CLUSTERING

    @property
    def method(self) -> str:
        """The name of its method: the algorithms of its stages, its shift or the first word of its variant's name, such
        as `frames` of frames-8."""
        stages = self.model.stages
        if any(stage.classes == "all" for stage in stages):
            return "tempme"  # its stages use ToMe's algorithm
        algorithms = dict.fromkeys(stage.algorithm for stage in stages)
        return "+".join(algorithms) or self.model.shift or self.variant.partition("-")[0]

    @property
    def splits(self) -> list[str]:
        """The splits that its training and evaluation read."""
        trained = ["train", "val"] if self.trained and self.training.select == "val" else ["train"] * self.trained
        return ["test", *trained]

    @property
    def kind(self) -> str:
        """Its backbone, frames and pixels. All but controls share them with their baseline."""
        return f"{self.model.backbone}, {self.data.frames} frames of {self.data.image_size} px"

    @property
    def group(self) -> tuple[str, str]:
        """Equal for cells whose costs and recall can be compared."""
        return self.benchmark, self.against or self.kind

    @property
    def as_published(self) -> bool:
        """Whether it matches a model of the paper's main tables."""
        stages = self.model.stages
        plain = all(stage == Stage(stage.algorithm, stage.block, stage.segments, stage.clusters) for stage in stages)
        seen = PUBLISHED_FRAMES.get(self.benchmark, 12), backbones.geometry(self.model.backbone).image_size
        tuned = self.tunes_all or not self.trained
        published = plain and len(stages) < 2 and self.model.shift is None and self.model.vectors == "mean"
        return self.data.shape == seen and published and tuned

    @property
    def segment_frames(self) -> int:
        """How many frames a segment of its last stage holds; 1 without stages."""
        segments = (stage.segments for stage in self.model.stages if stage.segments and stage.classes == "mean")
        return self.data.frames // min(segments, default=self.data.frames)

    @property
    def located_model(self) -> Model:
        """Its model, with an absolute path to pretrained weights in a file of the user's own."""
        weights = self.model.weights
        if weights and not pretrained.published(weights):
            weights = str(self.results.absolute().parent / weights)
        return replace(self.model, weights=weights)

    def path(self, template: str) -> Path:
        """Where a file of `layout` lies for this cell."""
        names = {"benchmark": self.benchmark, "dataset": self.dataset, "variant": self.name}
        return layout.path(template, self.results, size=self.data.stored, backbone=self.model.backbone, **names)

    @property
    def trained_files(self) -> list[Path]:
        """Its trained weights and their history, if it is trained."""
        return [self.path(layout.WEIGHTS), self.path(layout.HISTORY)] if self.trained else []

    def settings(self) -> dict:
        """All settings that its trained weights depend on, for json."""
        groups = asdict(self)
        for group in ("precision", "costs", "runtime", "results", "source"):
            del groups[group]
        if self.against is None:  # a new key would train every cell again
            del groups["against"]
        if self.model.vectors == "mean":
            del groups["model"]["vectors"]
        if self.data.images == OPENAIS:
            del groups["data"]["images"]
        if self.trained and self.training.loss == "softmax":
            del groups["training"]["loss"]
        if self.tunes_all:
            for name in LOW_RANK:
                del groups["training"][name]
        return json.loads(json.dumps(groups))

    def cost_settings(self) -> dict:
        """All settings that its costs depend on, for json: neither its weights nor most of its recipe."""
        recipe = self.training and Training(**{name: getattr(self.training, name) for name in COSTLY})
        bare = replace(self, seed=0, name=self.variant, model=replace(self.model, weights=None), training=recipe)
        return bare.settings() | {"precision": self.precision, "costs": asdict(self.costs)}


def check_cell(cell: Cell) -> None:
    """Raise Misfit where a cell's settings do not fit each other: text, GPUs, algorithms, segments, clusters."""
    backbone, size, reads = cell.model.backbone, cell.data.image_size, cell.data.text_tokens
    own, geometry = backbones.geometry(backbone), backbones.geometry(backbone, size)
    if size != own.image_size and size % own.patch_size:
        problem = f"image_size {size} is not a multiple of {own.patch_size}, the patch size of {backbone}"
        raise Misfit(problem, ["image_size"], ["backbone"])
    if reads > geometry.context:
        problem = f"text_tokens {reads} is more than {backbone} reads ({geometry.context})"
        raise Misfit(problem, ["text_tokens"], ["backbone"])
    if cell.training and cell.training.loss == "sigmoid" and not backbones.has_bias(backbone):
        problem = f"loss sigmoid: {backbone} has no logit bias, as SigLIP's models have"
        raise Misfit(problem, ["training", "loss"], ["backbone"])
    if cell.training and cell.training.batch_size % cell.runtime.gpus:
        problem = f"training.gpus {cell.runtime.gpus} does not divide training.batch_size {cell.training.batch_size}"
        raise Misfit(problem, ["training", "gpus"], ["training", "batch_size"])
    if cell.data.frames < 1:
        raise Misfit(f"frames {cell.data.frames}: a video has at least 1", ["frames"])
    check_stages(cell.model, cell.data.frames, geometry)
    for number, stage in enumerate(cell.model.stages):
        for option, value in stage.options.items():
            if wrong := option_problem(reduction.annotation(stage.algorithm, option), value):
                raise Misfit(wrong, ["stages", number, "options", option])


def from_settings(settings: dict, **fields) -> Cell:
    """The cell of `Cell.settings` or `Cell.cost_settings`, with further `fields`. Raises TypeError, KeyError."""
    model, training = dict(settings["model"]), settings["training"]
    model["stages"] = tuple(Stage(**stage) for stage in model["stages"])
    data = dict(settings["data"])
    if images := data.get("images"):
        data["images"] = Images(**images | {key: tuple(images[key]) for key in ("mean", "std")})
    groups = {
        "model": Model(**model),
        "data": Data(**data),
        "training": training and Training(**training),
        "costs": Costs(**settings.get("costs", {})),
    }
    return Cell(**settings | groups | fields)


def read_cell(path: str | Path, **fields) -> Cell:
    """The cell of a CELL, EVALUATION or RESULT file, whose `results` is the directory that the file is in or below.

    A relative path to its pretrained weights starts where that directory lies. Raises UserError for another file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings = content.get("settings", content)
        deep = path.name == Path(layout.EVALUATION).name or "settings" not in content
        results = path.parent.parent.parent if deep else path.parent
        return from_settings(settings, results=results, **fields)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a cell or its results, such as results/shapes_kmedoids.json") from None


def check_current(path: Path, digest: str | None) -> None:
    """Raise UserError for a CELL file whose settings have another digest than the config's, if that is known.

    Snakemake makes the file again when the settings change, but not in a copy of results/ without `.snakemake`.
    """
    if digest and json_digest(json.loads(path.read_text(encoding="utf-8"))) != digest:
        raise UserError(
            f"{path}: its settings are not the config's, and Snakemake did not make it again: copy"
            f" .snakemake with results/, or delete {path.parent} and the results and tables made from it"
        )


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
