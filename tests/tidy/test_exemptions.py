"""An exemption from a rule of Ruff or mypy names the rule and has its reason in the same line; tests need none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXEMPTION = re.compile(r"# (?:noqa|type: ignore)")
WITH_REASON = re.compile(r"# (?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)* [-#]|type: ignore\[[a-z, -]+\] #) \w")


@pytest.mark.parametrize("folder", ["src", "sim", "tools", "benchmarks"])
def test_an_exemption_has_a_reason(folder: str) -> None:
    lines = [
        (f"{file.relative_to(ROOT)}:{number}", line)
        for file in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith(".venv") for part in file.parts)  # the packages of other queues
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    ]
    assert lines
    assert not [where for where, line in lines if len(EXEMPTION.findall(line)) != len(WITH_REASON.findall(line))]
