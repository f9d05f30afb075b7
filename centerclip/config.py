"""The config: checked in one place, resolved into the plain settings of one cell. Imports nothing heavy."""

from collections.abc import Iterable
from functools import partial, reduce
from itertools import chain
from operator import or_
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from centerclip import ROOT, backbones, clustering
from centerclip.stage import UserError

BASE, SCHEMA = ROOT / "config/config.yaml", ROOT / "workflow/schemas/config.schema.yaml"
FRAME_KEYS = ("frames", "segment_frames")  # what a grid sets of a variant itself
STAGE_KEYS = ("block", "segments", "clusters", "keep", "embedding")  # what else a grid sets is an algorithm's option
CONDUCT = {  # the settings of how jobs go about their work, which change no result
    "training": ("workers", "threads", "checkpoint_minutes", "gpu_batch"),
    "evaluation": ("batch_size", "workers", "threads"),
}
OPENAI_WEIGHTS = "results/weights/{backbone}.safetensors"  # where the workflow puts what `openai` stands for


class Misfit(UserError):
    """Settings of a cell that do not fit each other: `keys` are theirs, the one most likely wrong first."""

    def __init__(self, problem: str, *keys: list):
        super().__init__(problem)
        self.keys = keys


def check_config(config: dict, schema: dict, given: dict[str, dict]) -> None:
    """Raise UserError, one line with file, key, value and what is allowed, at the first thing wrong with `config`.

    `given` is what `config` was merged from, file -> content, later ones overriding; the last that holds a key gets the
    blame.
    """

    def check_schema(config: dict) -> None:
        if error := best_match(Draft202012Validator(schema).iter_errors(config), key=depth):
            raise complaint(given, *describe(error))

    check_schema(config)
    for name, grid in config["grids"].items():
        check_names(given, ["grids", name, "of"], [grid["of"]], config["variants"])
        if grid["sets"] != "frames" and not config["variants"][grid["of"]].get("stages"):
            raise complaint(
                given, ["grids", name, "of"], f"{grid['of']} has no stage whose {grid['sets']} could be set"
            )
    every = every_variant(config)
    check_schema(config | {"variants": every})
    check_names(given, ["run", "benchmarks"], config["run"]["benchmarks"], config["benchmarks"])
    check_names(given, ["run", "variants"], config["run"]["variants"] or [], every)
    check_names(given, ["run", "grids"], config["run"]["grids"], config["grids"])
    for benchmark, block in config["benchmarks"].items():
        check_names(given, ["benchmarks", benchmark, "variants"], block.get("variants", []), every)
        if config["run"]["variants"] is None and "variants" not in block:
            raise complaint(given, ["benchmarks", benchmark, "variants"], "missing, and run.variants names none either")
    for benchmark in config["run"]["benchmarks"]:
        for variant in variants(config, benchmark):
            try:
                check_cell(cell(config, benchmark, variant))
            except Misfit as error:
                places = [origin(config, benchmark, variant, key) for key in error.keys]
                last = max(places, key=partial(holder, given))  # they fitted each other until it was set
                raise complaint(given, last, f"{variant} on {benchmark}: {error}") from None


def read_config(overlays: Iterable[Path]) -> dict:
    """BASE with `overlays`, later ones overriding. Raises UserError for what is wrong with it."""
    given = read_yaml([BASE, *overlays])
    config = reduce(merged, given.values())
    check_config(config, yaml.safe_load(SCHEMA.read_text()), given)
    return config


def read_yaml(files: Iterable[str | Path]) -> dict[str, dict]:
    """The contents of config files, by their names. Raises UserError for one that holds no mapping."""
    given = {}
    for file in files:
        try:
            given[str(file)] = yaml.safe_load(Path(file).read_text()) or {}
        except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or a date that is none
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(given[str(file)], dict):
            raise UserError(f"{file}: not a mapping of keys to values")
    return given


def merged(base: dict, overlay: dict) -> dict:
    """`base` with what `overlay` changes, as Snakemake joins config files: mappings are merged, all else replaced."""
    both = {key: merged(base[key], overlay[key]) for key in base.keys() & overlay.keys()
            if isinstance(base[key], dict) and isinstance(overlay[key], dict)}  # fmt: skip
    return base | overlay | both


