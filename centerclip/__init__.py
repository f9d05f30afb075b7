"""CenterCLIP, reproduced: token clustering for efficient text-video retrieval (SIGIR 2022)."""

from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE / "repository"  # made by pyproject.toml, in an installed package that is not an editable one
ROOT = INSTALLED if INSTALLED.is_dir() else HERE.parent  # of config/


HOMES = {
    "reduce": "centerclip.method.reduced",
    "load_reduced": "centerclip.backbones.saved",
    "save_reduced": "centerclip.backbones.saved",
}


def __getattr__(name: str) -> object:
    """`centerclip.reduce`, `load_reduced` and `save_reduced`, whose heavy imports wait until somebody asks for them."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
