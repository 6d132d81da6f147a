"""The code blocks of the documentation, and how they are run.

A page is run in a folder of its own, from its first block to its last, as a reader would do it. A fence says the rest:

- ```` ```python ````: the Python blocks of a page are one program, in their order. Text blocks after it are its output.
- ```` ```python title="shop.py" ````: a file (of any language), written to the folder and not run by itself;
  an absolute path is not written.
- ```` ```sh ````: run by `sh -eu`. A text block after it is its output.
- ```` ```text ````: the output of the program before it; `...` stands for anything, as in doctest.

HTML comments directly above a fence, which no reader sees, change that:

- `<!-- not run: reason -->`: not executed, and not compared.
- `<!-- tested in: tests/... -->`: executed by that test instead.
- `<!-- end of: shop.py -->`: replaces the end of that file, from the line on that begins like the block's first line.
- `<!-- new program -->`: a Python block that begins another program.
- `<!-- background: http://127.0.0.1:7373/healthz -->`: runs until the page ends or the next such program begins; the
  page goes on when the URL answers.
- `<!-- beside -->`: with `background`: runs beside the earlier ones, which go on.
- `<!-- exits: 137 -->`: the exit status to expect instead of 0.
- `<!-- needs: starlette, curl -->`: modules or programs without which the rest of the page is skipped.

Ports of 127.0.0.1 are replaced by free ones, and `trio-jobs` is given those, so that pages can run at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

__all__ = ["ROOT", "Block", "blocks", "pages", "programs"]

ROOT: Final = Path(__file__).parents[2]
EXECUTED: Final = frozenset({"python", "sh", "bash", "console", "shell", "pycon", "py"})
MARKERS: Final = frozenset({"background", "beside", "end of", "exits", "needs", "new program", "not run", "tested in"})

_FENCE: Final = re.compile(r"^( *)(`{3,}|~{3,})([^`\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_COMMENT: Final = re.compile(r"<!-- *([a-z ]+?)(?:: *(.*?))? *-->")


@attrs.frozen
class Block:
    """One fenced block: where it stands, its language, its title, the markers above it, its text."""

    page: Path
    line: int
    language: str
    title: str | None
    markers: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_excused(self) -> bool:
        """It is not run here, and says why."""
        return "not run" in self.markers or "tested in" in self.markers


@attrs.frozen
class Program:
    """One process of a page: a Python program of one or more blocks, a shell script, or a file to be written."""

    kind: str
    blocks: list[Block]
    output: list[str] = attrs.field(factory=list)

    @property
    def text(self) -> str:
        return "\n\n".join(block.text for block in self.blocks)


def pages() -> list[Path]:
    """Every page that a user reads."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. A marker that this module does not know is an error."""
    source = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(source):
        language, _, rest = fence[3].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        markers = dict(_markers(source[: fence.start()]))
        indent = len(fence[1])
        text = "".join(line[indent:] if line.strip() else line for line in fence[4].splitlines(keepends=True))
        line = source.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, language, title[1] if title else None, markers, text))
    for block in found:
        unknown = set(block.markers) - MARKERS
        assert not unknown, f"{block}: there is no marker {unknown}"
    return found


def _markers(before: str) -> Iterator[tuple[str, str]]:
    """The comments between the last text and the fence."""
    for line in reversed(before.splitlines()):
        comment = _COMMENT.fullmatch(line.strip())
        if comment is not None:
            yield comment[1], comment[2] or ""
        elif line.strip():
            return


def programs(page: Path) -> list[Program]:
    """What is to be run for a page, in order."""
    found: list[Program] = []
    python: Program | None = None
    last: Program | None = None
    for block in blocks(page):
        if block.language == "text":
            if last is not None and not block.is_excused and block.title is None:
                last.output.append(block.text)
            continue
        if (block.title is not None or "end of" in block.markers) and not block.is_excused:
            if not (block.title or "").startswith("/"):  # a file of the system
                found.append(Program("file", [block]))
            continue
        if block.language not in EXECUTED:
            continue
        last = None
        if block.is_excused:
            continue
        assert block.language in ("python", "sh", "bash"), f"{block}: say python or sh, not {block.language}"
        if block.language != "python":
            last = Program("sh", [block])
            found.append(last)
        elif python is None or "new program" in block.markers:
            last = python = Program("python", [block])
            found.append(last)
        else:
            python.blocks.append(block)
            last = python
    return found
