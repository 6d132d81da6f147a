"""A real process under load, really killed, again and again: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from trio_jobs import SqliteStore, State
from trio_jobs._history import History

CHILD = Path(__file__).with_name("crash_child.py")


def live(tmp_path: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(CHILD), str(tmp_path / "jobs.db"), str(tmp_path / "book"), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_and_tell(tmp_path: Path, name: str, after: int) -> list[str]:
    """Let it live until it has acknowledged `after` submits, then kill it; what it said, to the last whole line."""
    process = live(tmp_path, name)
    assert process.stdout is not None
    assert process.stderr is not None
    said = [process.stdout.readline() for _ in range(after)]
    process.kill()
    said += process.stdout.readlines()
    errors = process.stderr.read()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert all(said[:after]), f"it died by itself: {errors.decode()}"
    return [line.decode().strip() for line in said if line.endswith(b"\n")]


async def check(tmp_path: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: list[str] = []
    for life in range(kills):
        acknowledged += kill_and_tell(tmp_path, str(life), chance.randrange(1, 60))
    end = live(tmp_path, "end")
    _, errors = end.communicate(timeout=120)
    assert end.returncode == 0, errors.decode()

    history = History(SqliteStore(tmp_path / "jobs.db"))
    await history.restore()
    await history.store.aclose()
    states = {record.key: record.state for record in history.head.jobs.values()}
    lost = [key for key in acknowledged if key not in states]
    assert not lost, "acknowledged, and not there"
    assert set(states.values()) == {State.COMPLETED}, "each has one end"
    entered = Counter((tmp_path / "book").read_text().splitlines())
    assert set(entered.values()) == {1}, "nothing is entered twice"
    assert entered.keys() == states.keys(), "what is completed is in the book, and nothing else"


async def test_what_was_acknowledged_survives_a_few_kills_and_is_done_once(tmp_path: Path) -> None:
    await check(tmp_path, 6, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
async def test_what_was_acknowledged_survives_hundreds_of_kills_and_is_done_once(tmp_path: Path, seed: int) -> None:
    await check(tmp_path, 50, seed)
