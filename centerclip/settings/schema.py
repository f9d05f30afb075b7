"""Every setting of the config: its type, its bounds, a sentence, and its default where a config may leave it out.

A new setting is a field here. `make docs` makes workflow/schemas/config.schema.yaml and config/README.md of these.
"""

import argparse
import json
import typing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic import StrictBool as Bool
from pydantic import StrictFloat as Float
from pydantic import StrictInt as Int
from pydantic import StrictStr as Str
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from centerclip import backbones
from centerclip.backbones import pretrained

RESERVED = ("gpus", "threads")  # which the workflow asks its scheduler for, and tells a command
BOUNDS = {">=": "ge", ">": "gt", "<=": "le", "<": "lt"}


def doc(text: str, default: object = ..., **bounds: object) -> Any:
    """A field with its sentence, which is required without a default."""
    return Field(default, description=text, **bounds)


optional = partial(doc, default=None)


def wrong(problem: str, *key: str) -> PydanticCustomError:
    """An error about `key` inside of what is validated."""
    return PydanticCustomError("problem", "{problem}", {"problem": problem, "key": key})


def requires(*keys: str) -> BeforeValidator:
    """Refuses a mapping that lacks one of `keys`."""

    def check(given: object) -> object:
        if isinstance(given, dict) and (missing := [key for key in keys if key not in given]):
            raise wrong("missing", missing[0])
        return given

    return BeforeValidator(check)


def distinct(values: Sequence) -> Sequence:
    if repeated := [value for number, value in enumerate(values) if value in values[:number]]:
        raise wrong(f"{repeated[0]!r} is there twice")
    return values


def known_backbone(name: str) -> str:
    if problem := backbones.problem(name):
        raise wrong(problem)
    return name


def fitting_weights(weights: dict[str, str | None]) -> dict[str, str | None]:
    """Refuses weights that are not those of their backbone, as far as names tell."""
    for backbone, start in weights.items():
        problem = backbones.problem(backbone)
        if problem := problem or (pretrained.misnamed(backbone, start) if pretrained.published(start) else None):
            raise wrong(problem, backbone)
    return weights


Natural, Count = Annotated[Int, Field(ge=0)], Annotated[Int, Field(ge=1)]
Positive, Share = Annotated[Float, Field(gt=0)], Annotated[Float, Field(ge=0, le=1)]
BelowOne = Annotated[Float, Field(ge=0, lt=1)]
Word = Annotated[Str, Field(pattern="^[a-z0-9]+$")]
Split = Literal["train", "val", "test"]
Distinct = Field(json_schema_extra={"uniqueItems": True}), AfterValidator(distinct)
Names = Annotated[list[Str], *Distinct]
SomeNames = Annotated[list[Str], Field(min_length=1), *Distinct]
Seeds = Annotated[list[Annotated[Int, Field(ge=0, lt=2**32)]], Field(min_length=1), *Distinct]
Values = Annotated[list[Int | Float | Bool | Word], Field(min_length=1), *Distinct]
Backbone = Annotated[Str, AfterValidator(known_backbone)]
Weights = Annotated[dict[Str, Annotated[Str, Field(min_length=1)] | None], AfterValidator(fitting_weights)]
Parts = Annotated[tuple[Literal["q", "k", "v"], ...], Field(min_length=1), *Distinct]
Precision = Literal["float32", "float16", "bfloat16"]
Select = Literal["best", "val", "last"]
# Cells and directories of results/ are called so.
Variants = Annotated[Str, Field(pattern="^(?!.*-seed-)(?!(frames|source)$)[a-z0-9_-]+$")]
TAKEN = "benchmarks|downloads|logs|plots|summary|tables|weights"
Benchmarks = Annotated[Str, Field(pattern=f"^(?!({TAKEN})$)[a-z0-9-]+$")]

