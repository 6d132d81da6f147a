"""The tables of modules in docs/architecture.md: `tools.modules`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import modules

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> str:
    return modules.table(TOP)


def test_the_table_of_modules_is_not_stale(table: str) -> None:
    page = (TOP / modules.PAGE).read_text(encoding="utf-8")
    assert page == modules.with_table(page, table), "it is stale: ./run generate writes it"


def test_every_module_says_what_it_is_for(table: str) -> None:
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.split(" | ")[1].strip(" |.") == ""] == []


def test_the_command_prints_or_writes_and_refuses_other_arguments(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(TOP)
    assert modules.main([]) == 0
    assert table in capsys.readouterr().out
    assert modules.main(["--help"]) == 2
    (tmp_path / "docs").mkdir()
    (tmp_path / "src").symlink_to(TOP / "src", target_is_directory=True)
    (tmp_path / modules.PAGE).write_text("before\n<!-- modules -->\nold\n<!-- /modules -->\nafter\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert modules.main(["--write"]) == 0
    written = (tmp_path / modules.PAGE).read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- modules -->\n\n###") and written.endswith("<!-- /modules -->\nafter\n")
    assert table in written
