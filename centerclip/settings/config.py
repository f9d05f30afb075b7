"""The config: read, merged and checked in one place. A mistake is one line with the file to blame."""

import math
from collections.abc import Iterable
from functools import partial, reduce
from importlib.util import find_spec
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from centerclip import ROOT, backbones
from centerclip.backbones import pretrained
from centerclip.command import UserError, located
from centerclip.method.errors import Misfit
from centerclip.settings.cell import Cell, check_cell
from centerclip.settings.resolve import cell, every_variant, points, variants
from centerclip.settings.schema import AS_TEXT, Config, mistake

COMMAND = "--config"  # in place of a file, for keys that no file has
FULL_SIZE = "msrvtt", ["zeroshot", "baseline", "kmedoids-s4", "spectral-s4"]
BASE = ROOT / "config/config.yaml"
HEADLINE = {  # benchmark -> variants of the paper's claims on cost, the baseline first
    "msrvtt": ["baseline", "kmedoids-s4", "kmedoids-s3", "spectral-s4", "spectral-s3"],
    "activitynet": ["baseline", "kmedoids-s15", "kmedoids-s12", "spectral-s15"],
    "msvd": ["baseline-b16", "kmedoids-b16-s4"],
}


def check_config(config: dict, files: dict[str, dict], packages: bool = True) -> None:
    """Raise UserError, one line with file, key, value and what is allowed, at the first mistake in `config`.

    `files` is what `config` was merged from, file -> content, later ones overriding. The last file with a key gets the
    blame. A key in no file was given on the command line. `packages`: whether the run's jobs use this Python, so that
    the optional packages that they need must be installed.
    """
    given = files | {COMMAND: difference(config, reduce(merged, files.values(), {}))}
    check_settings(config, given)
    check_grids(given, config)
    check_controls(given, config["variants"])
    known = every_variant(config)
    for name in config["grids"]:
        check_settings(config | {"variants": points(config, name)}, given, ["grids", name, "values"])
    check_names(given, ["run", "benchmarks"], config["run"]["benchmarks"], config["benchmarks"])
    for name, names in config["lists"].items():
        check_names(given, ["lists", name], names, known)
    if isinstance(chosen := config["run"]["variants"], str):
        if chosen in known and chosen not in config["lists"]:
            raise complaint(given, ["run", "variants"], f"{chosen} is a variant, not one of `lists`: write [{chosen}]")
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
            check_variant(given, config, benchmark, variant, packages)


def check_settings(config: dict, given: dict[str, dict], grid: list | None = None) -> None:
    """Raise UserError for a setting that is not as `schema` describes it. With the key of a `grid`, all variants of
    `config` are its points."""
    try:
        TypeAdapter(Config).validate_python(config)
    except ValidationError as error:
        key, problem = mistake(error, config)
        if grid:
            raise complaint(given, grid, f"{'.'.join(map(str, key[1:]))}: {problem}") from None
        text = " should be a " in problem and problem.startswith("'")
        if text and len(key) > 1 and list(given)[holder(given, key)] == COMMAND:
            advice = "Snakemake takes what is in brackets there as text: write it to a file for --configfile"
            problem = f"{problem.partition(AS_TEXT)[0]}; {advice}"
        raise complaint(given, key, problem) from None


def check_grids(given: dict[str, dict], config: dict) -> None:
    """Raise UserError for a grid whose variant is unknown or has nothing to set, and for a variant with the name of a
    grid's point."""
    for name, grid in config["grids"].items():
        key = ["grids", name, "of"]
        check_names(given, key, [grid["of"]], config["variants"])
        if grid["sets"] != "frames" and not config["variants"][grid["of"]].keys() & {"stages", "schedule"}:
            raise complaint(given, key, f"{grid['of']} has no stage whose {grid['sets']} could be set")
        for point in points(config, name).keys() & config["variants"].keys():
            raise complaint(given, ["variants", point], f"is called like a point of the grid {name}")


def check_controls(given: dict[str, dict], variants: dict[str, dict]) -> None:
    """Raise UserError for a control whose `against` is not a baseline."""
    for name, settings in variants.items():
        if "against" in settings:
            key, baseline = ["variants", name, "against"], settings["against"]
            check_names(given, key, [baseline], variants)
            named = variants[baseline]
            if named.keys() & {"against", "stages", "schedule", "shift"} or not named.get("train", True):
                problem = "is not a baseline: it reduces tokens, is a control, or is not trained"
                raise complaint(given, key, f"{baseline} {problem}")


def check_variant(given: dict[str, dict], config: dict, benchmark: str, variant: str, packages: bool) -> None:
    """Raise UserError where the settings of a variant on a benchmark do not fit each other, or as `check_weights`, or,
    with `packages`, as `check_installed`."""
    try:
        checked = cell(config, benchmark, variant)
        check_cell(checked)
        if packages:
            check_installed(config, checked)
    except Misfit as error:
        places = [origin(config, benchmark, variant, key) for key in error.keys]
        set_there = [place for place in places if depth_of_key(config, place) == len(place)]
        last = max(set_there or places, key=partial(holder, given))  # they fitted each other until it was set
        raise complaint(given, last, f"{variant} on {benchmark}: {error}") from None
    check_weights(given, checked, config["weights"][checked.model.backbone])


