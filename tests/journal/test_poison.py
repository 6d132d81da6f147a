"""A job that kills its process is failed as poison after max_crashes processes, also if its handler is idempotent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.forking import Run, warm_processes
from support.waiting import DEADLINE
from trio_jobs._runtime.attempt_runner import FIRST_ATTEMPTS

KINDS = ["plain", "without_the_sdk", "in_a_step", "verified"]

Lives = Callable[[str, str, int, int], tuple[int, str]]


@pytest.fixture(scope="module")
def warm_child() -> Iterator[Run]:
    """Some thirty processes are killed, and each would import the same modules."""
    with warm_processes(["trio_jobs", "trio_jobs._runtime.supervisor", "trio_jobs._stores.sqlite.store"], 1) as run:
        yield run


@pytest.fixture
def lives(tmp_path: Path, warm_child: Run) -> Lives:
    def lives(kind: str, how: str, max_crashes: int, before: int) -> tuple[int, str]:
        """How many processes died, and what the one that ended by itself printed."""
        arguments = [str(tmp_path / "jobs.db"), kind, how, str(max_crashes), str(before)]
        for died in range(20):
            path = [str(Path(__file__).parent), *sys.path]
            done = warm_child("poison_child", arguments, path=path, env={}, timeout=DEADLINE)
            if done.returncode == 0:
                return died, done.stdout.strip().splitlines()[-1]  # warnings may come before it
            assert done.returncode in (9, -9), f"{done.stdout}{done.stderr}"
        raise AssertionError("the job killed 20 processes")

    return lives


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_kills_its_process_is_poison_at_the_fourth_start(kind: str, lives: Lives) -> None:
    assert lives(kind, "exit", 3, 2) == (3, "failed poison 3 3")


def test_a_verify_that_kills_its_process_counts_like_an_attempt(lives: Lives) -> None:
    assert lives("killed_by_verify", "exit", 3, 1) == (3, "failed poison 1 2")


def test_a_job_that_kills_its_process_by_a_signal_is_poison_too(lives: Lives) -> None:
    assert lives("plain", "kill", 3, 0) == (3, "failed poison 3 1")


def test_max_crashes_1_fails_it_at_the_second_start(lives: Lives) -> None:
    assert lives("plain", "exit", 1, 0) == (1, "failed poison 1 1")


def test_a_job_that_is_not_among_the_first_ones_kills_one_process_more_at_most(lives: Lives) -> None:
    """The first kill may not be counted, since its start was not on the disk. In the next process it is the first."""
    died, printed = lives("plain", "exit", 3, FIRST_ATTEMPTS + 50)
    assert died <= 4
    assert printed == f"failed poison 3 {FIRST_ATTEMPTS + 51}"
