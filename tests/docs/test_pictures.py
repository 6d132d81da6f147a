"""The drawings are those of the code."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from blocks import ROOT

from tools import pictures
from trio_jobs._engine.transitions import TABLE


@pytest.mark.parametrize("path", pictures.PICTURES)
def test_a_drawing_is_not_stale(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == pictures.PICTURES[path](), (
        "it is stale: ./run generate writes it"
    )


@pytest.mark.parametrize("path", pictures.PICTURES)
def test_a_drawing_is_well_formed_and_small(path: str) -> None:
    assert ET.fromstring((ROOT / path).read_text(encoding="utf-8")).tag.endswith("svg")
    assert (ROOT / path).stat().st_size < 20_000


def test_the_drawing_has_every_change_of_state_of_the_table() -> None:
    drawn = set()
    for (before, after), events in pictures.arrows().items():
        for source in pictures.GROUPS.get(before, (before,)):
            for target in pictures.GROUPS.get(after, (after,)):
                drawn |= {(source, target, event) for event in events}
    wanted = {(row.before, row.after, row.event.__name__) for row in TABLE if row.before not in (None, row.after)}
    # where a group is drawn as one, its arrows name what leads to any of its states
    assert wanted <= drawn
    assert {(source, target) for source, target, _ in drawn} == {(source, target) for source, target, _ in wanted}


def test_the_command_writes_the_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert pictures.main(["--write"]) == 0
    assert all((tmp_path / path).read_text(encoding="utf-8") == draw() for path, draw in pictures.PICTURES.items())


def test_an_argument_it_does_not_know_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert pictures.main(["--help"]) == 2
    assert "usage:" in capsys.readouterr().err
