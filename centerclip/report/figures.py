"""Save figures of matplotlib."""

import warnings
from pathlib import Path

from matplotlib import font_manager
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from centerclip.command import UserError, atomic, tell, writable

OWN = "DejaVu Sans"  # matplotlib's own font
PLACEHOLDERS = "Last Resort"  # begins the names of fonts whose every glyph is a box


def check_path(path: Path) -> None:
    """Raise UserError if `save` cannot write `path`: before long work, not after it."""
    if kind(path) not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(f"{path}: no format of figures ends in {path.suffix!r}; .png does")
    writable(path)


def kind(path: Path) -> str:
    """The format that a suffix names."""
    return path.suffix[1:].lower()


def save(figure: Figure, path: Path, **options) -> None:
    """Write a figure; the suffix is the format, `options` are savefig's. Equal figures make equal files on a machine.
    Characters that no font of this machine has become boxes, with a note on the terminal."""
    if missing := show_literally(figure):
        shown = "".join(sorted(missing)[:10])
        tell(
            f"note: {path}: no font of this machine has {shown!r}, shown as boxes: install one that has, such as Noto"
            " Sans CJK (the package fonts-noto-cjk of Debian and Ubuntu)"
        )
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        metadata = {"Date": None} if kind(path) == "svg" else None
        figure.savefig(temporary, format=kind(path), dpi=150, metadata=metadata, **options)


def show_literally(figure: Figure) -> set[str]:
    """Give the texts of a figure fonts that have their characters, and no formulas. Returns the characters without a
    font. Upright sans-serif fonts of normal weight come first."""
    texts, families = figure.findobj(Text), [OWN]
    used = {character for text in texts for character in text.get_text() if character.isprintable()}
    missing = used - glyphs(font_manager.findfont(OWN))
    fonts = []
    if missing:
        listed = {font.fname for font in font_manager.fontManager.ttflist}
        for path in sorted({*font_manager.findSystemFonts()} - listed):  # installed after matplotlib listed the fonts
            try:
                font_manager.fontManager.addfont(path)
            except Exception:  # FreeType cannot read it, or its glyphs are pictures
                continue
        fonts = [font for font in font_manager.fontManager.ttflist if Path(font.fname).is_file()]
        fonts.sort(key=lambda font: (font.style != "normal", "Sans" not in font.name, font.weight != 400, font.fname))
    for font in fonts:
        if missing and not font.name.startswith(PLACEHOLDERS) and missing & (has := glyphs(font.fname)):
            families.append(font.name)
            missing -= has
    for text in texts:
        text.set_parse_math(False)
        if len(families) > 1:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    return missing


def glyphs(font: str) -> set[str]:
    """The characters of a font file."""
    return set(map(chr, FT2Font(font).get_charmap()))