BACKBONE = "The CLIP architecture, one that `centerclip backbones` lists."
FRAMES = "Frames of a video that the model sees."
PRECISION = "Of matrix products on a GPU; with bfloat16, also on a CPU with matrix units (AMX). The rest is float32."
READER = "A file of centerclip/data/datasets."
RECIPE = "The recipe."


class Block:
    """A mapping with known keys. Each kind of it is a frozen dataclass, which pydantic validates."""

    def __init_subclass__(cls) -> None:
        dataclass(cls, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", regex_engine="python-re"))

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, given: Any) -> Any:
        names = [field.name for field in fields(cls)]
        if isinstance(given, dict) and (unknown := [key for key in given if key not in names]):
            raise wrong(f"unknown key; allowed are {', '.join(names)}", unknown[0])
        return given


class Recipe(Block):
    """What trained weights depend on besides the data and the model. The defaults are the published values: the paper's
    or, where it says nothing, its authors' code's."""

    epochs: Count = doc("Passes over the training captions.", 5)
    batch_size: Int = doc("Videos a step.", 128, ge=2)
    lr: Positive = doc("Peak learning rate of CLIP's weights or their low-rank factors.", 5e-6)
    lr_new: Positive = doc("Peak learning rate of weights that CLIP does not have.", 5e-6)
    betas: tuple[BelowOne, BelowOne] = doc("AdamW's.", (0.9, 0.98))
    eps: Positive = doc("AdamW's.", 1e-6)
    weight_decay: Float = doc("AdamW's.", 0.2, ge=0)
    no_decay: Literal["biases", "vectors"] = doc(
        "What has no weight decay. vectors: biases, LayerNorms, the class embedding and the logit scale.", "biases"
    )
    warmup: Share = doc("Share of the steps in which the learning rate rises; cosine decay to 0 follows.", 0.1)
    clip_norm: Positive = doc("Largest L2 norm of the gradient.", 1.0)
    frozen: Literal["stem", "backbone", "none"] = doc(
        "What does not train. stem: all that is in front of the blocks. backbone: all but the projections, attention"
        " pools, the logit scale and bias, and vectors that stages learn.",
        "stem",
    )
    loss: Literal["softmax", "sigmoid"] = doc(
        "softmax: symmetric cross entropy over the batch, as published. sigmoid: SigLIP's, each pair by itself, for"
        " backbones with a logit bias.",
        "softmax",
    )
    tune: Literal["all", "lora"] = doc(
        "lora: low-rank factors train, in all blocks of both towers, and vectors that stages learn; CLIP is frozen,"
        " whatever `frozen` says. Trained weights have the factors merged.",
        "all",
    )
    rank: Count = doc("lora: rank of the factors.", 8)
    where: Parts = doc("lora: which of an attention's q, k and v get factors.", ("q", "k", "v"))
    spans: Literal["floor", "whole"] = doc(
        "Equal parts of a video that frames are drawn from. floor: of whole frames, so that its end is never seen.",
        "floor",
    )
    precision: Precision = doc(PRECISION, "float16")


class Training(Recipe):
    """The recipe of a cell."""

    select: Select = "best"


class Work(Block):
    """How a training job works, which changes no result."""

    gpus: Count = doc("GPUs of a training job, which the batch is split over; without a GPU, CPU processes.", 1)
    chunk: Count | None = optional("Pairs a GPU encodes at a time. null: all, halved when its memory is full.")
    grad_checkpointing: Bool = doc("Compute activations twice: less memory, a third more time.", False)
    workers: Natural = doc("Processes that load frames, a GPU.", 0)
    checkpoint_minutes: Positive = doc("Minutes between checkpoints within an epoch.", 10)
    threads: Count = doc("Cores that a training job asks for, a GPU.", 1)


class Evaluation(Block):
    """How an evaluation job works, which changes no result."""

    batch_size: Count = doc("Videos or captions encoded at a time.", 32)
    workers: Natural = doc("Processes that load frames.", 0)
    threads: Count = doc("Cores that an evaluation job asks for.", 1)


class Runtime(Work):
    """How the jobs of a cell work, which changes no result."""

    evaluation: Evaluation = Evaluation()

    @property
    def training_options(self) -> str:
        """The options of the command `train`, besides RESERVED."""
        return f"{command_line(Work, self)} {command_line(Evaluation, self.evaluation, 'evaluation_')}".strip()

    @property
    def evaluation_options(self) -> str:
        """The options of the command `evaluate`, besides RESERVED."""
        return command_line(Evaluation, self.evaluation)


class TrainingBlock(Work, Recipe):
    """The recipe, and how a training job works. A variant's block overrides its benchmark's, which overrides the
    config's."""

    gpu_batch: Count = doc("Videos of the step whose GPU memory the tables give. It changes no training.", 64)


class EvaluationBlock(Evaluation):
    precision: Precision = doc(PRECISION, "float32")


class RunBlock(Block):
    benchmarks: SomeNames = doc("Names under `benchmarks`.")
    variants: Str | SomeNames | None = doc("Names under `variants`, one under `lists`, or null: each benchmark's own.")
    grids: Names = doc("Names under `grids`, whose variants every benchmark of the run gets, too.")
    full_size: Bool = doc(
        "Measure what the paper's models cost on this machine, with random weights: a minute on 2 cores."
    )
    costs: Bool = doc("Measure what variants cost, last. false: tables have no costs, plots of costs are left out.")
    tolerance: Positive = doc("A claim on text-to-video R@1 holds within so many points.")
    costs_minutes: Positive = doc("Minutes after which no further turn of measuring a benchmark's costs begins.")
    gpu_hour_price: Positive | None = doc("What an hour of a GPU costs, for the tables. null: unknown.")


class StageBlock(Block):
    """A reduction stage of a model. What a variant's stages leave out comes from its benchmark's `stage`."""

    algorithm: Str = optional("A file of centerclip/method/reduction.")
    block: Natural = optional("Blocks before the stage.")
    segments: Count | None = optional("They divide the frames. null: frames, or earlier segments, stay apart.")
    clusters: Count = optional("Tokens that a segment keeps.")
    remove: Natural | BelowOne = optional(
        "In place of clusters: tokens a segment loses, or their share, [CLASS] counted; at most half of the patches."
    )
    keep: Literal["medoid", "mean", "weighted", "attention"] = optional(
        "What stays of a cluster. weighted: the mean, each token by the number of patches that it stands for."
        " attention: the mean, each token by the attention of [CLASS] to it in the block around the stage."
    )
    embedding: Bool = optional("Add a learned vector to each kept token, at first the patches' positional embedding.")
    inside: Bool = optional("Act inside the block that comes next, between attention and MLP.")
    sees: Literal["tokens", "keys"] = optional(
        "What an inside stage compares. keys: those of the block's attention, their mean over heads."
    )
    classes: Literal["mean", "all"] = optional("What becomes of the [CLASS] of joined frames; all: each goes on.")
    clip_embedding: Natural = optional("Number of frames or segments given; each gets a learned vector. 0: no vectors.")
    padded: Literal["drop", "keep"] = optional(
        "Segments of a short video. drop: one counts if its last frame is real, [CLASS] is the mean of all its frames;"
        " keep: one counts if any frame is real, [CLASS] is the mean of the real frames."
    )
    options: dict[Str, Any] = optional("[Options of the algorithm](#options-of-the-algorithms).")


class ScheduleBlock(Block):
    name: Literal["tome", "pitome", "tempme", "evit"] = doc("A function of centerclip/method/schedules.py.")
    remove: Natural | BelowOne | list[Natural | BelowOne] = optional(
        "Tokens that a frame loses in a block, or their share, one number or one a block. evit: one number is that of"
        " each of 3 blocks."
    )
    joins: list[Annotated[Int, Field(ge=2)]] = optional(
        "tempme: how many neighbouring clips become one, in front of as many blocks; the last block comes after them."
    )
    across: Share = optional("tempme: share of the tokens that merges where clips are joined.")
    within: Share = optional("tempme: share of the tokens that merges inside these blocks and the last.")


