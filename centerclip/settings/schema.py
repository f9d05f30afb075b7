"""Every setting of the config: its type, its bounds, a sentence, and its default where a config may leave it out.

A new setting is a new field here. From the fields, `make docs` writes workflow/schemas/config.schema.yaml and
config/README.md.
"""

import argparse
import json
import math
import re
import typing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Annotated, Any, Literal

import yaml
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
WORD = "^[a-z0-9]+$"
Word = Annotated[Str, Field(pattern=WORD)]
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
VARIANT = "^(?!.*-seed-)(?!(frames|source)$)[a-z0-9_-]+$"
Variants = Annotated[Str, Field(pattern=VARIANT)]
TAKEN = "benchmarks|downloads|logs|plots|summary|tables|weights"
BENCHMARK = f"^(?!({TAKEN})$)[a-z0-9-]+$"
Benchmarks = Annotated[Str, Field(pattern=BENCHMARK)]
PATTERNS = {  # what they allow, for errors
    WORD: "have only a-z and 0-9",
    VARIANT: "have only a-z, 0-9, _ and -, and neither be frames or source nor contain -seed-",
    BENCHMARK: f"have only a-z, 0-9 and -, and not be {TAKEN.replace('|', ', ')}",
}

AS_TEXT = "; YAML reads it as text: write "
BACKBONE = "The CLIP architecture, one that `centerclip backbones` lists."
FRAMES = "Frames of a video that the model sees."
PRECISION = (
    "Precision of matrix products on a GPU; bfloat16 also on a CPU with matrix units (AMX). The rest is float32."
)
READER = "Name of a file in centerclip/data/datasets."
RECIPE = "Settings of the recipe that differ."


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

    epochs: Count = doc("Number of passes over the training captions.", 5)
    batch_size: Int = doc("Videos in a training step.", 128, ge=2)
    lr: Positive = doc("Peak learning rate of CLIP's weights, or of their low-rank factors.", 5e-6)
    lr_new: Positive = doc("Peak learning rate of weights that CLIP does not have.", 5e-6)
    betas: tuple[BelowOne, BelowOne] = doc("Betas of AdamW.", (0.9, 0.98))
    eps: Positive = doc("Epsilon of AdamW.", 1e-6)
    weight_decay: Float = doc("Weight decay of AdamW.", 0.2, ge=0)
    no_decay: Literal["biases", "vectors"] = doc(
        "Parameters without weight decay. vectors: biases, LayerNorms, the class embedding and the logit scale.",
        "biases",
    )
    warmup: Share = doc("Share of the steps in which the learning rate rises. Cosine decay to 0 follows.", 0.1)
    clip_norm: Positive = doc("Largest L2 norm of the gradient.", 1.0)
    frozen: Literal["stem", "backbone", "none"] = doc(
        "Parameters that do not train. stem: everything before the blocks. backbone: everything except the projections,"
        " attention pools, the logit scale and bias, and learned vectors of stages.",
        "stem",
    )
    loss: Literal["softmax", "sigmoid"] = doc(
        "softmax: symmetric cross entropy over the batch, as published. sigmoid: the loss of SigLIP, which judges each"
        " pair alone, for backbones with a logit bias.",
        "softmax",
    )
    tune: Literal["all", "lora"] = doc(
        "all: the weights that `frozen` leaves train. lora: only low-rank factors in all blocks of both towers and"
        " learned vectors of stages train, whatever `frozen` says. The written weights contain the factors.",
        "all",
    )
    rank: Count = doc("With lora: rank of the factors.", 8)
    where: Parts = doc("With lora: the projections of attention that get factors.", ("q", "k", "v"))
    spans: Literal["floor", "whole"] = doc(
        "Frames are drawn from equal parts of a video. whole: the parts cover the video. floor: each part is rounded"
        " down to whole frames, so that the end is never seen.",
        "floor",
    )
    precision: Precision = doc(PRECISION, "float16")


class Training(Recipe):
    """The recipe of a cell."""

    select: Select = "best"


