"""A figure of matplotlib as a file."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from centerclip.command import UserError, atomic, tell

OWN = "DejaVu Sans"  # which matplotlib brings
PLACEHOLDERS = "Last Resort"  # begins the names of fonts whose every glyph is a box


def save(figure: Figure, path: Path, **options) -> None:
    """Write a figure; the suffix is the format, `options` are savefig's. Equal figures make equal files on a machine.
    Characters that no font of this machine has are boxes, which a line on the terminal tells. Raises UserError for a
    suffix that matplotlib does not know."""
    if (kind := path.suffix[1:].lower()) not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{path}: no format of figures ends in {path.suffix!r}; .png does")
    if missing := show_literally(figure):
        shown = "".join(sorted(missing)[:10])
        tell(
            f"note: {path}: no font of this machine has {shown!r}, shown as boxes: install one that has, such as Noto"
            " Sans CJK (the package fonts-noto-cjk of Debian and Ubuntu)"
        )
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None, **options)


def show_literally(figure: Figure) -> set[str]:
    """Give the texts of a figure fonts that have their characters, and no formulas. Returns the characters that no font
    has."""
    texts, fallbacks = figure.findobj(Text), []
    used = {character for text in texts for character in text.get_text() if character.isprintable()}
    missing = used - glyphs(font_manager.findfont(OWN))
    for name, path in machine_fonts() if missing else ():
        if missing & (has := glyphs(path)):
            fallbacks.append(name)
        if not (missing := missing - has):
            break
    for text in texts:
        text.set_parse_math(False)
        if fallbacks:
            text.set_fontfamily([*text.get_fontfamily(), OWN, *fallbacks])
    return missing


def glyphs(font: str) -> set[str]:
    """The characters that a font file has."""
    return set(map(chr, FT2Font(font).get_charmap()))


def machine_fonts() -> Iterator[tuple[str, str]]:
    """Name and file of each font of this machine, upright sans-serif ones of normal weight first. Fonts installed after
    matplotlib listed them count, too."""
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted({*font_manager.findSystemFonts()} - listed):
        try:
            font_manager.fontManager.addfont(path)
        except Exception:  # FreeType cannot read it, or its glyphs are pictures
            continue
    fonts = [font for font in font_manager.fontManager.ttflist
             if not font.name.startswith(PLACEHOLDERS) and Path(font.fname).is_file()]  # fmt: skip
    fonts.sort(key=lambda font: (font.style != "normal", "Sans" not in font.name, font.weight != 400, font.fname))
    return ((font.name, font.fname) for font in fonts)
