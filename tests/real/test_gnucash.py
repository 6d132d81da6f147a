"""GnuCash: each invoice is in the file exactly once, whatever is lost, refused or killed (`examples/gnucash_book.py`).

A second program reads the file: it is XML, and GnuCash takes no part in the check.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio

from support.process_queues import has_ended
from support.processes import Process, run
from support.sdks import EXAMPLES, sdk_environment, sdk_python
from support.waiting import wait_until
from trio_jobs import SqliteStore
from trio_jobs.events import Completed, Submitted

CHILD = Path(__file__).with_name("gnucash_child.py")
NUMBER = "{http://www.gnucash.org/XML/trn}num"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an empty book."""
    run([sdk_python("gnucash"), CHILD, "new"], cwd=tmp_path, env=sdk_environment(), check=True)
    return tmp_path


def child(folder: Path, *words: object) -> Process:
    return Process([sdk_python("gnucash"), CHILD, *map(str, words)], cwd=folder, env=sdk_environment())


def booked(folder: Path) -> Counter[str]:
    """The numbers of the transactions in the file."""
    with gzip.open(folder / "book.gnucash") as file:
        return Counter(element.text or "" for element in ET.parse(file).iter(NUMBER))


async def completed(folder: Path) -> set[str]:
    """The keys of the jobs that are completed in the journal."""
    store = SqliteStore(folder / "jobs.db")
    events = [*await store.open(lambda events: None)]
    await store.aclose()
    done = {event.job for event in events if isinstance(event, Completed)}
    return {event.key or "" for event in events if isinstance(event, Submitted) and event.job in done}


def book_with_kills(folder: Path, count: int, group: int, lines_before_kills: Sequence[int]) -> dict[str, Any]:
    """Book so many invoices; kill the service after so many lines of its output; return the time and what it took."""
    began = time.monotonic()
    for life, lines in enumerate(lines_before_kills):
        with child(folder, count, group, life) as process:
            for _ in range(lines):
                if not process.out.line():
                    break
            process.kill()
            process.wait()
        in_file, in_journal = booked(folder), trio.run(completed, folder)
        assert in_journal <= in_file.keys(), "nothing is completed that is not in the file"
    with child(folder, count, group, len(lines_before_kills)) as process:
        done = process.finish(timeout=1800)
    assert done.returncode == 0, done.stderr
    assert booked(folder) == Counter(f"A-{n}" for n in range(count)), "each is in the file exactly once"
    assert trio.run(completed, folder) == {f"A-{n}" for n in range(count)}
    assert not (folder / "book.gnucash.LCK").exists()
    attempts: int = json.loads(done.stdout.splitlines()[-1])["attempts"]
    return {"seconds": round(time.monotonic() - began), "kills": len(lines_before_kills), "attempts": attempts}


def test_the_program_books_once(folder: Path) -> None:
    for _ in range(2):
        command = [str(sdk_python("gnucash")), str(EXAMPLES / "gnucash_book.py")]
        done = run(command, cwd=folder, env=sdk_environment(), check=True)
        assert done.stdout.startswith("A-1 is transaction ")
    assert booked(folder) == Counter(["A-1"])


def test_p6_a_kill_between_post_and_save_leaves_each_invoice_in_the_file_once(folder: Path) -> None:
    """The lock that the killed service leaves is broken by the next one, which alone holds the seat."""
    book_with_kills(folder, 3, 20, [4])


def test_p1_a_second_queue_does_not_break_the_lock_of_one_that_is_in_the_book(folder: Path) -> None:
    command = [sdk_python("gnucash"), CHILD]
    with Process([*command, "stay"], cwd=folder, env=sdk_environment(), stdin=None) as first:
        assert first.out.line() == "inside\n", first.err.text
        second = run([*command, "enter"], cwd=folder, env=sdk_environment(), check=True)
        assert second.stdout == "in use\n"
        assert (folder / "book.gnucash.LCK").exists()
        first.end()
    third = run([*command, "enter"], cwd=folder, env=sdk_environment(), check=True)
    assert third.stdout == "broken into\n", "the first was killed"


PROCESS = CHILD.with_name("gnucash_process.py")


@pytest.mark.campaign
def test_p11_a_call_that_hangs_with_the_interpreter_locked_is_killed_after_its_limit(folder: Path) -> None:
    """The SDK has the main thread of that process. The next one breaks the lock of the one that was killed."""
    done = run([sdk_python("gnucash"), PROCESS, "hang"], cwd=folder, env=sdk_environment(), check=True)
    first, seconds, second, _ = done.stdout.splitlines()
    assert re.fullmatch(r"A-0 [0-9a-f]{32} killed", first), "verify found it"
    assert second == "A-1 True completed"
    print(f"the attempt with a limit of 1 s took {seconds.split()[1]} s")
    assert float(seconds.split()[1]) >= 1
    assert booked(folder) == Counter(["A-0", "A-1"])
    assert not (folder / "book.gnucash.LCK").exists()


@pytest.mark.campaign
def test_p1_p6_a_service_killed_at_50_random_moments_leaves_no_process_in_the_book_and_books_once(folder: Path) -> None:
    """Calls hang with the interpreter locked, and are killed too."""
    chance = random.Random(3)
    longest, submitted = 0.0, 0
    for _ in range(50):
        process = child_in_process(folder, submitted, 1, 1)
        submitted += 1
        if chance.random() < 0.9:
            assert process.out.line() == "submitted\n", process.err.rest()
        time.sleep(chance.uniform(0, 3))
        process.kill()
        process.wait()
        killed = time.monotonic()
        wait_until(lambda: all(has_ended(pid) for pid in pids(folder)), "all processes to end", seconds=10)
        longest = max(longest, time.monotonic() - killed)
        process.end()
        assert max(booked(folder).values(), default=1) == 1, "an invoice is in the book twice"
    done = child_in_process(folder, submitted, 0, 0).finish(timeout=900)
    assert done.returncode == 0, done.stderr
    assert booked(folder) == Counter(f"A-{n}" for n in range(submitted))
    assert not (folder / "two").exists(), "two processes had the book open"
    print(f"50 kills, {len(pids(folder))} processes, the last one ended {longest:.2f} s after its service")


def child_in_process(folder: Path, *words: object) -> Process:
    command: list[str | Path] = [sdk_python("gnucash"), PROCESS, *map(str, words)]
    return Process(command, cwd=folder, env=sdk_environment())


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


@pytest.mark.campaign
@pytest.mark.parametrize("group", [1, 20])
def test_p6_lost_replies_failing_saves_and_kills_leave_each_of_200_invoices_in_the_file_once(
    folder: Path, group: int
) -> None:
    chance = random.Random(group)
    kills = [chance.randrange(1, 60) for _ in range(12)]
    print(f"groups of {group}:", book_with_kills(folder, 200, group, kills))
