"""The config: read, merged and checked in one place. A mistake is one line with the file to blame."""

import math
from collections.abc import Iterable
from functools import partial, reduce
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from centerclip import ROOT, backbones
from centerclip.backbones import pretrained
from centerclip.command import UserError, located
from centerclip.method.errors import Misfit
from centerclip.settings.cell import Cell
from centerclip.settings.checks import check_cell
from centerclip.settings.resolve import cell, every_variant, points, variants

COMMAND = "--config"  # what no file has was given so
FULL_SIZE = "msrvtt", ["zeroshot", "baseline", "kmedoids-s4", "spectral-s4"]
BASE, SCHEMA = ROOT / "config/config.yaml", ROOT / "workflow/schemas/config.schema.yaml"
HEADLINE = {  # benchmark -> variants of the paper's claims on cost, the baseline first
    "msrvtt": ["baseline", "kmedoids-s4", "kmedoids-s3", "spectral-s4", "spectral-s3"],
    "activitynet": ["baseline", "kmedoids-s15", "kmedoids-s12", "spectral-s15"],
    "msvd": ["baseline-b16", "kmedoids-b16-s4"],
}


def check_config(config: dict, files: dict[str, dict]) -> None:
    """Raise UserError, one line with file, key, value and what is allowed, at the first thing wrong with `config`.

    `files` is what `config` was merged from, file -> content, later ones overriding; the last that holds a key gets the
    blame. What no file has was given on the command line.
    """
    schema = yaml.safe_load(SCHEMA.read_text())
    given = files | {COMMAND: difference(config, reduce(merged, files.values(), {}))}
    check_schema(config, schema, given)
    check_backbones(given, config)
    check_grids(given, config)
    known = every_variant(config)
    check_schema(config | {"variants": known}, schema, given)
    check_names(given, ["run", "benchmarks"], config["run"]["benchmarks"], config["benchmarks"])
    for name, names in config["lists"].items():
        check_names(given, ["lists", name], names, known)
    if isinstance(chosen := config["run"]["variants"], str):
        check_names(given, ["run", "variants"], [chosen], config["lists"])
    else:
        check_names(given, ["run", "variants"], chosen or [], known)
    check_names(given, ["run", "grids"], config["run"]["grids"], config["grids"])
    for benchmark, block in config["benchmarks"].items():
        check_dataset(given, config["benchmarks"], benchmark)
        check_names(given, ["benchmarks", benchmark, "variants"], block.get("variants", []), known)
        if config["run"]["variants"] is None and "variants" not in block:
            raise complaint(given, ["benchmarks", benchmark, "variants"], "missing, and run.variants names none either")
    for benchmark in config["run"]["benchmarks"]:
        for variant in variants(config, benchmark):
            check_variant(given, config, benchmark, variant)


def check_schema(config: dict, schema: dict, given: dict[str, dict]) -> None:
    """Raise UserError where `config` breaks the schema, at the deepest problem: it is the nearest to what was typed."""
    errors = Draft202012Validator(schema).iter_errors(config)
    if error := best_match(errors, key=lambda error: len(error.absolute_path)):
        key, problem = describe(error)
        if error.validator == "type" and isinstance(error.instance, str) and list(given)[holder(given, key)] == COMMAND:
            problem += "; Snakemake takes what is in brackets there as text: write it to a file for --configfile"
        raise complaint(given, key, problem)


def check_grids(given: dict[str, dict], config: dict) -> None:
    """Raise UserError for a grid of a variant that there is not or that has nothing to set, and for a variant called
    like a grid's point."""
    for name, grid in config["grids"].items():
        key = ["grids", name, "of"]
        check_names(given, key, [grid["of"]], config["variants"])
        if grid["sets"] != "frames" and not config["variants"][grid["of"]].keys() & {"stages", "schedule"}:
            raise complaint(given, key, f"{grid['of']} has no stage whose {grid['sets']} could be set")
        for point in points(config, name).keys() & config["variants"].keys():
            raise complaint(given, ["variants", point], f"is called like a point of the grid {name}")


def check_variant(given: dict[str, dict], config: dict, benchmark: str, variant: str) -> None:
    """Raise UserError where the settings of a variant on a benchmark do not fit each other, or as `check_weights`."""
    try:
        checked = cell(config, benchmark, variant)
        check_cell(checked)
    except Misfit as error:
        places = [origin(config, benchmark, variant, key) for key in error.keys]
        last = max(places, key=partial(holder, given))  # they fitted each other until it was set
        raise complaint(given, last, f"{variant} on {benchmark}: {error}") from None
    check_weights(given, checked, config["weights"][checked.model.backbone])