class Work(Block):
    """How a training job works, which changes no result."""

    gpus: Count = doc("GPUs of a training job, which share the batch. Without a GPU: number of CPU processes.", 1)
    chunk: Count | None = optional("Pairs that a GPU encodes at a time. null: all, then half when its memory is full.")
    grad_checkpointing: Bool = doc("Compute activations twice, which takes less memory and a third more time.", False)
    workers: Natural = doc("Processes that load frames, for each GPU.", 0)
    checkpoint_minutes: Positive = doc("Minutes between checkpoints within an epoch.", 10)
    threads: Count = doc("Cores that a training job asks for, for each GPU.", 1)


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

    gpu_batch: Count = doc("Videos of the step whose GPU memory the tables show. It changes no training.", 64)


class EvaluationBlock(Evaluation):
    precision: Precision = doc(PRECISION, "float32")


class RunBlock(Block):
    benchmarks: SomeNames = doc("Names under `benchmarks`.")
    variants: Str | SomeNames | None = doc("Names under `variants`, or a name under `lists`. null: each benchmark's.")
    grids: Names = doc("Names under `grids`. Every benchmark of the run also gets their variants.")
    full_size: Bool = doc("Measure the costs of the paper's models, with random weights: a minute on 2 cores.")
    costs: Bool = doc("Measure the costs of variants, last. false: no costs in tables, no plots of costs.")
    tolerance: Positive = doc("Points of text-to-video R@1 by which a claim may miss and still hold.")
    costs_minutes: Positive = doc("Minutes after which the measurement of a benchmark's costs starts no further turn.")
    gpu_hour_price: Positive | None = doc("Price of an hour of a GPU, for the tables. null: unknown.")


class StageBlock(Block):
    """A stage that reduces the tokens of a model. Keys that a variant leaves out come from its benchmark's `stage`."""

    algorithm: Str = optional("Name of a file in centerclip/method/reduction.")
    block: Natural = optional("Number of blocks before the stage.")
    segments: Count | None = optional("Equal parts of the frames. null: each frame, or earlier segment, alone.")
    clusters: Count = optional("Tokens that a segment keeps.")
    remove: Natural | BelowOne = optional(
        "In place of clusters: number or share of the tokens that a segment loses, at most half of the patches. The"
        " share is of all tokens, including [CLASS]."
    )
    keep: Literal["medoid", "mean", "weighted", "attention"] = optional(
        "The token that replaces a cluster. weighted: the mean, weighted by the number of patches in each token."
        " attention: the mean, weighted by the attention of [CLASS] to each token in the block around the stage."
    )
    embedding: Bool = optional("Add a learned vector to each kept token, at first its positional embedding.")
    inside: Bool = optional("Act inside the next block, between attention and MLP.")
    sees: Literal["tokens", "keys"] = optional(
        "What an inside stage compares. keys: the keys of the block's attention, averaged over heads."
    )
    classes: Literal["mean", "all"] = optional(
        "The [CLASS] tokens of joined frames. mean: their mean. all: each stays."
    )
    clip_embedding: Natural = optional(
        "Frames or segments before the stage. Each gets a learned vector. 0: no vectors."
    )
    padded: Literal["drop", "keep"] = optional(
        "Padded segments of a short video. drop: a segment counts if its last frame is real, and [CLASS] is the mean"
        " over all frames. keep: a segment counts if any frame is real, and [CLASS] is the mean over the real frames."
    )
    options: dict[Str, Any] = optional("[Options of the algorithm](#options-of-the-algorithms).")


class ScheduleBlock(Block):
    name: Literal["tome", "pitome", "tempme", "evit"] = doc("Name of a function in centerclip/method/schedules.py.")
    remove: Natural | BelowOne | list[Natural | BelowOne] = optional(
        "Number or share of the tokens that a frame loses in a block: one value, or a list with a value for each block."
        " evit: one value is for each of 3 blocks."
    )
    joins: list[Annotated[Int, Field(ge=2)]] = optional(
        "tempme: for each join, how many neighbouring clips become one. Each join stands before a block. One more block"
        " follows."
    )
    across: Share = optional("tempme: share of the tokens that merge where clips are joined.")
    within: Share = optional("tempme: share of the tokens that merge inside these blocks and the last block.")


