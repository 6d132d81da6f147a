"""`.ci/run` names tests that exist: pytest refuses a test that does not, after all the others have run."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_every_test_that_ci_names_exists() -> None:
    script = (TOP / ".ci" / "run").read_text(encoding="utf-8")
    files = dict(re.findall(r"^(\w+)=(tests/\S+\.py)$", script, re.MULTILINE))
    named = re.findall(r"\$(\w+)::(test_\w+)", script)
    assert len(named) >= 4
    for variable, test in named:
        source = (TOP / files[variable]).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{files[variable]} has no {test}"