def check_dataset(given: dict[str, dict], benchmarks: dict[str, dict], name: str) -> None:
    """Raise UserError where benchmark `name` cannot use the files of the benchmark that its `dataset` names."""
    if "dataset" not in benchmarks[name]:
        return
    key, shared = ["benchmarks", name, "dataset"], benchmarks[name]["dataset"]
    check_names(given, key, [shared], benchmarks)
    if "dataset" in benchmarks[shared]:
        raise complaint(given, key, f"{shared} has no files of its own, but those of {benchmarks[shared]['dataset']}")
    for setting in ("fps", "shards"):
        if setting in benchmarks[name]:
            raise complaint(given, ["benchmarks", name, setting], f"is that of {shared}, whose frames are used")
    if "local" in benchmarks[name]["source"]:
        raise complaint(given, ["benchmarks", name, "source", "local"], f"belongs to {shared}, whose files are used")
    readers = [benchmarks[benchmark]["source"]["reader"] for benchmark in (name, shared)]
    if readers[0] != readers[1]:
        raise complaint(given, key, f"{shared} is read by {readers[1]}, not {readers[0]}")


def check_backbones(given: dict[str, dict], config: dict) -> None:
    """Raise UserError for a name that is not a backbone's, and for weights that are not those of their backbone, as far
    as names tell."""
    variants = [(["variants", name, "backbone"], block) for name, block in config["variants"].items()]
    named = [(key, block["backbone"]) for key, block in variants if "backbone" in block]
    for key, backbone in [(["backbone"], config["backbone"]), *named]:
        if wrong := backbones.problem(backbone):
            raise complaint(given, key, wrong)
    for backbone, weights in config["weights"].items():
        wrong = backbones.problem(backbone)
        if not wrong and pretrained.published(weights):
            wrong = pretrained.misnamed(backbone, weights)
        if wrong:
            raise complaint(given, ["weights", backbone], wrong)


def check_weights(given: dict[str, dict], cell: Cell, weights: str | None) -> None:
    """Raise UserError where the `weights` that a cell starts from are a local file that is not there, or are to be
    downloaded and are none of its backbone's."""
    key, file = ["weights", cell.model.backbone], Path(cell.model.weights or "")
    if weights is None or file.is_file():
        return
    if not pretrained.published(weights):
        raise complaint(given, key, f"{located(file)}: no such file")
    if wrong := pretrained.problem(cell.model.backbone, weights):
        raise complaint(given, key, wrong)


def read_config(overlays: Iterable[Path]) -> dict:
    """BASE with `overlays`, later ones overriding. Raises UserError for what is wrong with it."""
    files = read_yaml([BASE, *overlays])
    config = reduce(merged, files.values())
    check_config(config, files)
    return config


def full_size() -> list[Cell]:
    """The paper's models whose costs a run may measure: those of BASE, whatever the run's own config says."""
    (base,) = read_yaml([BASE]).values()
    benchmark, names = FULL_SIZE
    return [cell(base, benchmark, name) for name in names]


class Loader(yaml.SafeLoader):
    """Reads YAML in which no mapping has a key twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and names.count(key.value) > 1:
                raise yaml.composer.ComposerError(
                    problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                )
        return node


def read_yaml(files: Iterable[str | Path]) -> dict[str, dict]:
    """The contents of config files, by their names. Raises UserError for one that holds no mapping, a key twice, a
    number that is not finite, or a value inside itself."""
    given = {}
    for file in files:
        try:
            content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader) or {}
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an impossible date
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: not a mapping of keys to values")
        check_values(file, content, [], [])
        given[str(file)] = content
    return given


def check_values(file: str | Path, node: object, key: list, above: list) -> None:
    """Raise UserError where `node`, which is at `key` of `file` inside the nodes `above`, is or has a value that json
    could not say."""
    name = ".".join(map(str, key))
    if isinstance(node, float) and not math.isfinite(node):
        raise UserError(f"{file}: {name}: {node} is not a finite number")
    if any(node is other for other in above):
        raise UserError(f"{file}: {name}: is an alias of a value that it is part of")
    if isinstance(node, dict | list):
        for part, value in node.items() if isinstance(node, dict) else enumerate(node):
            check_values(file, value, [*key, part], [*above, node])


def merged(base: dict, overlay: dict) -> dict:
    """`base` with what `overlay` changes, as Snakemake joins config files: mappings are merged, all else replaced."""
    both = {key: merged(base[key], overlay[key]) for key in base.keys() & overlay.keys()
            if isinstance(base[key], dict) and isinstance(overlay[key], dict)}  # fmt: skip
    return base | overlay | both


def difference(config: dict, base: dict) -> dict:
    """What of `config` is not in `base`."""
    changed = {key: value for key, value in config.items() if key not in base or base[key] != value}
    return {key: difference(value, base[key]) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
            for key, value in changed.items()}  # fmt: skip


def check_names(given: dict[str, dict], key: list, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError about `key` for a name that is not `known`."""
    for name in names:
        if name not in known:
            raise complaint(given, key, f"{name!r} is not one of {', '.join(known)}")


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
    if error.validator == "enum":
        return key, f"{error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    return key, error.message


def complaint(given: dict[str, dict], key: list, problem: str) -> UserError:
    """The one line: the file to blame, the key, and what is wrong."""
    file = list(given)[holder(given, key)]
    return UserError(f"{file}: {'.'.join(map(str, key)) or 'config'}: {problem}")


def holder(given: dict[str, dict], key: list) -> int:
    """The place in `given` of the file to blame for `key`: the last of those that hold most of it."""
    depths = [held(content, key) for content in given.values()]
    return max(range(len(depths)), key=lambda place: (depths[place], place))


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
