"""A figure of matplotlib as a file."""

from pathlib import Path

from matplotlib.figure import Figure

from centerclip.command import UserError, atomic


def save(figure: Figure, path: Path, **options) -> None:
    """Write a figure; the suffix is the format, `options` are savefig's. Equal figures make equal files.

    Raises:
        UserError: a suffix that is none of matplotlib's.
    """
    if (kind := path.suffix[1:].lower()) not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{path}: no format of figures ends in {path.suffix!r}; .png does")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None, **options)
