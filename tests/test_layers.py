"""Imports point down the layers of docs/architecture.md, and no modules import each other in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "centerclip"
LAYERS = [
    {"method"},
    {"command", "gpus", "backbones"},
    {"settings"},
    {"data"},
    {"train", "evaluate"},
    {"search"},  # pictures show what it finds
    {"report"},
    {"plan"},
    {"bench"},
    {"commands"},
    {"cli", "__main__", "__init__"},
]


def name_of(file: Path) -> str:
    """The module of a file, without the package's name."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in PACKAGE.rglob("*.py")}


def imported(nodes) -> set[str]:
    """The modules of this package that statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            parent = node.module.removeprefix(PACKAGE.name).lstrip(".")
            inside = {f"{parent}.{alias.name}".lstrip(".") for alias in node.names} & MODULES.keys()
            names |= inside if len(inside) == len(node.names) else inside | {parent or "__init__"}
    return names


def layer(module: str) -> int:
    return next(place for place, names in enumerate(LAYERS) if module.split(".")[0] in names)


def test_imports_point_down():
    for module, file in MODULES.items():
        for other in imported(ast.walk(ast.parse(file.read_text()))) - {"__init__"}:
            assert layer(other) <= layer(module), f"{module} imports {other}"
            assert not module.startswith("method.") or other.startswith("method"), f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(
        {m: imported(ast.walk(ast.parse(file.read_text()))) - {m, "__init__"} for m, file in MODULES.items()}
    ).prepare()


def test_the_method_needs_torch_open_clip_and_its_timm_alone():
    allowed = {"torch", "open_clip", "timm", "triton", "centerclip"} | sys.stdlib_module_names
    for module, file in MODULES.items():
        if module.startswith("method"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert {name.split(".")[0] for name in names} <= allowed, module


def test_algorithms_are_functions_of_the_method():
    code = "import torch; from centerclip.method import kmedoids; print(kmedoids(torch.eye(4)[None], 2)[0].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout == "[[0, 1]]\n", done.stderr
