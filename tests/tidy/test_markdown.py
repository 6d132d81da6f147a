"""The prose of Markdown files: lines of at most 120 characters, no tabs, no trailing spaces, one newline at the end.

Tables, links and code have lines of their own length.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
#: Written by programs, which do not break lines
GENERATED = {"benchmarks/results/README.md", "docs/proof.md", "docs/states.md"}
FILES = [
    file
    for file in sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md"), *(TOP / "examples").rglob("*.md")])
    if file.relative_to(TOP).as_posix() not in GENERATED
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(TOP).as_posix())
def test_prose_has_lines_of_at_most_120_characters(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    found = []
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        assert "\t" not in line, f"{file}:{number} has a tab"
        assert line == line.rstrip(), f"{file}:{number} has spaces at its end"
        if re.match(r" *(```|~~~)", line):
            is_code = not is_code
        elif not is_code and len(line) > 120 and not line.startswith("|") and "](" not in line:
            found.append(number)
    assert found == []
