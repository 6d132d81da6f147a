"""Ctrl-C while a queue opens and while it stops: however often it comes, the stop runs to its end (P3)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from support.turns import InterruptTurns
from trio_jobs import MemoryStore, NewJob, Queue, Service, SqliteStore, SystemClock
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._stores.sqlite.journal import Journal

DEADLINE = 20.0


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupt_soon() -> None:
    """Press Ctrl-C when all tasks wait."""

    async def press() -> None:
        await trio.testing.wait_all_tasks_blocked()
        interrupt()

    trio.lowlevel.spawn_system_task(press)


@attrs.define
class Sdk:
    """Counts its sessions, and the calls that are inside."""

    opened: int = 0
    closed: int = 0
    returned: int = 0
    on_call: Callable[[], object] = int

    def service(self) -> Service:
        @contextlib.contextmanager
        def sdk() -> Iterator[Sdk]:
            self.opened += 1
            yield self
            self.closed += 1

        service = Service(sdk=sdk, watchdog=None, seat_lock=None)

        @service.handler(idempotent=True)
        def work(sdk: Sdk, number: int) -> None:
            self.on_call()
            self.returned += 1

        return service


def run(main: Callable[[], Any], turns: Sequence[int] = ()) -> tuple[BaseException | None, int]:
    """What the run of Trio raised, and how many turns it had."""
    instrument = InterruptTurns(turns)
    try:
        trio.run(main, instruments=[instrument])
    except BaseException as error:
        return error, instrument.count
    return None, instrument.count


def is_interrupt(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)


def test_p3_ctrl_c_twice_at_any_moment_closes_the_sdk_once_and_the_journal(tmp_path: Path) -> None:
    sdk = Sdk()
    service = sdk.service()
    path = tmp_path / "jobs.db"

    async def main() -> None:
        async with service.open(journal=path) as queue:
            await queue.result((await queue.submit("work", 1)).job_id)

    _, turns = run(main)
    at = 1
    while at <= turns + 2:
        error, count = run(main, [at, at + 3])
        assert is_interrupt(error) or count < at, (at, error)
        assert sdk.opened == sdk.closed, at
        at += 2
    _, count = run(main)  # it can be opened, so it was closed
    assert count


def test_p3_ctrl_c_during_the_last_commit_does_not_end_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task of the queue outlived the stop, and the run of Trio never ended."""
    sdk = Sdk()
    service = sdk.service()
    write, go_on = Journal.write, threading.Event()

    def write_slowly(self: Journal, events: Any) -> None:
        assert go_on.wait(DEADLINE)
        write(self, events)

    async def press_ctrl_c() -> None:
        interrupt()
        await trio.testing.wait_all_tasks_blocked()
        interrupt()
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()

    async def main() -> None:
        async with service.open(journal=tmp_path / "jobs.db") as queue:
            monkeypatch.setattr(Journal, "write", write_slowly)
            trio.lowlevel.spawn_system_task(queue.submit, "work", 1)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.spawn_system_task(press_ctrl_c)
            await trio.sleep_forever()

    error, _ = run(main)
    assert isinstance(error, KeyboardInterrupt)
    assert sdk.opened == sdk.closed == 1

    async def again() -> None:
        async with service.open(journal=tmp_path / "jobs.db") as queue:
            assert len(queue.list()) == 1

    monkeypatch.setattr(Journal, "write", write)
    trio.run(again)