class VariantBlock(Block):
    """A model. A variant without keys is the baseline."""

    shift: Literal["temporal_shift", "token_shift", "temporal_shift_in_branches", "token_shift_in_branches"] = optional(
        "Name of a shift in centerclip/method/shifts.py."
    )
    backbone: Backbone = doc(BACKBONE, None)
    train: Bool = doc("false: the variant uses the backbone's own weights, without training.", True)
    frames: Count = doc(FRAMES, None)
    image_size: Count = optional(
        "Side of a frame in pixels, in place of the backbone's, a multiple of its patch size. Positional embeddings are"
        " interpolated as in open_clip."
    )
    against: Str = optional(
        "The variant that this one is compared with, in place of the baseline of its backbone, frames and image_size. A"
        " variant with this key is a control and never a baseline."
    )
    segment_frames: Count = optional("Frames of a segment of the first stage, in place of `frames`.")
    stages: list[Annotated[StageBlock, requires("algorithm")]] = optional("Where the model reduces tokens.")
    schedule: ScheduleBlock = optional("A method of many stages, in place of `stages`.")
    proportional: Bool = doc("Weight each token in attention by its number of patches.", False)
    vectors: Literal["mean", "segments", "medoids"] = doc(
        "Vectors of a video. mean: one vector, the mean over segments. segments: a vector for each segment. medoids: a"
        " vector for each kept token. If there are several, the most similar one counts, in training, evaluation and"
        " search.",
        "mean",
    )
    training: TrainingBlock = doc(RECIPE, None)

    @model_validator(mode="after")
    def check_segments(self) -> "VariantBlock":
        if self.segment_frames and not self.stages:
            raise wrong("missing", "stages")
        return self


class GridBlock(Block):
    of: Str = doc("The variant to change.")
    sets: Str = doc("The key to change: frames, segment_frames, a key of the stages or an option of their algorithm.")
    values: Values = doc("Values of this key. Each makes a variant.")


class ShapesBlock(Block):
    reader: Literal["shapes"] = doc(READER)
    seed: Natural = doc("Seed of the generated videos.")
    videos: Annotated[dict[Split, Count], requires(*typing.get_args(Split))] = doc("Number of videos in each split.")
    resolution: Int = doc("Side of the square frames in pixels, an even number.", ge=32, multiple_of=2)


class FolderBlock(Block):
    """Your own videos and captions. Relative paths start where snakemake runs."""

    reader: Literal["folder"] = doc(READER)
    videos: Str = doc("A directory of videos.")
    captions: Str = doc(
        "A csv. Column video: a path in `videos`. Column caption: a sentence, or empty for a video that is only a"
        " candidate. Optional columns: split, which is train, val or test (the default); start_s and end_s, bounds of"
        " a clip in seconds."
    )
    columns: dict[Literal["video", "caption", "split", "start_s", "end_s"], Str] = optional(
        "The names of these columns in the csv, where they differ."
    )


class HubBlock(Block):
    """Parquet files of a data set on the Hugging Face Hub. A row has a video and its captions."""

    reader: Literal["hub"] = doc(READER)
    repository: Annotated[Str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] = doc("Name of the repository, ORG/NAME.")
    revision: Annotated[Str, Field(pattern="^[0-9a-f]{40}$")] = doc("Commit of the repository, 40 hex digits.")
    files: Annotated[dict[Split, Str], Field(min_length=1)] = doc("Glob of each split's files: data/test-*.parquet.")
    columns: dict[Literal["video", "caption"], Str] = optional("Names of these columns, where they differ.")


class PublishedBlock(Block):
    reader: Literal["msvd", "lsmdc"] = doc(READER)
    local: dict[Str, Str] = optional(
        "Paths of local copies, which are not downloaded: files or archives by their names in config/sources.csv, or"
        " `videos` for a directory of videos."
    )


class MSRVTTBlock(PublishedBlock):
    reader: Literal["msrvtt"] = doc(READER)
    train: Literal["9k", "7k"] = doc("The set of training videos.")


class ActivityNetBlock(PublishedBlock):
    reader: Literal["activitynet"] = doc(READER)
    lists: Str | None = optional(
        "A list of the videos to use, by name: a text or json file, or a directory with train_list.txt, val_list.txt"
        " and test_list.txt. null: all videos."
    )


class DiDeMoBlock(ActivityNetBlock):
    reader: Literal["didemo"] = doc(READER)
    seconds: Positive | None = optional("Seconds to use, from the start of a video. null: the whole video.")


