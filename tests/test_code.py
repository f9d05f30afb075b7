"""Digests of code change with what is executed, wherever it is imported from, and with nothing else."""

import importlib

import pytest

from centerclip import code

FILES = {
    "__init__.py": "",
    "algorithm.py": "from . import helper\nfrom .deep import far\n",
    "helper.py": "VALUE = 1\n",
    "deep/__init__.py": "from ..above import thing\n",
    "deep/far.py": "def work():\n    import package.lazy\n",
    "above.py": "thing = 1\n",
    "lazy.py": "import json\n",
    "unrelated.py": "VALUE = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of FILES in place of centerclip."""
    directory = tmp_path / "package"
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    monkeypatch.setattr(code, "PACKAGE", directory)
    forget()
    yield directory
    forget()


def forget():
    for cached in (code.imports, code.source, code.executed):
        cached.cache_clear()


def digest(leave_out=()):
    forget()
    return code.digest(["package.algorithm"], leave_out)


def test_all_that_is_imported_is_reached(package):
    modules = {"algorithm", "helper", "deep", "deep.far", "above", "lazy"}
    assert code.reachable(["package.algorithm"]) == {"package", *(f"package.{name}" for name in modules)}


@pytest.mark.parametrize(
    "name", ["algorithm.py", "helper.py", "deep/__init__.py", "deep/far.py", "above.py", "lazy.py"]
)
def test_an_edit_of_what_is_imported_changes_the_digest(package, name):
    before = digest()
    (package / name).write_text(FILES[name] + "\nmore = 1\n")
    assert digest() != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("unrelated.py", "VALUE = 2\n"),
        ("helper.py", "# a comment\nVALUE = 1  # another\n"),
        ("helper.py", '"""A docstring."""\n\nVALUE = (\n    1\n)\n'),
        ("deep/far.py", 'def work():\n    """What comes out."""\n    import package.lazy\n'),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(package, name, text):
    before = digest()
    (package / name).write_text(text)
    assert digest() == before


def test_what_is_left_out_is_not_followed(package):
    before = digest(leave_out=["package.deep"])
    (package / "above.py").write_text("thing = 2\n")
    assert digest(leave_out=["package.deep.far", "package.deep"]) != digest()
    assert digest(leave_out=["package.deep"]) == before


def test_every_module_of_this_package_can_be_walked():
    names = code.reachable(["centerclip.commands.train", "centerclip.commands.evaluate"])
    assert {"centerclip.train.loop", "centerclip.backbones.clip", "centerclip.data.video.frames"} <= names
    assert all(importlib.util.find_spec(name) for name in names)


LAYERS = [  # training evaluates its epochs, and measuring costs takes training steps
    *(["command"], ["layout"], ["code"], ["gpus"], ["model.backbones"], ["model.pretrained"], ["model.reduction"]),
    *(
        ["cell"],
        ["model.schedules"],
        ["fit"],
        ["resolve"],
        ["config"],
        ["download"],
        ["datasets"],
        ["video"],
        ["datasets.checks"],
        ["model"],
    ),
    *(["train", "evaluate"], ["search"], ["report"], ["bench"], ["commands"], ["cli"]),
]


def layer(module: str) -> int:
    """The place in LAYERS of a module of the package; -1 for what is in none."""
    places = {name: place for place, names in enumerate(LAYERS) for name in names}
    inside = [name for name in places if f"{module}.".startswith(f"centerclip.{name}.")]
    return places[max(inside, key=len)] if inside else -1


def test_imports_point_down():
    for file in code.PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(code.PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for imported in code.imports(module):
            empty = not code.source(imported).read_text()  # a package that only holds modules
            assert empty or layer(module) < 0 or layer(imported) <= layer(module), (module, imported)
