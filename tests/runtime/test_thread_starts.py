"""The system has no more threads for a moment: whatever needs a thread tries again, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.waiting import deadline
from trio_jobs import Retry, Service, SqliteStore, StoreError
from trio_jobs._runtime.watchdog import RETRY, Watchdog


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the system still refuses to start a thread, by the thread's name."""
    left: dict[str, int] = {}
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if left.get(thread.name, 0) > 0:
            left[thread.name] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    return left


def make_service() -> Service:
    service = Service(
        sdk=lambda: contextlib.nullcontext("the SDK"), open_retry=Retry(waits=[0]), open_timeout=1000, watchdog=100
    )

    @service.handler(on_doubt="hold")
    def work(sdk: str, n: int) -> int:
        return n

    return service


@pytest.mark.parametrize(
    "thread",
    ["trio-jobs SDK", "trio-jobs journal", "trio-jobs high-water mark", "trio-jobs watchdog"],
    ids=["SDK", "journal", "mark", "watchdog"],
)
async def test_a_queue_opens_and_works_though_a_thread_could_not_start_at_first(
    thread: str, tmp_path: Path, refused: dict[str, int]
) -> None:
    refused[thread] = 1
    with deadline("the job ends"):
        async with make_service().open(journal=tmp_path / "jobs.db") as queue:
            assert await queue.result((await queue.submit("work", 3)).job_id) == 3
    assert refused[thread] == 0


async def test_a_journal_whose_thread_cannot_start_is_refused_and_can_be_opened_later(
    tmp_path: Path, refused: dict[str, int], autojump_clock: MockClock
) -> None:
    refused["trio-jobs journal"] = 100
    store = SqliteStore(tmp_path / "jobs.db")
    with pytest.raises(StoreError, match="the thread of the journal cannot start: can't start new thread"):
        await store.open(lambda events: None)
    refused.clear()
    with deadline("the journal opens"):
        await store.open(lambda events: None)
        await store.aclose()


async def test_an_opening_that_is_cancelled_before_its_thread_starts_leaves_the_store_closed(
    tmp_path: Path, refused: dict[str, int]
) -> None:
    refused["trio-jobs journal"] = 100
    store = SqliteStore(tmp_path / "jobs.db")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.open, lambda events: None)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    refused.clear()
    with deadline("the journal opens"):
        await store.open(lambda events: None)
        await store.aclose()


async def test_an_sdk_whose_thread_never_starts_fails_to_open_with_that_reason(refused: dict[str, int]) -> None:
    refused["trio-jobs SDK"] = 100
    with pytest.raises(trio_jobs.SdkOpenFailed, match="can't start new thread"):
        async with make_service().open():
            raise AssertionError


async def test_a_watchdog_whose_thread_cannot_start_is_logged_and_starts_later(
    refused: dict[str, int], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    refused["trio-jobs watchdog"] = 3
    with caplog.at_level(logging.WARNING):
        async with Service(watchdog=100).open():
            await trio.sleep(RETRY * 2.5)
            assert "trio-jobs watchdog" not in [thread.name for thread in threading.enumerate()]
            await trio.sleep(RETRY)
            assert "trio-jobs watchdog" in [thread.name for thread in threading.enumerate()]
    assert "the watchdog does not run yet, since its thread cannot start: can't start new thread" in caplog.text


async def test_a_queue_stops_while_its_watchdog_is_not_started(refused: dict[str, int]) -> None:
    refused["trio-jobs watchdog"] = 100
    with deadline("the queue stops"):
        async with make_service().open():
            pass


async def test_a_watchdog_that_could_not_start_can_be_started_again(refused: dict[str, int]) -> None:
    refused["trio-jobs watchdog"] = 1
    watchdog = Watchdog(100)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        watchdog.start()
    watchdog.start()
    watchdog.stop()
