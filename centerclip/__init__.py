"""CenterCLIP, reproduced: token clustering for efficient text-video retrieval (SIGIR 2022)."""

from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE / "repository"  # made by pyproject.toml, in an installed package that is not an editable one
ROOT = INSTALLED if INSTALLED.is_dir() else HERE.parent  # of config/ and workflow/schemas/