def check_names(given: dict[str, dict], key: list, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError about `key` for a name that is not `known`."""
    for name in names:
        if name not in known:
            raise complaint(given, key, f"{name!r} is not one of {', '.join(known)}")


def depth(error: ValidationError) -> int:
    """The deeper a problem lies, the nearer it is to what the user typed."""
    return len(error.absolute_path)


def describe(error: ValidationError) -> tuple[list, str]:
    """A schema error as the key it is about and what is wrong there."""
    key = list(error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        wrong = next(name for name in error.instance if name not in allowed)
        return [*key, wrong], f"unknown key; allowed are {', '.join(allowed)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return [*key, missing], "missing"
    if error.validator == "not":
        return key, f"{error.instance!r} is not allowed: {error.schema['description']}"
    if error.validator == "enum":
        return key, f"{error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    return key, error.message


def complaint(given: dict[str, dict], key: list, problem: str) -> UserError:
    """The one line: the file to blame, the key, and what is wrong."""
    file = list(given)[holder(given, key)]
    return UserError(f"{file}: {'.'.join(map(str, key)) or 'config'}: {problem}")


def holder(given: dict[str, dict], key: list) -> int:
    """The place in `given` of the file to blame for `key`: the last of those that hold most of it."""
    found = [held(content, key) for content in given.values()]
    return max(range(len(found)), key=lambda place: (found[place], place))


def held(node: object, key: list) -> int:
    """How many parts of `key`, from the first on, are in `node`."""
    for count, part in enumerate(key):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return count
    return len(key)


def origin(config: dict, benchmark: str, variant: str, key: list) -> list:
    """Where `config` sets what a cell has at `key`: of its grid, its variant, its benchmark or the top level, the first
    that does, as in `cell`."""
    for name, grid in config["grids"].items():
        if variant in points(config, name):
            return ["grids", name] if grid["sets"] == key[-1] else origin(config, benchmark, grid["of"], key)
    of_benchmark = ["stage", *key[2:]] if key[0] == "stages" else key
    places = ["variants", variant, *key], ["benchmarks", benchmark, *of_benchmark]
    return next((place for place in places if held(config, place) == len(place)), key)


def listed(config: dict, benchmark: str) -> list[str]:
    """The variants that `all` makes of a benchmark without any grid: run.variants or its own."""
    return config["run"]["variants"] or config["benchmarks"][benchmark]["variants"]


def variants(config: dict, benchmark: str) -> list[str]:
    """The variants that `all` makes of a benchmark: those listed, then the points of run.grids."""
    grids = [points(config, grid) for grid in config["run"]["grids"]]
    return list(dict.fromkeys(chain(listed(config, benchmark), *grids)))


def cell_names(config: dict, benchmark: str) -> list[str]:
    """The cells that `all` makes of a benchmark: its variants, those that train once more for each further seed."""
    known, names = every_variant(config), variants(config, benchmark)
    seeds = [f"-seed-{seed}" for seed in config["seeds"][1:]]
    return [name + seed for name in names for seed in ("", *(seeds if known[name].get("train", True) else ()))]


def points(config: dict, name: str) -> dict[str, dict]:
    """The variants of a grid, name -> settings: that which it is `of`, with one thing changed."""
    grid = config["grids"][name]
    base, key = config["variants"][grid["of"]], grid["sets"]

    def changed(stage: dict, change: dict) -> dict:
        return stage | (change if key in STAGE_KEYS else {"options": stage.get("options", {}) | change})

    found = {}
    for value in grid["values"]:
        change = {key: value}
        if key not in FRAME_KEYS:
            change = {"stages": [changed(stage, change) for stage in base.get("stages", [])]}
        found[f"{grid['of']}-{name}-{str(value).lower().replace('.', 'p')}"] = base | change
    return found


def every_variant(config: dict) -> dict[str, dict]:
    """All variants by name, those of grids too."""
    return reduce(or_, [points(config, name) for name in config["grids"]], config["variants"])


def cell(config: dict, benchmark: str, name: str) -> dict:
    """The settings of one cell, with nothing left to look up: json in, json out. `name` is VARIANT or VARIANT-seed-N.

    A variant's own settings override its benchmark's, which override the config's. Raises UserError for a name that
    the config does not have, and Misfit for a backbone without weights.
    """
    if benchmark not in config["benchmarks"]:
        raise UserError(f"unknown benchmark {benchmark!r}; the config has {', '.join(config['benchmarks'])}")
    variant, _, seed = name.partition("-seed-")
    if variant not in (known := every_variant(config)) or not (seed or "0").isdecimal():
        raise UserError(f"unknown variant {name!r}; the config has {', '.join(known)}")
    data, model = config["benchmarks"][benchmark], known[variant]
    backbone = model.get("backbone", config["backbone"])
    if backbone not in config["weights"]:
        raise Misfit(f"missing: what {backbone} starts from", ["weights", backbone])
    weights = config["weights"][backbone]
    stages = [data["stage"] | stage for stage in model.get("stages", [])]
    frames = model.get("frames", data["frames"])
    if "segment_frames" in model:
        frames = model["segment_frames"] * stages[0]["segments"]
    return {
        "benchmark": benchmark,
        "variant": variant,
        "seed": int(seed or config["seeds"][0]),
        "backbone": backbone,
        "weights": OPENAI_WEIGHTS.format(backbone=backbone) if weights == "openai" else weights,
        "image_size": backbones.geometry(backbone).image_size,
        "frames": frames,
        "words": data["words"],
        "stages": stages,
        "shift": model.get("shift"),
        "train": model.get("train", True),
        "select": config["select"],
        "training": config["training"] | data.get("training", {}) | model.get("training", {}),
        "evaluation": config["evaluation"],
    }


def parted(settings: dict) -> tuple[dict, dict]:
    """A cell's settings in two: those that its result depends on, and CONDUCT's."""
    essence, conduct = dict(settings), {}
    for part, keys in CONDUCT.items():
        essence[part] = {key: value for key, value in settings[part].items() if key not in keys}
        conduct[part] = {key: settings[part][key] for key in keys}
    return essence, conduct


def joined(essence: dict, conduct: dict) -> dict:
    """What `parted` took apart."""
    return essence | {part: essence[part] | settings for part, settings in conduct.items()}


def check_cell(settings: dict) -> None:
    """Raise Misfit where a cell's settings do not fit each other: words, gpus, algorithms, segments, clusters.
    A model that is no cell has no `training`."""
    geometry = backbones.geometry(settings["backbone"])
    if settings["words"] > geometry.context:
        problem = f"words {settings['words']} is more than {settings['backbone']} reads ({geometry.context})"
        raise Misfit(problem, ["words"], ["backbone"])
    if (recipe := settings.get("training")) and recipe["batch_size"] % recipe["gpus"]:
        problem = f"training.gpus {recipe['gpus']} does not divide training.batch_size {recipe['batch_size']}"
        raise Misfit(problem, ["training", "gpus"], ["training", "batch_size"])
    if settings["shift"] not in (None, *clustering.shifts()):
        raise Misfit(f"shift {settings['shift']!r} is not one of {', '.join(clustering.shifts())}", ["shift"])
    if settings["frames"] < 1:
        raise Misfit(f"frames {settings['frames']}: a video has at least 1", ["frames"])
    groups, tokens, last = settings["frames"], geometry.patches, -1
    for number, stage in sorted(enumerate(settings["stages"]), key=lambda item: item[1]["block"]):
        name, at = stage["algorithm"], ["stages", number]
        if name not in clustering.names():
            raise Misfit(f"algorithm {name!r} is not one of {', '.join(clustering.names())}", [*at, "algorithm"])
        unknown = [option for option in stage.get("options", {}) if option not in clustering.options(name)]
        if unknown:
            problem = f"{name} has no option {unknown[0]!r}; it has {', '.join(clustering.options(name))}"
            raise Misfit(problem, [*at, "options", unknown[0]])
        if not last < stage["block"] < geometry.blocks:
            problem = f"block {stage['block']}: stages need different blocks from 0 to {geometry.blocks - 1}"
            raise Misfit(problem, [*at, "block"], ["backbone"])
        if min(stage["segments"], stage["clusters"]) < 1:
            problem = f"segments {stage['segments']}, clusters {stage['clusters']}: neither may be less than 1"
            raise Misfit(problem, [*at, "segments"], [*at, "clusters"])
        if groups % stage["segments"]:
            problem = f"segments {stage['segments']} does not divide the {groups} frames (or earlier segments)"
            raise Misfit(problem, [*at, "segments"], ["frames"])
        if name == "pooling" and stage["clusters"] != tokens:
            problem = f"pooling keeps every patch: clusters must be {tokens}, not {stage['clusters']}"
            raise Misfit(problem, [*at, "clusters"], [*at, "algorithm"], ["backbone"])
        tokens *= groups // stage["segments"]
        if stage["clusters"] > tokens:
            problem = f"clusters {stage['clusters']} is more than the {tokens} tokens of a segment"
            raise Misfit(problem, [*at, "clusters"], [*at, "segments"], ["frames"], ["backbone"])
        groups, tokens, last = stage["segments"], stage["clusters"], stage["block"]
