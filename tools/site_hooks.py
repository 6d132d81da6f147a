"""Pages of the site whose files are not in docs/: mkdocs.yml names this module as its hook.

CHANGELOG.md and CONTRIBUTING.md stay at the top of the repository, where readers look for them, and the benchmarks'
results beside their raw data. They are copied into the site, and their links are written as they are from there. A
Mermaid diagram becomes the drawing of tools/pictures.py: the site has no Mermaid.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

__all__ = ["on_files", "on_page_markdown", "rewritten"]

TOP: Final = Path(__file__).parents[1]

#: Path in the site to path in the repository
COPIED: Final = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks/index.md": "benchmarks/results/README.md",
    "asyncapi.json": "src/trio_jobs/asyncapi.json",
}

DRAWING: Final = (
    "![The states, and the events that lead from one to another; the table below says the same.]"
    "(assets/states.svg){ .diagram }"
)


def on_files(files: Any, config: Any) -> Any:
    """Add the copied files to the site."""
    from mkdocs.structure.files import File  # only the documentation's own environment has it

    copied = dict(COPIED)
    for picture in sorted((TOP / "benchmarks" / "results").glob("*.svg")):
        copied[f"benchmarks/{picture.name}"] = picture.relative_to(TOP).as_posix()
    for place, source in copied.items():
        files.append(File.generated(config, place, abs_src_path=str(TOP / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a copied page; put the drawing in the place of a diagram."""
    source = COPIED.get(page.file.src_uri)
    if page.file.src_uri == "states.md":
        markdown, count = re.subn(r"^```mermaid\n.*?^```$", DRAWING, markdown, flags=re.MULTILINE | re.DOTALL)
        if count != 1:
            raise ValueError("docs/states.md has not one diagram")
    return markdown if source is None else rewritten(markdown, source)


def rewritten(markdown: str, source: str) -> str:
    """The text with links as they are in the site; what the site does not have is named instead of linked."""
    folder = (TOP / source).parent
    back = {origin: place for place, origin in COPIED.items()}
    depth = "../" * next(place for place, origin in COPIED.items() if origin == source).count("/")

    def link(found: re.Match[str]) -> str:
        shown, target = found[1], found[2]
        if target.startswith(("http:", "https:", "#")) or target.endswith(".svg"):
            return found[0]
        path, _, anchor = target.partition("#")
        name = (folder / path).resolve().relative_to(TOP).as_posix()
        place = back.get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else None)
        if place is None:
            return f"{shown} (`{name}`)" if shown.strip("`") != name else shown
        return f"[{shown}]({depth}{place}{'#' + anchor if anchor else ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)
