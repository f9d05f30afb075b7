"""Documents in each of their formats: balanced, escaped, and equal where their content is."""

import re
from html.parser import HTMLParser

import pandas as pd

from centerclip.report import documents
from centerclip.report.documents import Table

ODD = pd.DataFrame({"a_b": ["x & y_z", "50 % of #1 {~^\\}"], "c": ["42.0 ± 2.6", "-0.5"]})
PARTS = ["First, 100 % <sure>.", Table(ODD, 1, pd.DataFrame({"a_b": [False, False], "c": [True, False]}))]


def test_markdown():
    lines = documents.markdown(PARTS).splitlines()
    assert lines[0] == "First, 100 % <sure>." and len({line.count("|") for line in lines[2:]}) == 1
    assert "**42.0 ± 2.6**" in lines[4] and lines[3].endswith(":|")
    odd = documents.markdown([Table(pd.DataFrame({"a|b": ["c|d"]}))])
    assert [line.split(" ")[1] for line in odd.splitlines()[::2]] == ["a\\|b", "c\\|d"]  # one column


def test_latex_is_balanced_and_escaped():
    tabulars = documents.latex(PARTS)
    lines = [line for line in tabulars.splitlines() if line and not line.startswith("%")]
    assert lines[0] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{tabular}"
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 3
    for line in rows:
        plain = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum) ?", "", line.removesuffix(r"\\"))
        assert len(re.findall(r"(?<!\\)&", plain)) == 1
        assert not re.findall(r"(?<!\\)[#%_~^]", plain)
        assert len(re.findall(r"(?<!\\)\{", plain)) == len(re.findall(r"(?<!\\)\}", plain))
        assert plain.count("$") % 2 == 0
    assert rows[1] == r"x \& y\_z & \bfseries 42.0 $\pm$ 2.6 \\" and rows[2].endswith(r"& $-$0.5 \\")


def test_html_is_balanced_and_escaped():
    class Balance(HTMLParser):
        void, open = ("meta", "!doctype"), ()

        def handle_starttag(self, tag, attrs):
            self.open += (tag,) if tag not in self.void else ()

        def handle_endtag(self, tag):
            assert self.open[-1] == tag
            self.open = self.open[:-1]

    page, parser = documents.page(PARTS), Balance()
    parser.feed(page)
    assert parser.open == () and "&lt;sure&gt;" in page and "x &amp; y_z" in page
    assert page == documents.page(PARTS)


def test_a_document_is_written_in_each_format_asked_for_and_ends_what_a_failed_run_left(tmp_path):
    documents.write(tmp_path / "name", PARTS, documents.PARTIAL)
    assert [path.name for path in tmp_path.iterdir()] == ["name.partial.md"]
    assert (tmp_path / "name.partial.md").read_text() == documents.markdown(PARTS)
    documents.write(tmp_path / "name", PARTS, ".html", ".md", ".tex", table=ODD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.csv", "name.html", "name.md", "name.tex"]
    assert (tmp_path / "name.csv").read_text() == ODD.to_csv(index=False)
    assert (tmp_path / "name.tex").read_text() == documents.latex(PARTS)
