"""A stop ends in bounded time on a full, broken or hanging disk, and says which events were not stored."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.processes import Process
from support.rig import open_queue
from support.stores import RefusingStore, SlowStore
from trio_jobs import MemoryStore, Service, State
from trio_jobs._engine import events as ev
from trio_jobs._stores.sqlite.errors import describe


class Hung:
    """Mixed into a store: its close never returns."""

    async def aclose(self) -> None:
        await trio.sleep_forever()


class HangingStore(Hung, SlowStore):
    """Its commits do not return."""


class FullStore(Hung, RefusingStore):
    """Each commit fails, from the first event of a slow class on."""

    def append(self, events: Any) -> None:
        super().append(events)
        if self._waiting:
            self._waiting = list(self._on_failure())


def make_service(**settings: Any) -> Service:
    service = Service(commit_timeout=20.0, **settings)

    @service.handler
    async def post(n: int) -> int:
        return n

    return service


@pytest.mark.parametrize(
    ("make_store", "at_most"), [(HangingStore, 20.0 + 1.0), (FullStore, 5.0 + 1.0)], ids=["hanging", "full"]
)
async def test_a_stop_waits_for_a_disk_in_bounded_time_and_names_the_jobs(
    make_store: Callable[..., Any], at_most: float, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_queue(make_service(), store=make_store(ev.Completed)) as queue:
        receipt = await queue.submit("post", 1, key="A-1")
        with trio.move_on_after(1):
            await queue.result(receipt.job_id)
        stops_at = trio.current_time()
    assert trio.current_time() - stops_at <= at_most
    report = queue.report
    assert report is not None
    assert report.sdk_closed
    assert report.unstored_jobs == (receipt.job_id,)
    assert report.unstored_events >= 1
    assert "the last events may not be stored" in caplog.text
    assert "the next start finds these jobs in an earlier state: A-1 (completed now)" in caplog.text


async def test_a_slow_disk_has_the_whole_commit_timeout(autojump_clock: MockClock) -> None:
    store = SlowStore(ev.Completed)
    async with trio.open_nursery() as nursery:
        async with open_queue(make_service(), store=store) as queue:
            await queue.submit("post", 1)
            await trio.sleep(1)

            async def answer() -> None:
                await trio.sleep(15)
                store.keep()

            nursery.start_soon(answer)
    assert queue.report is not None
    assert (queue.report.unstored_events, queue.report.unstored_jobs) == (0, ())
    assert queue.report.jobs[State.COMPLETED] == 1


async def test_a_stop_with_everything_stored_reports_nothing(autojump_clock: MockClock) -> None:
    for store in (MemoryStore(), SlowStore()):
        async with open_queue(make_service(), store=store) as queue:
            await queue.submit("post", 1)
        assert queue.report is not None
        assert (queue.report.unstored_events, queue.report.unstored_jobs) == (0, ())


class Sdk:
    """It notes that it was closed."""

    closed = False

    def __enter__(self) -> Sdk:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closed = True


@pytest.mark.parametrize("event", [ev.StepStarted, ev.StepFinished], ids=["start", "end"])
async def test_a_plain_handler_whose_step_cannot_be_stored_does_not_keep_the_sdk_open(
    event: type[ev.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread waits for the disk inside the call."""
    monkeypatch.setattr("trio_jobs._runtime.attempt.STEP_GRACE", 0.05)
    sdk, store, raised = Sdk(), SlowStore(event), list[Exception]()
    service = Service(sdk=lambda: sdk, drain_timeout=0.05, cancel_timeout=5.0, commit_timeout=0.05)

    @service.handler(on_doubt="hold")
    def post(sdk: Sdk, n: int, job: trio_jobs.JobContext) -> None:
        try:
            job.step("enter", lambda: None)
        except Exception as error:
            raised.append(error)
            raise

    async with service.open(store=store) as queue:
        receipt = await queue.submit("post", 1)
        while not store.handed_over(event):
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert sdk.closed
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert receipt.job_id in queue.report.unstored_jobs
    assert "the store has not acknowledged the step" in str(raised[0])


SHOP = """
import os, resource, trio, trio_jobs

service = trio_jobs.Service(drain_timeout=2)

@service.handler
async def fill(n: int) -> str:
    limit = 4_500_000  # the WAL is created with 4.1 million bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return "x" * 900_000

@service.handler
async def vanish(n: int) -> int:
    os.unlink("jobs.db")
    return n
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def serve(folder: Path) -> Process:
    command = [sys.executable, "-m", "trio_jobs._cli", "serve", "shop:service", "--journal", "jobs.db", "--port", "0"]
    return Process([*command, "--no-token"], cwd=folder, forked=True)


async def submit(process: Process, kind: str, count: int) -> None:
    line = await trio.to_thread.run_sync(process.err.line_with, "serves shop:service at ")
    async with trio_jobs.connect(line.split(" at ")[1].strip()) as client:
        await client.pause("all jobs are accepted first")
        for n in range(count):
            await client.submit(kind, n, key=f"A-{n}")
        await client.resume()


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE and SIGTERM are POSIX")
async def test_serve_on_a_full_disk_stops_with_exit_code_72_and_names_the_jobs(shop: Path) -> None:
    with serve(shop) as process:
        await submit(process, "fill", 12)
        for _ in range(6):  # the first failures free space, since the WAL is checkpointed
            await trio.to_thread.run_sync(process.err.line_with, "the system refused a write")
        process.send_signal(signal.SIGTERM)
        done = await trio.to_thread.run_sync(process.finish)
    assert done.returncode == 72, done.stderr
    assert "the next start finds these jobs in an earlier state: A-" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
async def test_serve_with_a_deleted_journal_stops_with_exit_code_72(shop: Path) -> None:
    with serve(shop) as process:
        await submit(process, "vanish", 1)
        done = await trio.to_thread.run_sync(process.finish)
    assert done.returncode == 72, done.stderr
    assert "it was deleted or replaced while in use" in done.stderr
    assert "the next start finds these jobs in an earlier state: A-0" in done.stderr


def test_a_full_disk_is_told_from_other_failures() -> None:
    """The message of the second one names SQLite's error, since its words are the same for all errors of the disk."""
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode, full.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    assert describe(full) == "the disk is full"
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode, failed.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    assert describe(failed) == "disk I/O error (SQLITE_IOERR_FSYNC)"