class VariantBlock(Block):
    """A model. With no key at all: the baseline."""

    shift: Literal["temporal_shift", "token_shift", "temporal_shift_in_branches", "token_shift_in_branches"] = optional(
        "A shift of centerclip/method/shifts.py."
    )
    backbone: Backbone = doc(BACKBONE, None)
    train: Bool = doc("false: the backbone's own weights.", True)
    frames: Count = doc(FRAMES, None)
    image_size: Count = optional(
        "Pixels of a frame's side, in place of the backbone's own: a multiple of its patch size. Positions are"
        " interpolated as in open_clip."
    )
    against: Str = optional(
        "The variant that this one is compared with, in place of the baseline of its own backbone, frames and"
        " image_size. What names one is a control and no baseline itself."
    )
    segment_frames: Count = optional("Frames a segment of its first stage, in place of `frames`.")
    stages: list[Annotated[StageBlock, requires("algorithm")]] = optional("Where it reduces the number of tokens.")
    schedule: ScheduleBlock = optional("A method that stands for many stages, in place of them.")
    proportional: Bool = doc("A token weighs in attention as much as the patches that it stands for.", False)
    vectors: Literal["mean", "segments", "medoids"] = doc(
        "Vectors of a video. mean: one, the mean of its segments'. segments: one a segment. medoids: one a token that a"
        " segment has left. Of several vectors the most similar one counts, in training, evaluation and search.",
        "mean",
    )
    training: TrainingBlock = doc(RECIPE, None)

    @model_validator(mode="after")
    def check_segments(self) -> "VariantBlock":
        if self.segment_frames and not self.stages:
            raise wrong("missing", "stages")
        return self


class GridBlock(Block):
    of: Str = doc("The variant that is changed.")
    sets: Str = doc("What is changed: frames, segment_frames, a key of its stages or an option of their algorithm.")
    values: Values = doc("Its values, a variant each.")


class ShapesBlock(Block):
    reader: Literal["shapes"] = doc(READER)
    seed: Natural = doc("Seed of the scenes.")
    videos: Annotated[dict[Split, Count], requires(*typing.get_args(Split))] = doc("How many a split has.")
    resolution: Int = doc("Pixels, square, even.", ge=32, multiple_of=2)


class FolderBlock(Block):
    """Your own videos and captions. Relative paths start where snakemake runs."""

    reader: Literal["folder"] = doc(READER)
    videos: Str = doc("A directory of videos.")
    captions: Str = doc(
        "A csv with the columns video, a path in `videos`, and caption, empty for a video that is only a candidate; and"
        " maybe split: train, val or test (the default), start_s and end_s: where a clip begins and ends, in seconds."
    )
    columns: dict[Literal["video", "caption", "split", "start_s", "end_s"], Str] = optional(
        "The csv's own names of them."
    )


class HubBlock(Block):
    """Parquet files of a repository of data sets on the Hugging Face Hub: a row a video and its captions."""

    reader: Literal["hub"] = doc(READER)
    repository: Annotated[Str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] = doc("ORG/NAME.")
    revision: Annotated[Str, Field(pattern="^[0-9a-f]{40}$")] = doc("The commit.")
    files: Annotated[dict[Split, Str], Field(min_length=1)] = doc(
        "For each split, a glob of parquet files: data/test-*.parquet."
    )
    columns: dict[Literal["video", "caption"], Str] = optional("The files' own names of them.")


class PublishedBlock(Block):
    reader: Literal["msvd", "lsmdc"] = doc(READER)
    local: dict[Str, Str] = optional(
        "Paths of what needs no download: files or archives by their names in config/sources.csv, or the directory"
        " `videos`."
    )


