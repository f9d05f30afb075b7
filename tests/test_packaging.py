"""The repository's files agree with each other."""

import pkgutil
import tomllib

import pandas as pd
import yaml
from conftest import REPOSITORY


def test_environment_yml_has_pyprojects_pins():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted(project["dependencies"])
    assert all("==" in requirement for requirement in pip)


def test_the_console_commands_are_there():
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(scripts) == ["centerclip"]
    assert all(callable(pkgutil.resolve_name(target)) for target in scripts.values())


def test_the_readmes_table_is_the_demos():
    """Each row of the README's table has the figures of the demo's csv."""
    table = pd.read_csv(REPOSITORY / "docs/demo/shapes.csv").set_index("variant")
    lines = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if line.startswith("| ")]
    shown = {cells[0]: cells[1:] for line in lines if (cells := [cell.strip() for cell in line.strip("|").split("|")])}
    names = [*shown["variant"][:6], "gflops", "saved_mb"]
    for variant, row in table.iterrows():
        digits = [3 if name == "gflops" else 1 for name in names]
        assert shown[variant] == [f"{row[name]:.{n}f}" for name, n in zip(names, digits, strict=True)]
