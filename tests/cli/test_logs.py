"""What `serve` writes to standard error: lines that do nothing to a terminal, or JSON with all that is promised."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_jobs._cli import logs
from trio_jobs._cli.commands import print_answer

ROOT = Path(__file__).parents[2]
WILD = "a\x1b[2Jb\x7fc\x9b2Jd\u202ee"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def raised_wildly() -> None:
    try:
        raise ValueError(WILD)
    except ValueError:
        logging.getLogger("trio_jobs.server").exception("it failed: %s", WILD)


def test_json_logs_have_the_fields_that_are_promised(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(as_json=True, verbose=False)
    page = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    names = re.search(r"have these fields for a structured formatter: ([^.]*)\.", page)
    assert names is not None
    fields = re.findall(r"`(\w+)`", names[1])
    extra = {name: None if name == "key" else 1 if name == "attempt" else f"the {name}" for name in fields}
    logging.getLogger("trio_jobs.queue").error("a doubt", extra=extra)
    logging.getLogger("other").error("anything", extra={"reason": ["a list"]})
    ours, other = map(json.loads, capsys.readouterr().err.splitlines())
    assert extra.items() <= ours.items()
    assert (ours["message"], ours["logger"], ours["level"]) == ("a doubt", "trio_jobs.queue", "error")
    assert other["reason"] == "['a list']"
    assert "job_id" not in other


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "json"])
def test_nothing_that_is_logged_reaches_a_terminal_as_a_control(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    logs.configure(as_json=as_json, verbose=False)
    raised_wildly()
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert not CONTROL.search(told)
    if as_json:
        assert json.loads(told)["message"] == f"it failed: {WILD}"
        assert json.loads(told)["traceback"].endswith(f"ValueError: {WILD}")


def test_an_answer_in_json_is_valid_and_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {WILD: [WILD, "\\\x85", "\U0001f600\u00e9"]}
    print_answer(value, True, "")
    told = capsys.readouterr().out
    assert not CONTROL.search(told)
    assert json.loads(told) == value
    assert "\u00e9" in told


def test_every_logger_is_on_the_page() -> None:
    page = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "trio_jobs").rglob("*.py"):
        for name in re.findall(r'getLogger\("(trio_jobs\.[a-z_.]+)"\)', path.read_text(encoding="utf-8")):
            assert f"`{name}`" in page, path