class MSRVTTBlock(PublishedBlock):
    reader: Literal["msrvtt"] = doc(READER)
    train: Literal["9k", "7k"] = doc("Which training videos.")


class ActivityNetBlock(PublishedBlock):
    reader: Literal["activitynet"] = doc(READER)
    lists: Str | None = optional(
        "The videos that count, by name: a file, text or json, or a directory with train_list.txt, val_list.txt and"
        " test_list.txt. null: all videos."
    )


class DiDeMoBlock(ActivityNetBlock):
    reader: Literal["didemo"] = doc(READER)
    seconds: Positive | None = optional("Seconds of a video that are used, from its start. null: all of it.")


class BenchmarkBlock(Block):
    source: ShapesBlock | FolderBlock | HubBlock | PublishedBlock | MSRVTTBlock | ActivityNetBlock | DiDeMoBlock = doc(
        "Where videos and captions come from: rendered, your own, from the Hub, or downloaded by config/sources.csv.",
        discriminator="reader",
    )
    variants: SomeNames = optional("Variants to run if `run.variants` is null.")
    counts: dict[Split, dict[Literal["videos", "captions"], Natural]] | None = optional(
        "Videos and captions that a split must have, before those without a file are left out. null: any."
    )
    dataset: Str = optional("The benchmark whose files and stored frames it uses, in place of own fps and shards.")
    fps: Positive | Literal["all"] = optional(
        "Frames stored a second, as JPEGs. all: every frame, as PNG, for videos that are re-encoded as the authors do."
    )
    shards: Int = optional("Files that the stored frames are spread over, a job each.", ge=1, le=10000)
    max_unreadable_share: Share = doc("The run stops if a larger share of videos gives no frame.")
    partial: Bool = doc(
        "Run on the videos that are there: missing ones do not count in max_unreadable_share, and results are marked.",
        False,
    )
    frames: Count = doc(FRAMES)
    text_tokens: Int = doc("Tokens of a caption, start and end marks included.", ge=3)
    stage: Annotated[StageBlock, requires("block", "segments", "clusters")] = doc("What a variant's stages leave out.")
    training: TrainingBlock = doc(RECIPE, None)

    @model_validator(mode="after")
    def check_dataset(self) -> "BenchmarkBlock":
        for key in ("fps", "shards"):
            if self.dataset is None and getattr(self, key) is None:
                raise wrong("missing", key)
            if self.dataset is not None and getattr(self, key) is not None:
                raise wrong(f"is that of {self.dataset}, whose frames are used", key)
        if self.dataset is not None and getattr(self.source, "local", None) is not None:
            raise wrong(f"belongs to {self.dataset}, whose files are used", "source", "local")
        return self


class Config(Block):
    """The config of the workflow. Closed, so that a key mistyped is an error and not a default."""

    run: RunBlock = doc("What the target `all` makes.")
    seeds: Seeds = doc("Of everything drawn at random, a model each. The first has the plain name, others NAME-seed-N.")
    backbone: Backbone = doc(BACKBONE)
    weights: Weights = doc(
        "What each backbone that is used starts from: a tag that `centerclip backbones` lists, such as openai, or"
        " hf-hub:ORG/NAME, downloaded once; a local .safetensors, .pt or .bin file, whose relative path starts where"
        " snakemake runs; or null for random weights."
    )
    stall_seconds: Positive = doc("Seconds without a frame after which a video is ended, named and left out.")
    select: Select = doc("The epoch whose weights are kept. best: of text-to-video R@1 on test; val: on val.")
    training: TrainingBlock = Field()
    evaluation: EvaluationBlock = doc("How features are computed.")
    variants: dict[Variants, VariantBlock] = doc("The models compared, by name, in a-z, 0-9, _ and -.")
    lists: dict[Str, SomeNames] = doc("Lists of variants by name, for run.variants.")
    grids: dict[Word, GridBlock] = doc(
        "Ablations by name, in a-z and 0-9: a variant for each value, called OF-NAME-VALUE."
    )
    benchmarks: dict[Benchmarks, BenchmarkBlock] = doc("Datasets and protocols by name, in a-z, 0-9 and -.")


