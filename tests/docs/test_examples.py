"""The programs in the README and the docs run, as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.processes import run

ROOT = Path(__file__).parents[2]
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```python\n" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_programs_of_a_page_run_one_after_another_as_one(page: Path, tmp_path: Path) -> None:
    program = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    (tmp_path / "page.py").write_text(program)
    done = run([sys.executable, "-W", "error", "page.py"], cwd=tmp_path, timeout=180)
    assert done.returncode == 0, done.stderr
    told = "".join(re.findall(r"^```text\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    if told and page.parent.name == "docs":
        assert done.stdout == told, "the output in the page is what its programs print"


def test_the_readme_s_first_program_books_its_invoice_once_however_often_it_is_run(tmp_path: Path) -> None:
    first = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert first is not None
    (tmp_path / "readme.py").write_text(first[1])
    for _ in range(2):
        done = run([sys.executable, "readme.py"], cwd=tmp_path, check=True)
        assert done.stdout == "voucher 1\n"
