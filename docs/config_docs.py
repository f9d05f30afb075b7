"""The config's schema -> config/README.md, a row a key: python docs/config_docs.py > config/README.md"""

import json
from collections.abc import Iterator

import yaml

from centerclip.settings.config import BASE, SCHEMA

HEADER = """\
# Every key of the config

Made by `make docs` from `workflow/schemas/config.schema.yaml` and `config.yaml`; do not edit. NAME stands for a name of
your choice. The default is what `config.yaml` says; without one, a key may be left out or each block has its own.
"""
TABLE = "\n| key | value | default | what it is |\n|:--|:--|:--|:--|\n"
TYPES = {"object": "mapping", "array": "list", "string": "text", "boolean": "true or false"}
BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}


def definition(node: dict) -> str | None:
    """The name of the definition that a node refers to, directly or by `allOf`."""
    references = [part["$ref"] for part in (node, *node.get("allOf", [])) if "$ref" in part]
    return references[0].rpartition("/")[2] if references else None


def resolved(node: dict, schema: dict) -> dict:
    """A node with what it refers to; what it says itself goes first."""
    name = definition(node)
    return (schema["$defs"][name] if name else {}) | node


def keys(node: dict, schema: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """(path, node) of each key below a node, depth first, in the schema's order; not into definitions."""
    children = dict(node.get("properties", {}))
    if isinstance(node.get("additionalProperties"), dict):
        children["NAME"] = node["additionalProperties"]
    for name, child in children.items():
        if child:  # an empty one is described elsewhere
            yield (*path, name), child
            yield from keys(child, schema, (*path, name))


def sections(schema: dict) -> Iterator[tuple[str, dict]]:
    """(name, node) of the definitions that have keys of their own."""
    return ((name, node) for name, node in schema["$defs"].items() if "properties" in node or name == "local")


def value(node: dict, schema: dict) -> str:
    """What a key takes, in words; a link for a definition with keys of its own."""
    name = definition(node)
    if name in dict(sections(schema)):
        return f"[{name}](#{name})"
    node = resolved(node, schema)
    if "anyOf" in node:
        return " or ".join(value(part, schema) for part in node["anyOf"])
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"])
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    words = " or ".join(TYPES.get(kind, kind) for kind in types if kind != "null")
    if "items" in node:
        words += f" of {value(node['items'], schema)}"
    bounds = [text.format(node[bound]) for bound, text in BOUNDS.items() if bound in node]
    return " ".join([words, *bounds]) + (", or `null`" if "null" in types else "")


def default(config: object, path: tuple[str, ...]) -> str:
    """What a config says at `path`, as json; nothing where it says nothing, or a mapping."""
    for part in path:
        if not isinstance(config, dict) or part not in config:
            return ""
        config = config[part]
    return "" if isinstance(config, dict) else f"`{json.dumps(config)}`"


def table(node: dict, schema: dict, config: dict) -> str:
    rows = []
    for path, child in keys(node, schema):
        description = resolved(child, schema)["description"]
        rows.append(f"| `{'.'.join(path)}` | {value(child, schema)} | {default(config, path)} | {description} |\n")
    return TABLE + "".join(rows)


def markdown(schema: dict, config: dict) -> str:
    """The page: a table of the config's keys, and one for each definition with keys of its own."""
    parts = [HEADER, table(schema, schema, config)]
    for name, node in sections(schema):
        parts.append(f"\n## {name}\n\n{node['description']}\n{table(node, schema, config.get(name, {}))}")
    return "".join(parts)


if __name__ == "__main__":
    print(markdown(yaml.safe_load(SCHEMA.read_text()), yaml.safe_load(BASE.read_text())), end="")
