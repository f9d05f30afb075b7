"""Write paragraphs and tables as markdown, html and LaTeX. The last two use pandas' Styler, whose jinja2 comes with
Snakemake."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from centerclip.command import atomic


@dataclass(frozen=True)
class Table:
    """Strings to show: the first `labels` columns of `text` are words, the others numbers. `bold`, bool of the same
    shape, marks highlighted cells."""

    text: pd.DataFrame
    labels: int = 1
    bold: pd.DataFrame | None = None

    def alignment(self, words: str, numbers: str) -> list[str]:
        return [words] * self.labels + [numbers] * (self.text.shape[1] - self.labels)

    def styler(self, escape: str) -> Styler:
        styled = self.text.style.hide(axis="index").format(escape=escape).format_index(escape=escape, axis="columns")
        if self.bold is not None:
            styled = styled.apply(lambda _: self.bold.replace({True: "font-weight: bold", False: ""}), axis=None)
        return styled


Document = list[str | Table]


def markdown(parts: Document) -> str:
    def escaped(cell: str) -> str:
        return cell.replace("|", "\\|")

    def block(part: str | Table) -> str:
        if isinstance(part, str):
            return part
        text = part.text if part.bold is None else part.text.where(~part.bold, "**" + part.text + "**")
        text = text.map(escaped).rename(columns=escaped)
        return text.to_markdown(index=False, disable_numparse=True, colalign=part.alignment("left", "right"))

    return "\n\n".join(map(block, parts)) + "\n"


STYLE = """body {font: 15px sans-serif} p {max-width: 60em} table {border-collapse: collapse; margin: 1em 0}
th, td {padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap}"""


def page(parts: Document) -> str:
    """An html page."""

    def block(number: int, part: str | Table) -> str:
        if isinstance(part, str):
            return f"<p>{html.escape(part)}</p>"
        first = ", ".join(f"{cell}:nth-child(-n+{part.labels})" for cell in ("th", "td"))
        styled = part.styler("html").set_table_styles([{"selector": first, "props": "text-align: left"}])
        return styled.to_html(table_uuid=str(number))  # pandas draws one at random, but equal tables make equal files

    blocks = [block(number, part) for number, part in enumerate(parts)]
    return "\n".join(["<!doctype html>", '<meta charset="utf-8">', f"<style>{STYLE}</style>", *blocks]) + "\n"


def latex(parts: Document) -> str:
    """Tabulars for a document that uses booktabs; the paragraphs are comments."""

    def block(part: str | Table) -> str:
        if isinstance(part, str):
            return "% " + part.replace("\n", "\n% ")
        columns = "".join(part.alignment("l", "r"))
        tabular = part.styler("latex").to_latex(hrules=True, convert_css=True, column_format=columns)
        return re.sub(r"& -(?=\d)", "& $-$", tabular).replace("±", r"$\pm$").rstrip()

    return "\n\n".join(["% needs \\usepackage{booktabs}", *map(block, parts)]) + "\n"


PARTIAL = ".partial.md"  # of what a failed run could make
FORMATS = {".html": page, ".md": markdown, ".tex": latex, PARTIAL: markdown}


def write(out: Path, parts: Document, *suffixes: str, table: pd.DataFrame | None = None) -> None:
    """Write `parts` to `out` with each of `suffixes`, of FORMATS, appended, and a `table` as .csv. An old PARTIAL file
    goes unless it is one of them."""
    texts = {suffix: FORMATS[suffix](parts) for suffix in suffixes}
    if table is not None:
        texts = {".csv": table.to_csv(index=False)} | texts
    for suffix, text in texts.items():
        with atomic(Path(f"{out}{suffix}")) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if PARTIAL not in suffixes:
        Path(f"{out}{PARTIAL}").unlink(missing_ok=True)
