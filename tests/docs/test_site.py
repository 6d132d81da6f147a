"""The built site: strict, and complete in itself. Skips where mkdocs is not installed; `./run docs` has it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from blocks import ROOT

from support.processes import run
from tools.site_hooks import COPIED, rewritten

#: Attributes of a page that a browser loads by itself
LOADED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("object", "data"),
    ("use", "href"),
}
#: Kinds of <link> that load nothing
HARMLESS = {"canonical", "prev", "next", "alternate", "edit"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install 'trio-jobs[docs]'")
    made = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", made]
    built = run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=200)
    assert built.returncode == 0, built.stderr
    return made


class Loads(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and set((given.get("rel") or "").split()) & HARMLESS:
            return
        self.found += [value or "" for name, value in attrs if (tag, name) in LOADED]


def is_foreign(target: str) -> bool:
    return re.match(r"(?:[a-z]+:)?//", target.strip()) is not None


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    loaded = 0
    for page in pages:
        parser = Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        loaded += len(parser.found)
        assert [target for target in parser.found if is_foreign(target)] == [], page
    assert loaded > 100


def test_a_style_loads_nothing_from_elsewhere(site: Path) -> None:
    styles = sorted(site.rglob("*.css"))
    assert styles
    for style in styles:
        targets = re.findall(r"""(?:@import\s+|url\()\s*["']?([^"')\s;]+)""", style.read_text(encoding="utf-8"))
        assert [target for target in targets if is_foreign(target)] == [], style


def test_no_page_asks_for_mermaid(site: Path) -> None:
    """The theme would load it from a CDN when a page has such an element."""
    for page in site.rglob("*.html"):
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), page


def test_the_page_of_the_states_shows_the_drawing(site: Path) -> None:
    page = (site / "states.html").read_text(encoding="utf-8")
    assert "assets/states.svg" in page
    assert "stateDiagram" not in page


def test_a_copied_page_has_links_as_they_are_in_the_site() -> None:
    text = "[a](docs/journal.md#files) [b](CONTRIBUTING.md) [c](pyproject.toml) [d](https://example.org) [e](#here)"
    assert rewritten(text, "CHANGELOG.md") == (
        "[a](journal.md#files) [b](contributing.md) c (`pyproject.toml`) [d](https://example.org) [e](#here)"
    )
    assert rewritten("[peers](../peers) ![x](x.svg)", "benchmarks/results/README.md") == (
        "peers (`benchmarks/peers`) ![x](x.svg)"
    )


def test_the_files_that_are_copied_exist() -> None:
    assert all((ROOT / source).is_file() for source in COPIED.values())