def options(block: type[Block]) -> dict[str, FieldInfo]:
    """The settings of a block that are options of a command."""
    return {name: field for name, field in block.__pydantic_fields__.items() if name not in RESERVED}


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def command_line(block: type[Block], settings: Block, prefix: str = "") -> str:
    """What `settings` has of a block and is not as by default, as options of `add_settings`."""
    values = {name: getattr(settings, name) for name in options(block)}
    changed = {name: value for name, value in values.items() if value != options(block)[name].default}
    return " ".join(f"{flag(prefix + name)} {json.dumps(value)}" for name, value in changed.items())


def add_settings(parser: argparse.ArgumentParser, block: type[Block], prefix: str = "") -> None:
    """Give a command an option for each setting of a block but RESERVED."""
    for name, field in options(block).items():
        how = {"type": partial(typed, block, name), "default": field.default, "help": field.description}
        alone = {"nargs": "?", "const": True} if field.annotation is bool else {}
        parser.add_argument(flag(prefix + name), **how, **alone)


def typed(block: type[Block], name: str, text: str) -> object:
    """A command line's value of a setting, for argparse."""
    value = text
    with suppress(ValueError):
        value = json.loads(text)
    try:
        return getattr(block(**{name: value}), name)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(mistake(error, {name: value})[1]) from None


def settings_of(block: type[Block], arguments: argparse.Namespace, prefix: str = "") -> dict:
    """The settings of a block that the options of `add_settings` say."""
    return {name: getattr(arguments, prefix + name) for name in options(block)}


def mistake(error: ValidationError, given: object) -> tuple[list, str]:
    """The deepest key of `given` about which `error` is, the nearest to what was typed, and what is wrong there."""
    errors = [(place(each, given), each) for each in error.errors()]
    key = max((key for key, _ in errors), key=len)
    first, *others = [each for found, each in errors if found == key]
    match first["type"]:
        case "problem":
            return key, first["msg"]
        case "missing" | "union_tag_not_found":
            return key, "missing"
        case "union_tag_invalid":
            return key, f"{first['ctx']['tag']!r} should be one of {first['ctx']['expected_tags']}"
    allowed = [each["msg"].partition(" should ")[2].partition(" or an instance")[0] for each in (first, *others)]
    return key, f"{first['input']!r} should {' or '.join(dict.fromkeys(allowed))}"


def place(error: dict, given: object) -> list:
    """The key of `given` that one error is about. Pydantic's location names the members of unions, too."""
    key = []
    for part in error["loc"]:
        with suppress(KeyError, IndexError, TypeError):
            given = given[part]
            key.append(part)
    if error["type"] == "problem":
        return [*key, *error["ctx"]["key"]]
    if error["type"] == "missing":
        return [*key, error["loc"][-1]]
    return [*key, "reader"] if error["type"].startswith("union_tag") else key


class Bounded:
    """`Annotated` of a type and bounds as text, such as ">= 1": files of algorithms import no pydantic."""

    def __class_getitem__(cls, given: tuple) -> object:
        kind, *bounds = given
        return Annotated[kind, Field(**{BOUNDS[sign]: json.loads(bound) for sign, bound in map(str.split, bounds)})]


def option_type(annotation: str) -> TypeAdapter:
    """The type that the file of an algorithm writes at an option; Any if it is not one of Python's own."""
    plain = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)}
    names = vars(typing) | plain | {"Annotated": Bounded}
    try:
        return TypeAdapter(eval(annotation.replace("typing.", ""), {"__builtins__": {}}, names))
    except Exception:
        return TypeAdapter(Any)


def option_problem(annotation: str, value: object) -> str | None:
    """What is wrong with the value of an algorithm's option whose type is `annotation`; None: nothing."""
    try:
        option_type(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        return mistake(error, value)[1]
    return None
