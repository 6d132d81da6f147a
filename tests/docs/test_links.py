"""Links of the documentation lead somewhere: to a file of the repository, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import ROOT, pages

ALL = [*pages(), ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", ROOT / "benchmarks" / "results" / "README.md"]
FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)(?:\{[^}]*\})?")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
#: Pages of the site whose file is elsewhere (tools/site_hooks.py)
COPIED = {
    "docs/changelog.md": "CHANGELOG.md",
    "docs/contributing.md": "CONTRIBUTING.md",
    "docs/benchmarks/index.md": "benchmarks/results/README.md",
    "docs/asyncapi.json": "src/trio_jobs/asyncapi.json",
}


def anchors(page: Path) -> set[str]:
    """The ids that the headings of a page get, in the site and where its Markdown is shown."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip())
        count = sum(each == slug or re.fullmatch(rf"{re.escape(slug)}_\d+", each) is not None for each in found)
        found.add(f"{slug}_{count}" if count else slug)
    return found | set(re.findall(r"""<a id=["']([^"']+)""", text))


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in LINK.findall(text) if not target.startswith(("http:", "https:", "mailto:"))]


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        inside = aim.relative_to(ROOT).as_posix() if aim.is_relative_to(ROOT) else ""
        aim = ROOT / COPIED.get(inside, inside)
        if not inside or not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)):
            dead.append(target)
    assert dead == []


def test_the_documentation_has_links_and_anchors_to_check() -> None:
    """So that a change of the pattern cannot make the test above empty."""
    found = [target for page in ALL for target in links(page)]
    assert len(found) > 60
    assert sum("#" in target for target in found) >= 5


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"(?:: |- )([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    files = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    copied = [place.removeprefix("docs/") for place in COPIED if place.endswith(".md")]
    assert sorted(named) == sorted([*files, *copied])