@pytest.mark.parametrize("presses", [2, 3])
def test_p3_the_third_ctrl_c_alone_abandons_a_call(presses: int) -> None:
    sdk, inside, go_on = Sdk(), threading.Event(), threading.Event()

    def call() -> None:
        inside.set()
        assert go_on.wait(DEADLINE)

    async def press_ctrl_c() -> None:
        for _ in range(presses):
            interrupt()
            for _ in range(5):
                await trio.lowlevel.checkpoint()
        if presses == 2:
            go_on.set()

    async def main() -> None:
        async with service.open() as queue:
            await queue.submit("work", 1)
            assert await trio.to_thread.run_sync(inside.wait, DEADLINE)
            trio.lowlevel.spawn_system_task(press_ctrl_c)
            await trio.sleep_forever()

    sdk.on_call = call
    service = sdk.service()
    error, _ = run(main)
    assert isinstance(error, KeyboardInterrupt)
    assert sdk.opened == 1
    assert sdk.closed == (presses == 2)
    go_on.set()


async def submit(queue: Queue) -> object:
    return await queue.submit("work", 1)


async def submit_nowait(queue: Queue) -> object:
    return queue.submit_nowait("work", 1)


async def submit_many(queue: Queue) -> object:
    return await queue.submit_many([NewJob("work", 1)])


@pytest.mark.parametrize("way", [submit, submit_nowait, submit_many])
def test_ctrl_c_between_two_lines_of_a_submit_takes_no_slot(
    way: Callable[[Queue], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    try_reserve = JobChannel.try_reserve

    def reserve(self: JobChannel) -> bool:
        is_free = try_reserve(self)
        interrupt()
        return is_free

    async def main() -> None:
        async with Sdk().service().open() as queue:
            await queue.pause()
            monkeypatch.setattr(JobChannel, "try_reserve", reserve)
            with pytest.raises(KeyboardInterrupt):
                await way(queue)
                await trio.sleep_forever()
            monkeypatch.setattr(JobChannel, "try_reserve", try_reserve)
            statistics = queue.statistics()
            assert statistics.free == statistics.capacity - len(queue.list())
            await queue.resume()

    trio.run(main)


class InterruptedStore(MemoryStore):
    """Ctrl-C comes while it is opened and closed, between two lines."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    async def open(self, *args: Any) -> Any:
        interrupt()
        self.steps.append("opened")
        return await super().open(*args)

    async def aclose(self) -> None:
        interrupt()
        self.steps.append("closed")
        await super().aclose()


def test_p3_ctrl_c_ends_the_opening_of_a_queue_at_a_checkpoint_alone() -> None:
    sdk, store = Sdk(), InterruptedStore()

    async def main() -> None:
        async with sdk.service().open(store=store):
            pass

    error, _ = run(main)
    assert isinstance(error, KeyboardInterrupt)
    assert store.steps == ["opened", "closed"]
    assert sdk.opened == sdk.closed


class InterruptedClock:
    """Ctrl-C comes when it is read for the first time, in the task in which the SDK is opened."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.elapsed, self.monotonic, self._now = clock.elapsed, clock.monotonic, clock.now
        self._is_read = False

    def now(self) -> float:
        if not self._is_read:
            self._is_read = True
            interrupt()
        return self._now()


def test_p3_ctrl_c_in_the_task_that_opens_the_sdk_leaves_nothing_open() -> None:
    sdk = Sdk()

    async def main() -> None:
        async with sdk.service().open(clock=InterruptedClock()):
            pass

    error, _ = run(main)
    assert is_interrupt(error)
    assert sdk.opened == sdk.closed


def test_ctrl_c_while_a_journal_is_opened_closes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.db"
    opened = Journal.open
    go_on = threading.Event()

    def open_slowly(self: Journal) -> Any:
        assert go_on.wait(DEADLINE)
        return opened(self)

    async def main() -> None:
        store = SqliteStore(path)
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            await store.open(lambda events: None, None, None)
        go_on.set()
        threads = [thread for thread in threading.enumerate() if thread.name == "trio-jobs journal"]
        for thread in threads:
            await trio.to_thread.run_sync(thread.join, 3.0)
            assert not thread.is_alive()
        await trio.testing.wait_all_tasks_blocked()
        await store.open(lambda events: None, None, None)
        await store.aclose()

    monkeypatch.setattr(Journal, "open", open_slowly)
    trio.run(main)
