"""The config -> the cells that it stands for, with all settings."""

from dataclasses import fields
from functools import reduce
from itertools import chain
from operator import or_

from centerclip import backbones
from centerclip.backbones import pretrained
from centerclip.command import UserError
from centerclip.method import reduction, schedules
from centerclip.method.errors import Misfit
from centerclip.method.stage import Model, Stage
from centerclip.settings import layout
from centerclip.settings.cell import Cell, Costs, Data
from centerclip.settings.schema import Evaluation, EvaluationBlock, Runtime, Training, TrainingBlock

# A grid sets one of these keys of a variant, one of its stages, or an option of the algorithm or the schedule.
FRAME_KEYS = ("frames", "segment_frames")
STAGE_KEYS = [field.name for field in fields(Stage) if field.name not in ("algorithm", "options")]


def listed(config: dict, benchmark: str) -> list[str]:
    """The variants that `all` makes of a benchmark without grids: run.variants, a list or its name, or the benchmark's
    own."""
    chosen = config["run"]["variants"]
    return config["lists"][chosen] if isinstance(chosen, str) else chosen or config["benchmarks"][benchmark]["variants"]


def variants(config: dict, benchmark: str) -> list[str]:
    """The variants that `all` makes of a benchmark: those listed, then the points of run.grids."""
    grids = [points(config, grid) for grid in config["run"]["grids"]]
    return list(dict.fromkeys(chain(listed(config, benchmark), *grids)))


def cell_names(config: dict, benchmark: str) -> list[str]:
    """The cells that `all` makes of a benchmark: its variants, and again for each further seed if they train."""
    known, names = every_variant(config), variants(config, benchmark)
    seeds = [f"-seed-{seed}" for seed in config["seeds"][1:]]
    return [name + seed for name in names for seed in ("", *(seeds if known[name].get("train", True) else ()))]


def points(config: dict, name: str) -> dict[str, dict]:
    """The variants of a grid, name -> settings: the variant that it is `of`, with one key changed."""
    grid = config["grids"][name]
    base, key = config["variants"][grid["of"]], grid["sets"]

    def changed(stage: dict, change: dict) -> dict:
        return stage | (change if key in STAGE_KEYS else {"options": stage.get("options", {}) | change})

    changes = {}
    for value in grid["values"]:
        change = {key: value}
        if "schedule" in base and key not in FRAME_KEYS:
            change = {"schedule": base["schedule"] | change}
        elif key not in FRAME_KEYS:
            change = {"stages": [changed(stage, change) for stage in base.get("stages", [])]}
        changes[f"{grid['of']}-{name}-{str(value).lower().replace('.', 'p')}"] = base | change
    return changes


def every_variant(config: dict) -> dict[str, dict]:
    """All variants by name, with the points of grids."""
    return reduce(or_, [points(config, name) for name in config["grids"]], config["variants"])


def dataset(config: dict, benchmark: str) -> str:
    """The benchmark whose files and stored frames `benchmark` uses: itself, or the one that its block names."""
    return config["benchmarks"][benchmark].get("dataset", benchmark)


def benchmark_settings(config: dict, benchmark: str) -> dict:
    """The settings that a benchmark's raw files and captions depend on, for json."""
    source = config["benchmarks"][benchmark]["source"]
    return {"benchmark": benchmark, "dataset": dataset(config, benchmark), "source": source}


def benchmarks_of(config: dict, name: str) -> list[str]:
    """The benchmarks that use the files and stored frames of dataset `name`."""
    return [benchmark for benchmark in config["benchmarks"] if dataset(config, benchmark) == name]


def cell(config: dict, benchmark: str, name: str) -> Cell:
    """The cell `name`, VARIANT or VARIANT-seed-N, of a benchmark.

    A variant's own settings override its benchmark's, which override the config's. Raises UserError for an unknown
    name, and Misfit for a backbone without weights or a stage without the segments that it needs.
    """
    if benchmark not in config["benchmarks"]:
        raise UserError(f"unknown benchmark {benchmark!r}; the config has {', '.join(config['benchmarks'])}")
    variant, _, seed = name.partition("-seed-")
    if variant not in (known := every_variant(config)) or not (seed or "0").isdecimal():
        raise UserError(f"unknown variant {name!r}; the config has {', '.join(known)}")
    block, settings = config["benchmarks"][benchmark], known[variant]
    backbone = settings.get("backbone", config["backbone"])
    if backbone not in config["weights"]:
        raise Misfit(f"missing: what {backbone} starts from", ["weights", backbone])
    weights = config["weights"][backbone]
    images = pretrained.images(backbone, weights)
    if pretrained.published(weights):
        weights = layout.PRETRAINED.format(backbone=backbone, weights=weights)
    stages = tuple(stage(block["stage"], given) for given in settings.get("stages", []))
    frames = settings.get("frames", block["frames"])
    if "segment_frames" in settings:
        if stages[0].segments is None:
            raise Misfit("segment_frames needs the `segments` of the first stage", ["segment_frames"])
        frames = settings["segment_frames"] * stages[0].segments
    geometry = backbones.geometry(backbone, settings.get("image_size"))
    if "schedule" in settings:
        if stages:
            raise Misfit("a variant has either stages or a schedule", ["schedule"], ["stages"])
        stages = scheduled(settings["schedule"], geometry.blocks, frames)
    recipe = TrainingBlock(**config["training"] | block.get("training", {}) | settings.get("training", {}))
    evaluation = EvaluationBlock(**config["evaluation"])
    return Cell(
        benchmark=benchmark,
        dataset=dataset(config, benchmark),
        variant=variant,
        seed=int(seed or config["seeds"][0]),
        name=name,
        model=Model(
            backbone=backbone,
            weights=weights,
            stages=stages,
            shift=settings.get("shift"),
            proportional=settings.get("proportional", False),
            vectors=settings.get("vectors", "mean"),
        ),
        data=Data(
            frames=frames,
            text_tokens=geometry.context if backbones.reads_padding(backbone) else block["text_tokens"],
            image_size=geometry.image_size,
            images=images,
        ),
        training=Training(**common(Training, recipe), select=config["select"]) if settings.get("train", True) else None,
        precision=evaluation.precision,
        costs=Costs(batch_size=min(recipe.batch_size, recipe.gpu_batch)),
        runtime=Runtime(**common(Runtime, recipe), evaluation=Evaluation(**common(Evaluation, evaluation))),
        against=cell(config, benchmark, settings["against"]).kind if "against" in settings else None,
    )


def stage(defaults: dict, given: dict) -> Stage:
    """A stage of a variant. The `defaults` of its benchmark fill in what it leaves out."""
    if reduction.sees_pixels(given["algorithm"]):
        return Stage(**{"block": 0} | given)
    if "remove" in given:
        defaults = {key: value for key, value in defaults.items() if key != "clusters"}
    return Stage(**defaults | given)


def scheduled(schedule: dict, blocks: int, frames: int) -> tuple[Stage, ...]:
    """The stages of a schedule. Raises Misfit if it does not fit the encoder's blocks or the video's frames."""
    options = {key: value for key, value in schedule.items() if key != "name"}
    try:
        return schedules.stages(schedule["name"], blocks, frames, options)
    except UserError as error:
        raise Misfit(str(error), ["schedule"], ["frames"], ["backbone"]) from None


def common(group: type, given: object) -> dict:
    """The settings of a group that `given` has."""
    return {field.name: getattr(given, field.name) for field in fields(group) if hasattr(given, field.name)}
