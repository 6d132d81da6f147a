"""A job that kills its process is failed as poison after max_crashes processes, also if its handler is idempotent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.processes import Process
from trio_jobs._runtime.attempt_runner import FIRST_ATTEMPTS

CHILD = Path(__file__).with_name("poison_child.py")
KINDS = ["plain", "without_the_sdk", "in_a_step", "verified"]


def lives(tmp_path: Path, kind: str, how: str, max_crashes: int, before: int) -> tuple[int, str]:
    """How many processes died, and what the one that ended by itself printed."""
    for died in range(20):
        with Process(
            [sys.executable, CHILD, tmp_path / "jobs.db", kind, how, str(max_crashes), str(before)]
        ) as process:
            done = process.finish()
        if done.returncode == 0:
            return died, done.stdout.strip()
        assert done.returncode in (9, -9), done.stderr
    raise AssertionError("the job killed 20 processes")


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_kills_its_process_is_poison_at_the_fourth_start(kind: str, tmp_path: Path) -> None:
    assert lives(tmp_path, kind, "exit", 3, before=2) == (3, "failed poison 3 3")


def test_a_verify_that_kills_its_process_counts_like_an_attempt(tmp_path: Path) -> None:
    assert lives(tmp_path, "killed_by_verify", "exit", 3, before=1) == (3, "failed poison 1 2")


def test_a_job_that_kills_its_process_by_a_signal_is_poison_too(tmp_path: Path) -> None:
    assert lives(tmp_path, "plain", "kill", 3, before=0) == (3, "failed poison 3 1")


def test_max_crashes_1_fails_it_at_the_second_start(tmp_path: Path) -> None:
    assert lives(tmp_path, "plain", "exit", 1, before=0) == (1, "failed poison 1 1")


def test_a_job_that_is_not_among_the_first_ones_kills_one_process_more_at_most(tmp_path: Path) -> None:
    """The first kill may not be counted, since its start was not on the disk. In the next process it is the first."""
    died, printed = lives(tmp_path, "plain", "exit", 3, before=FIRST_ATTEMPTS + 50)
    assert died <= 4
    assert printed == f"failed poison 3 {FIRST_ATTEMPTS + 51}"
