"""The size of the modules: one that grows over this is two."""

from __future__ import annotations

from pathlib import Path
from statistics import median

SRC = Path(__file__).parents[2] / "src"


def test_a_module_has_at_most_400_lines_and_half_of_them_fewer_than_150() -> None:
    lines = {
        file.relative_to(SRC).as_posix(): file.read_text(encoding="utf-8").count("\n") for file in SRC.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert median(lines.values()) < 150
