"""The inbox of the writer thread wakes it for each item, once, whatever the system wakes threads with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import outcome
import pytest
import trio
import trio.testing

import trio_jobs
from trio_jobs._engine import events as ev
from trio_jobs._eventfd import open_eventfd
from trio_jobs._stores import writer_inbox
from trio_jobs._stores.durable_store import DurableStore
from trio_jobs._stores.writer_inbox import WriterInbox
from trio_jobs._stores.writer_thread import ReadRequest

DEADLINE = 5.0


@pytest.fixture(params=["eventfd", "no eventfd", "no epoll"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the system has."""
    if request.param == "no eventfd":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    elif request.param == "no epoll":
        monkeypatch.setattr(writer_inbox, "select", SimpleNamespace(epoll=too_many_files))
    return str(request.param)


def too_many_files(*args: Any) -> Any:
    raise OSError(24, "Too many open files")


@pytest.fixture
def eventfds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The eventfds of inboxes that are open."""
    found: list[int] = []

    def opened() -> int | None:
        eventfd = open_eventfd()
        if eventfd is not None:
            found.append(eventfd)
        return eventfd

    def close(eventfd: int) -> None:
        found.remove(eventfd)
        os.close(eventfd)

    monkeypatch.setattr(writer_inbox, "open_eventfd", opened)
    monkeypatch.setattr(writer_inbox, "os", SimpleNamespace(close=close))
    return found


@contextmanager
def thread_of(inbox: WriterInbox[int], take: Callable[[], int]) -> Iterator[SimpleQueue[object]]:
    """A thread that passes on what it takes, or the exception, until it takes 0."""
    taken: SimpleQueue[object] = SimpleQueue()

    def run() -> None:
        try:
            while number := take():
                taken.put(number)
        except Exception as error:
            taken.put(error)
        inbox.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield taken
    inbox.put(0)
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.usefixtures("system")
def test_the_thread_gets_each_item_at_once(timeout: float | None) -> None:
    inbox = WriterInbox[int]()
    with thread_of(inbox, lambda: inbox.get(timeout)) as taken:
        for number in range(1, 500):
            inbox.put(number)
            assert taken.get(timeout=DEADLINE) == number


@pytest.mark.usefixtures("system")
def test_items_of_several_threads_are_all_taken_in_order() -> None:
    inbox = WriterInbox[int]()

    def put(first: int) -> None:
        for number in range(first, first + 1000, 4):
            inbox.put(number)

    with thread_of(inbox, inbox.get) as taken:
        threads = [threading.Thread(target=put, args=(first,)) for first in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        found = [taken.get(timeout=DEADLINE) for _ in range(1000)]
    assert sorted(found, key=hash) == list(range(1, 1001))
    for first in range(4):
        from_one = [number for number in found if hash(number) % 4 == first]
        assert from_one == sorted(from_one, key=hash)


@pytest.mark.usefixtures("system")
def test_a_wait_ends_after_its_timeout() -> None:
    inbox = WriterInbox[int]()
    for timeout in (0.0, 0.001):
        with pytest.raises(Empty):
            inbox.get(timeout)
    inbox.put(1)
    assert inbox.get(0.0) == 1
    inbox.close()


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="nothing else wakes a thread without an item")
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_wake_up_without_an_item_does_not_end_the_wait(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    """An item can be found before the wake-up for it arrives."""
    eventfd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # it wakes the first wait
    monkeypatch.setattr(writer_inbox, "open_eventfd", lambda: eventfd)
    inbox = WriterInbox[int]()
    with thread_of(inbox, lambda: inbox.get(timeout)) as taken:
        with pytest.raises(Empty):
            taken.get(timeout=0.05)
        inbox.put(1)
        assert taken.get(timeout=DEADLINE) == 1


async def test_the_eventfd_is_opened_by_the_thread_and_closed_at_its_end(
    eventfds: list[int], system: str, tmp_path: Path
) -> None:
    service = trio_jobs.Service()

    @service.handler
    async def nothing(number: int) -> None:
        pass

    for _ in range(2):
        async with service.open(journal=tmp_path / "jobs.db") as queue:
            receipt = await queue.submit(nothing, 1)
            await queue.result(receipt.job_id)
            assert len(eventfds) == (system == "eventfd")
        assert not eventfds


@pytest.mark.usefixtures("system")
def test_an_item_that_is_added_after_the_end_wakes_nobody(eventfds: list[int]) -> None:
    inbox = WriterInbox[int]()
    with thread_of(inbox, inbox.get) as taken:
        inbox.put(1)
        assert taken.get(timeout=DEADLINE) == 1
    inbox.put(2)
    assert not eventfds


class Log:
    """The log of an empty store."""

    name, epoch, last_seq, oldest = "the log", "0" * 32, 0, 1


class Writer:
    """A writer thread that does nothing but open."""

    def __init__(self, log: object, listener: Any, post: object) -> None:
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self._listener = listener

    def start(self) -> None:
        self._listener.on_opened(outcome.Value([]))


async def test_a_read_is_put_behind_what_was_appended_before_it() -> None:
    store: DurableStore[Any] = DurableStore(Log, make_writer=Writer)  # type: ignore[arg-type] # what is used of both
    await store.open(lambda events: None, None, None)
    event = ev.Resumed(seq=1, at=0.0)
    async with trio.open_nursery() as nursery:
        store.append([event])
        nursery.start_soon(store.read, str)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert store.writer is not None
    assert store.writer.inbox.get_nowait() == [event]
    assert isinstance(store.writer.inbox.get_nowait(), ReadRequest)
