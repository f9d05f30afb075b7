"""Write workflow/schemas/config.schema.yaml and config/README.md: python docs/config_docs.py"""

import ast
import json
import re
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from centerclip import ROOT
from centerclip.method import reduction
from centerclip.settings import schema as settings
from centerclip.settings.config import BASE
from centerclip.settings.schema import Config, option_type

SCHEMA, PAGE = ROOT / "workflow/schemas/config.schema.yaml", ROOT / "config/README.md"
MADE = "`make docs` writes this file from `centerclip/settings/schema.py`. Do not edit it."
HEADER = f"""\
# Every key of the config

{MADE} NAME stands for a name of your choice.
The default is the value in `config.yaml` or, without one, that of the workflow.
"""
TABLE = "\n| key | value | default | what it is |\n|:--|:--|:--|:--|\n"
TYPES = {"object": "mapping", "array": "list", "string": "text", "boolean": "true or false", "null": "`null`"}
BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}


def title(reference: str) -> str:
    return reference.rpartition("/")[2].removesuffix("Block").lower()


def words(node: dict) -> str:
    """What a key takes; a link for a mapping with keys of its own."""
    if "$ref" in node:
        return f"[{title(node['$ref'])}](#{title(node['$ref'])})"
    if choices := node.get("anyOf", node.get("oneOf")):
        return " or ".join(map(words, choices))
    if choices := node.get("enum", [node["const"]] if "const" in node else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    text = TYPES.get(node.get("type", "object"), node.get("type"))
    if item := node.get("items", node.get("prefixItems", [None])[0]):
        return f"{text} of {words(item)}"
    values = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    if isinstance(values[0], dict):
        names = ", ".join(f"`{name}`" for name in node.get("propertyNames", {}).get("enum", [])) or "NAME"
        return f"{text} of {names} to {words(values[0])}"
    return " ".join([text, *(bound.format(node[key]) for key, bound in BOUNDS.items() if key in node)])


def row(key: str, node: dict, defaults: dict, text: str) -> str:
    shown = "" if key not in defaults or isinstance(defaults[key], dict) else f"`{json.dumps(defaults[key])}`"
    shown = re.sub(r"\b(\d+)e", r"\1.0e", shown)  # YAML 1.1 has no number 5e-06
    return f"| `{key}` | {words(node)} | {shown} | {text} |\n"


def table(node: dict, blocks: dict, config: dict) -> str:
    """A row a key of a mapping, whose defaults `config` says before `node` does."""
    keys = {key: blocks.get(title(child.get("$ref", "")), {}) | child for key, child in node["properties"].items()}
    defaults = {key: child["default"] for key, child in keys.items() if child.get("default") is not None} | config
    return TABLE + "".join(
        row(key, child, defaults, " ".join(child["description"].split())) for key, child in keys.items()
    )


def options_table(name: str) -> str:
    """The rows of an algorithm's options, as its file describes them."""
    function, texts = reduction.function(name), {}
    for names, text in re.findall(r"^ {4}([\w, ]+): (.+(?:\n {8}.+)*)", ast.get_docstring(function), re.MULTILINE):
        texts |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    arguments = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    defaults = {argument.arg: ast.literal_eval(default) for argument, default in arguments if default}
    types = {key: option_type(reduction.annotation(name, key)).json_schema() for key in reduction.options(name)}
    return f"\n### {name}\n{TABLE}" + "".join(row(key, kind, defaults, texts[key]) for key, kind in types.items())


def pages() -> dict[Path, str]:
    """The files and what belongs in them."""
    schema = TypeAdapter(Config).json_schema()
    config = yaml.safe_load(BASE.read_text())
    blocks = {title(name): schema["$defs"][name] for name in vars(settings) if name in schema["$defs"]}
    parts = [HEADER, table(schema, blocks, config)]
    for name, node in blocks.items():
        text = f"\n{' '.join(node['description'].split())}\n" if "description" in node else ""
        parts.append(f"\n## {name}\n{text}{table(node, blocks, config.get(name, {}))}")
    parts.append("\n## Options of the algorithms\n\nThese are the `options` of a stage for each `algorithm`.\n")
    parts += [options_table(name) for name in reduction.names() if reduction.options(name)]
    text = yaml.safe_dump(schema, sort_keys=False, default_flow_style=None, width=120)
    return {SCHEMA: f"# {MADE}\n{text}", PAGE: "".join(parts)}


if __name__ == "__main__":
    for file, content in pages().items():
        file.write_text(content, encoding="utf-8")