class BenchmarkBlock(Block):
    source: ShapesBlock | FolderBlock | HubBlock | PublishedBlock | MSRVTTBlock | ActivityNetBlock | DiDeMoBlock = doc(
        "The source of videos and captions: rendered, your own, the Hub, or downloads of config/sources.csv.",
        discriminator="reader",
    )
    variants: SomeNames = optional("Variants to run if `run.variants` is null.")
    counts: dict[Split, dict[Literal["videos", "captions"], Natural]] | None = optional(
        "Number of videos and captions that a split must have, including videos without a file. null: any number."
    )
    dataset: Str = optional("The benchmark whose files and stored frames are used, in place of fps and shards.")
    fps: Positive | Literal["all"] = optional(
        "Frames stored for a second of video, as JPEGs. all: every frame, as PNG, for videos re-encoded as the authors"
        " do."
    )
    shards: Int = optional("Number of files for the stored frames. Each has its own job.", ge=1, le=10000)
    max_unreadable_share: Share = doc("Largest share of videos without frames. The run stops if it is exceeded.")
    partial: Bool = doc(
        "Run on the existing videos. Missing videos do not count in max_unreadable_share, and results are marked.",
        False,
    )
    frames: Count = doc(FRAMES)
    text_tokens: Int = doc("Tokens of a caption, including start and end tokens.", ge=3)
    stage: Annotated[StageBlock, requires("block", "segments", "clusters")] = doc("Defaults of the variants' stages.")
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
    seeds: Seeds = doc("Random seeds, a model each. The first has the plain name, others NAME-seed-N.")
    backbone: Backbone = doc(BACKBONE)
    weights: Weights = doc(
        "Start weights of each backbone: a tag that `centerclip backbones` lists, such as openai, or hf-hub:ORG/NAME,"
        " both downloaded once; a local .safetensors, .pt or .bin file, whose relative path starts where snakemake"
        " runs; or null for random weights."
    )
    stall_seconds: Positive = doc(
        "Seconds without a frame after which a video is tried again. The third time it is named and left out."
    )
    select: Select = doc(
        "The epoch whose weights are kept. best: the epoch with the best text-to-video R@1 on test. val: the best on"
        " val. last: the last one."
    )
    training: TrainingBlock = Field()
    evaluation: EvaluationBlock = doc("Settings for encoding videos and captions.")
    variants: dict[Variants, VariantBlock] = doc("The compared models, by name. A name has a-z, 0-9, _ and -.")
    lists: dict[Str, SomeNames] = doc("Lists of variants by name, for run.variants.")
    grids: dict[Word, GridBlock] = doc("Ablations by name, in a-z and 0-9. Each value makes a variant OF-NAME-VALUE.")
    benchmarks: dict[Benchmarks, BenchmarkBlock] = doc("Datasets and protocols, by name. A name has a-z, 0-9 and -.")


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
        how = {"type": partial(typed, block, name), "default": field.default}
        alone = {"nargs": "?", "const": True} if field.annotation is bool else {}
        text = f"{field.description} (default: {json.dumps(field.default)})"
        parser.add_argument(flag(prefix + name), **how, **alone, help=text)


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
    allowed = " or ".join(dict.fromkeys(map(what_is_allowed, (first, *others))))
    value, hint = first["input"], ""
    if isinstance(value, str):
        with suppress(ValueError):  # YAML 1.1 has no number 1e-3
            meant = json.loads(value)
            kinds = {bool: ["boolean"], int: ["integer", "number"], float: ["number"]}.get(type(meant), [])
            if any(f"valid {kind}" in allowed for kind in kinds) and math.isfinite(meant):
                hint = f"{AS_TEXT}{yaml.safe_dump(meant).split()[0]}"
    shown = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return key, f"{shown} should {allowed}{hint}"


def what_is_allowed(error: dict) -> str:
    """What stands behind `should` in the line of one error, in the words of YAML."""
    if pattern := PATTERNS.get(error.get("ctx", {}).get("pattern")):
        return pattern
    allowed = error["msg"].partition(" should ")[2]
    allowed = re.sub("(valid )?dictionary", "mapping of keys to values", allowed).replace("valid tuple", "valid list")
    return re.split(" or an instance| or object| after validation", allowed)[0]


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
