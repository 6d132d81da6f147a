"""Retired names do not come back: docs/glossary.md has the words that are used instead."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PLACES = ("src", "sim", "tools", "tests", "benchmarks", "docs", "examples", "README.md", "CHANGELOG.md", "run", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".yml", ""}

#: Identifiers of which no part of the project may speak any more
RETIRED = """
    LineFull HostStuck OpenFailed NotAllowed WrongState UnknownJobs NoSuchJob HostOpened HostClosed accept_loss
    accept-loss settle_after keep_for keep_jobs keep_keys_for keep_keys check_host Nonconforming
    ThreadHost InLoopHost LineStatistics HandlersDesk Warden Stager ForgottenKey ForgottenKeys FrameMeter TooMuch
    JournalThread Gathering MarkFile BadHead Census Asker take_place_nowait wait_for_place give_place_back
    JobView EventView AttemptView ErrorView job_view event_view without_traceback
    _loops _sqlite_adopt _sqlite_gather _sqlite_journal _sqlite_mark _sqlite_thread
    OwnWork PatientExecutor PatientStore Surroundings ThrownOut judge_job
    _own_service _surroundings _watched let_go
"""


def test_no_retired_name_is_used() -> None:
    pattern = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, RETIRED.split())) + r")(?![\w-])")
    found = [
        f"{file.relative_to(TOP)}:{number}: {match[1]}"
        for file in _files()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert found == []


def _files() -> list[Path]:
    files: list[Path] = []
    for place in PLACES:
        path = TOP / place
        inside = path.rglob("*") if path.is_dir() else [path]
        files += [file for file in inside if file.is_file() and file.suffix in SUFFIXES and "venv" not in str(file)]
    return [file for file in files if file != Path(__file__)]
