"""What a killed queue has left of its SDK is ended before the next session is opened, and nothing else is (P1)."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

from support import process_ledger
from support.process_queues import has_ended, result_of, use_seat
from support.processes import Process
from support.waiting import wait_until
from trio_jobs._runtime.left_process import LeftProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is ended")

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the SDK."""
    return use_seat(tmp_path, monkeypatch)


def sleeping() -> Process:
    return Process([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], group=True)


def test_what_is_left_of_a_process_and_its_group_is_killed() -> None:
    process = sleeping()
    assert process.out.line() == "up\n"
    left = LeftProcess.of(process.pid)
    assert left is not None
    assert left.kill() == [process.pid]
    process.wait()
    assert left.kill() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda left: attrs.evolve(left, started=left.started.partition("/")[0] + "/1"),  # an earlier one had it
        lambda left: attrs.evolve(left, started=left.started + "1"),
        lambda left: attrs.evolve(left, started="another-boot" + left.started[12:]),
        lambda left: attrs.evolve(left, started="no number"),
        lambda left: attrs.evolve(left, pid=1),
        lambda left: attrs.evolve(left, pid=os.getpid()),
    ],
)
def test_a_process_that_has_got_the_same_id_is_not_killed(change: object) -> None:
    process = sleeping()
    assert process.out.line() == "up\n"
    left = LeftProcess.of(process.pid)
    assert left is not None
    assert callable(change)
    assert change(left).kill() == []
    assert process.returncode is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"process": 5}',
        b'{"process": "x", "process_started": "b/1"}',
        b"\xff",
        b'{"pid": 3',
    ],
)
def test_a_lock_file_that_names_no_process_leaves_none(text: bytes) -> None:
    assert LeftProcess.read(text) is None


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import attrs, trio
from support import process_ledger

service = process_ledger.service
service.settings = attrs.evolve(service.settings, seat_lock={seat!r})

async def main():
    async with service.open() as queue:
        print(await queue.result((await queue.submit("unlimited", "pid")).job_id), flush=True)
        await queue.submit("unlimited", "grandchild")
        await trio.sleep_forever()

trio.run(main)
"""


async def test_p1_a_program_that_a_killed_queue_has_left_is_ended_before_the_sdk_is_opened(ledger: Path) -> None:
    """The kernel ends the process of the SDK, but not what that had started."""
    program = PROGRAM.format(tests=TESTS, seat=str(ledger.with_name("seat")))
    parent = Process([sys.executable, "-c", program])
    child = int(parent.out.line())
    wait_until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) == 2, "the program to start")
    left = int(ledger.read_text().splitlines()[0].removeprefix("pid "))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: has_ended(child), "the process to end", seconds=5)
    assert not has_ended(left)
    async with process_ledger.service.open() as queue:
        assert has_ended(left)
        assert await result_of(queue, "unlimited", "opening") == ["start", 1, True]
    assert ledger.with_name("seat").read_text().strip() == ""


KILLS = 50

KILLED = """
import sys
sys.path.insert(0, {tests!r})
import trio
from support import process_books

async def main(first, count, stays):
    async with process_books.service.open(journal="jobs.db") as queue:
        for number in range(first, first + count):
            await queue.submit("post", number, key=str(number))
        print("submitted", flush=True)
        if stays:
            await trio.sleep_forever()
        for number in range(first):  # those that were not accepted before a kill are submitted now
            await queue.result((await queue.submit("post", number, key=str(number))).job_id)

if __name__ == "__main__":
    trio.run(main, *(int(word) for word in sys.argv[1:4]))
"""


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_p1_p6_a_service_that_is_killed_at_random_moments_leaves_no_process_and_books_each_job_once(
    tmp_path: Path,
) -> None:
    """Calls hold the interpreter, hang and are killed too. Never are two processes in the books."""
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(tests=TESTS))
    chance = random.Random(1)
    a_life = 8  # jobs
    longest = 0.0
    for life in range(KILLS):
        process = Process([sys.executable, program, str(life * a_life), str(a_life), "1"], cwd=tmp_path)
        if chance.random() < 0.8:
            assert process.out.line() == "submitted\n", process.err.rest()
        time.sleep(chance.uniform(0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        wait_until(lambda: all(has_ended(pid) for pid in pids(tmp_path)), "all processes to end")
        longest = max(longest, time.monotonic() - killed)
        process.end()
    print(f"the longest time by which a process outlived its queue is {longest:.2f} s")
    done = Process([sys.executable, program, str(KILLS * a_life), "0", "0"], cwd=tmp_path).finish(600)
    assert done.returncode == 0, done.stderr
    booked = Counter(tmp_path.joinpath("books").read_text().splitlines())
    assert booked == {str(number): 1 for number in range(KILLS * a_life)}
    assert not tmp_path.joinpath("two").exists(), "two processes were in the books"


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []
