"""The repository's files agree with each other."""

import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pandas as pd
import yaml
from conftest import REPOSITORY


def test_environment_yml_has_pyprojects_pins():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted(project["dependencies"])
    assert all("==" in requirement for requirement in pip)


def test_citation_cff_has_pyprojects_version_and_licence():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert all(citation[key] == project[key] for key in ("version", "license"))


def test_the_console_commands_are_there():
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(scripts) == ["centerclip"]
    assert all(callable(pkgutil.resolve_name(target)) for target in scripts.values())


def test_every_package_is_installed():
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(file.parent.relative_to(REPOSITORY).parts) for file in REPOSITORY.glob("centerclip/**/__init__.py")
    }
    assert found == {name for name in packages if not name.startswith("centerclip.repository")}


def test_an_installed_package_has_what_it_needs_of_the_repository(tmp_path):
    copy, installed = tmp_path / "copy", tmp_path / "installed"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".*", "results", "build", "*.egg-info"))

    def printed(code, cwd):
        environment = os.environ | {"PYTHONPATH": str(installed)}
        done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    wheel = printed("from setuptools import build_meta; print(build_meta.build_wheel('.'))", copy)
    zipfile.ZipFile(copy / wheel).extractall(installed)
    assert (installed / "centerclip/search/page.html").is_file()
    files = "config.BASE, sources.TABLE"
    code = f"from centerclip.settings import config; config.read_config([]); print({files}, sep=';')"
    code = f"from centerclip.data.download import sources; {code}"
    for file in map(Path, printed(code, tmp_path).split(";")):
        ours = REPOSITORY / file.relative_to(installed / "centerclip/repository")
        assert file.read_bytes() == ours.read_bytes()


def test_the_readmes_table_is_the_demos():
    """Each row of the README's table has the figures of the demo's csv."""
    table = pd.read_csv(REPOSITORY / "docs/demo/shapes.csv").set_index("variant")
    lines = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if line.startswith("| ")]
    shown = {cells[0]: cells[1:] for line in lines if (cells := [cell.strip() for cell in line.strip("|").split("|")])}
    for variant, row in table.iterrows():
        recall = f"{row['t2v R@1']:.1f} [{row['t2v R@1 low']:.1f}, {row['t2v R@1 high']:.1f}]"
        costs = f"{row['gflops']:.3f}", f"{row['saved_mb']:.1f}".replace("nan", "-")
        assert shown[variant] == [recall, f"{row['t2v R@5']:.1f}", f"{row['t2v MdR']:.1f}", *costs]


def test_the_readmes_times_are_measured_ones():
    """The demo's ms and the paper's, over those of the baseline."""
    here = pd.read_csv(REPOSITORY / "docs/demo/full_size.csv").set_index("variant")["ms"]
    paper = pd.read_csv(REPOSITORY / "config/paper.csv").query("benchmark == 'msrvtt'").set_index("variant")["ms"]
    kmedoids, spectral = ([times[name] / times["baseline"] for times in (here, paper)]
                          for name in ("kmedoids-s4", "spectral-s4"))  # fmt: skip
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert "takes {:.2f} of the baseline's time ({:.2f} in the paper),".format(*kmedoids) in text
    assert "and spectral clustering {:.2f} ({:.2f} in the paper) ([measured]".format(*spectral) in text
