"""docs/states.md agrees with the table of transitions."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tools import diagram
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.transitions import TABLE

TOP = Path(__file__).parents[2]


def test_docs_states_md_is_not_stale() -> None:
    assert (TOP / diagram.PATH).read_text(encoding="utf-8") == diagram.page(), "it is stale: ./run generate writes it"


def test_the_diagram_has_every_row_of_the_table_and_no_more() -> None:
    drawn = set()
    for before, after, events in re.findall(r"^    (\S+) --> (\w+): (.*)$", diagram.mermaid(), re.MULTILINE):
        drawn |= {(None if before == "[*]" else before, after, event) for event in events.split(", ")}
    assert drawn == {(row.before, row.after, row.event.__name__) for row in TABLE}


def test_the_diagram_ends_in_the_final_states() -> None:
    assert set(re.findall(r"^    (\w+) --> \[\*\]$", diagram.mermaid(), re.MULTILINE)) == FINAL


def test_the_page_describes_every_state() -> None:
    assert set(diagram.MEANS) == set(State)
    assert all(f"| `{state}` | {diagram.MEANS[state]} |" in diagram.page() for state in State)


def test_the_page_has_every_guard_and_reason() -> None:
    rows = diagram.table().splitlines()[2:]
    assert len(rows) == len(TABLE)
    for row, made in zip(TABLE, rows, strict=True):
        assert made.split(" | ")[3:] == [row.guard, f"{row.reason} |"]


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["diagram"])
    monkeypatch.delitem(sys.modules, "tools.diagram")
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("tools.diagram", run_name="__main__")
    assert exited.value.code == 0
    assert capsys.readouterr().out == diagram.page()


def test_the_command_writes_the_page_with_unix_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert diagram.main(["--write"]) == 0
    assert (tmp_path / diagram.PATH).read_bytes() == diagram.page().encode()


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert diagram.main(["--help"]) == 2
    assert "usage:" in capsys.readouterr().err
