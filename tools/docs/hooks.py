"""What MkDocs is told beyond mkdocs.yml: one list of pages, and pages from outside docs/.

docs/README.md names every page under its kind, which a test checks; the navigation is made of it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{
        f"examples/{path.parent.name}/README.md": f"examples/{path.parent.name}.md"
        for path in ROOT.glob("examples/*/README.md")
    },
}
"""Pages of the repository to where they are on the site."""

DECISIONS = "decisions/index.md"

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_SECTION = re.compile(r"^## (.+)\n((?:(?!^## ).*\n?)*)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation of the index: a section for each kind of page."""
    nav: list[Any] = [{"Overview": "README.md"}]
    for title, text in _SECTION.findall(INDEX.read_text("utf-8")):
        pages = [
            {_title(name): _target("README.md", link)} for name, link, _ in _LINK.findall(text)
        ]
        nav.append({title: pages})
    others = [one for one in OUTSIDE.values() if one not in str(nav)]
    nav.append({"More": others})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and a list of the decisions."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, DECISIONS, content=_decisions()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Have links to pages from outside docs/ lead to where those are on the site.

    Decisions are for contributors: the search finds them after the other pages.
    """
    if page.file.src_uri.startswith("decisions/"):
        page.meta["search"] = {"boost": 0.2}
    source = next((one for one, there in OUTSIDE.items() if there == page.file.src_uri), None)
    here = posixpath.dirname(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        text, link, anchor = found[1], found[2], found[3] or ""
        if "://" in link or not link.endswith((".md", "/")):
            return found[0]
        start = posixpath.dirname(source) if source else posixpath.join("docs", here)
        target = _on_site(posixpath.normpath(posixpath.join(start, link)))
        return f"[{text}]({posixpath.relpath(target, here or '.')}{anchor})" if target else text

    return _LINK.sub(moved, markdown)


def _target(page: str, link: str) -> str:
    return _on_site(posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link)))


def _on_site(path: str) -> str:
    """Return where a file of the repository is on the site; empty for what is no page of it."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path == "docs/decisions":
        return DECISIONS
    return path.removeprefix("docs/") if path.startswith("docs/") else ""


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


def _decisions() -> str:
    lines = []
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({path.name})")
    return "# Decisions\n\n" + "\n".join(lines) + "\n"
