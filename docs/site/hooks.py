"""Make the site of the pages in docs/ and of three pages outside: README.md is its first page.

Links between pages work in the repository and on the site. A linked file that is no page is copied to the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "config/README.md": "settings.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r'(\]\(|<img src=")(?!https?:|#)([^)#"]*)')


def on_files(files, config):
    """Add the pages outside docs/, and the files that a page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for file in [file for file in files if file.is_documentation_page()]:
        for _, link in LINK.findall(file.content_string):
            path = place(file.src_uri, link)
            if path not in PAGES and not path.startswith("docs/") and (ROOT / path).is_file():
                files.append(File.generated(config, copy(path), content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown, page, **_):
    """Point links at pages and files of the site."""

    def of_site(match):
        before, link = match.groups()
        path = place(page.file.src_uri, link)
        target = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else copy(path))
        return before + (posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") if link else "")

    return LINK.sub(of_site, markdown)


def place(page: str, link: str) -> str:
    """The path in the repository of what a page of the site links to."""
    source = next((source for source, made in PAGES.items() if made == page), f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def copy(path: str) -> str:
    """Where a file that is no page is on the site. As text, which browsers show."""
    return f"files/{path}.txt"