def check_installed(config: dict, cell: Cell) -> None:
    """Raise Misfit where the jobs of a cell need an optional package that is not installed."""
    backbone, reader = cell.model.backbone, config["benchmarks"][cell.benchmark]["source"]["reader"]
    if backbones.needs_transformers(backbone) and find_spec("transformers") is None:
        problem = f"the text side of {backbone} needs transformers: pip install 'centerclip[transformers]'"
        raise Misfit(problem, ["backbone"])
    if reader == "hub" and find_spec("pyarrow") is None:
        raise Misfit("the reader hub needs pyarrow: pip install pyarrow", ["source", "reader"])


def check_dataset(given: dict[str, dict], benchmarks: dict[str, dict], name: str) -> None:
    """Raise UserError where benchmark `name` cannot use the files of the benchmark that its `dataset` names."""
    if "dataset" not in benchmarks[name]:
        return
    key, shared = ["benchmarks", name, "dataset"], benchmarks[name]["dataset"]
    check_names(given, key, [shared], benchmarks)
    if "dataset" in benchmarks[shared]:
        raise complaint(given, key, f"{shared} has no files of its own, but those of {benchmarks[shared]['dataset']}")
    readers = [benchmarks[benchmark]["source"]["reader"] for benchmark in (name, shared)]
    if readers[0] != readers[1]:
        raise complaint(given, key, f"{shared} is read by {readers[1]}, not {readers[0]}")


def check_weights(given: dict[str, dict], cell: Cell, weights: str | None) -> None:
    """Raise UserError where the `weights` that a cell starts from are a file that cannot be read, or are published for
    another backbone."""
    key = ["weights", cell.model.backbone]
    if pretrained.published(weights):
        if not Path(cell.model.weights).is_file() and (wrong := pretrained.problem(cell.model.backbone, weights)):
            raise complaint(given, key, wrong)
    elif weights is not None:
        try:
            open(weights, "rb").close()
        except OSError as error:
            raise complaint(given, key, f"{located(Path(weights))}: {error.strerror}") from None


def read_config(overlays: Iterable[Path]) -> dict:
    """BASE with `overlays`, later ones overriding, checked except for packages."""
    files = read_yaml([BASE, *overlays])
    config = reduce(merged, files.values())
    check_config(config, files, packages=False)
    return config


def full_size() -> list[Cell]:
    """The paper's models whose costs a run may measure, by BASE, whatever the run's own config says."""
    (base,) = read_yaml([BASE]).values()
    benchmark, names = FULL_SIZE
    return [cell(base, benchmark, name) for name in names]


class Loader(yaml.SafeLoader):
    """Reads YAML in which no mapping has a key twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value!r} is there twice"
                    raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def read_yaml(files: Iterable[str | Path]) -> dict[str, dict]:
    """The contents of config files, by their names. Raises UserError for a file that is not a mapping, and for a key
    twice, a number that is not finite, a date, or a value inside itself."""
    given = {}
    for file in files:
        try:
            content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader)
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
            raise UserError(f"{file}: not YAML: {line}: {error.problem}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an impossible date
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
        if content is None:
            raise UserError(f"{file}: empty, which Snakemake does not take: write at least {{}}")
        if not isinstance(content, dict):
            raise UserError(f"{file}: not a mapping of keys to values")
        check_values(file, content, [], [])
        given[str(file)] = content
    return given


def check_values(file: str | Path, node: object, key: list, above: list) -> None:
    """Raise UserError where `node`, at `key` of `file` inside the nodes `above`, is or has a value that json lacks."""
    name = ".".join(map(str, key))
    if isinstance(node, float) and not math.isfinite(node):
        raise UserError(f"{file}: {name}: {node} is not a finite number")
    if not isinstance(node, dict | list | str | int | float | None):
        raise UserError(f"{file}: {name}: YAML reads it as a {type(node).__name__}: in quotes it is text")
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
    """The part of `config` that is not in `base`."""
    changed = {key: value for key, value in config.items() if key not in base or base[key] != value}
    return {key: difference(value, base[key]) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
            for key, value in changed.items()}  # fmt: skip


def check_names(given: dict[str, dict], key: list, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError about `key` for a name that is not `known`."""
    for name in names:
        if name not in known:
            raise complaint(given, key, f"{name!r} is not one of {', '.join(known)}")


def complaint(given: dict[str, dict], key: list, problem: str) -> UserError:
    """One line: the file to blame, the key, and what is wrong."""
    file = list(given)[holder(given, key)]
    return UserError(f"{file}: {'.'.join(map(str, key)) or 'config'}: {problem}")


def holder(given: dict[str, dict], key: list) -> int:
    """The place in `given` of the file to blame for `key`: the last of the files that hold most of it."""
    depths = [depth_of_key(content, key) for content in given.values()]
    return max(range(len(depths)), key=lambda place: (depths[place], place))


def depth_of_key(node: object, key: list) -> int:
    """How many parts of `key`, from the first on, are in `node`."""
    for count, part in enumerate(key):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return count
    return len(key)


def origin(config: dict, benchmark: str, variant: str, key: list) -> list:
    """Where `config` sets a cell's `key`: in its grid, its variant, its benchmark or at the top level, as in `cell`."""
    for name, grid in config["grids"].items():
        if variant in points(config, name):
            return ["grids", name] if grid["sets"] == key[-1] else origin(config, benchmark, grid["of"], key)
    of_benchmark = ["stage", *key[2:]] if key[0] == "stages" else key
    places = ["variants", variant, *key], ["benchmarks", benchmark, *of_benchmark]
    return next((place for place in places if depth_of_key(config, place) == len(place)), key)
