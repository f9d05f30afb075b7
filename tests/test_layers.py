"""Imports of the package point down its layers, those inside functions too."""

import ast
from collections.abc import Iterator

from conftest import REPOSITORY

LAYERS = [  # training evaluates its epochs, and measuring costs takes training steps
    *(["command"], ["layout"], ["gpus"], ["model.backbones"], ["model.pretrained"], ["model.reduction"]),
    *(["cell"], ["revisions"], ["model.schedules"], ["fit"], ["resolve"], ["config"]),
    *(["download"], ["datasets"], ["video"], ["datasets.checks"], ["model"], ["train", "evaluate"]),
    *(["search"], ["report"], ["plan"], ["bench"], ["commands"], ["cli"]),
]
PLACES = {f"centerclip.{name}.": place for place, names in enumerate(LAYERS) for name in names}
PACKAGE = {
    ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): file.read_text()
    for file in (REPOSITORY / "centerclip").rglob("*.py")
}


def layer(module: str) -> int:
    """The place in LAYERS of a module of the package; -1 for what is in none."""
    return (
        PLACES[max(inside, key=len)] if (inside := [name for name in PLACES if f"{module}.".startswith(name)]) else -1
    )


def imports(module: str) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for node in ast.walk(ast.parse(PACKAGE[module])):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(node, ast.Import | ast.ImportFrom)]
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        yield from (name for name in names if PACKAGE.get(name))  # not a package that only holds modules


def test_imports_point_down():
    assert {"centerclip.settings.cell", "centerclip.settings.revisions"} <= set(imports("centerclip.train.checkpoints"))
    upwards = [
        (module, imported) for module in PACKAGE for imported in imports(module) if 0 <= layer(module) < layer(imported)
    ]
    assert upwards == []
