"""A commit that does not return is reported, also if another one has returned meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import outcome

from trio_jobs._engine import events as ev
from trio_jobs._stores.durable_store import DurableStore


class Log:
    """The log of an empty store."""

    name, epoch, last_seq, oldest = "the log", "0" * 32, 0, 1


class Writer:
    """A writer thread that commits only what the test says."""

    def __init__(self, log: Any, listener: Any, post: Any) -> None:
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self._listener = listener

    def start(self) -> None:
        self._listener.on_opened(outcome.Value([]))


def event(seq: int) -> ev.Event:
    return ev.Resumed(seq=seq, at=0.0)


async def test_a_stall_behind_another_commit_is_reported() -> None:
    now = 0.0
    store: DurableStore[Any] = DurableStore(Log, make_writer=Writer, monotonic=lambda: now, stall_after=5.0)  # type: ignore[arg-type] # what is used of both

    def on_commit(events: Sequence[ev.Event]) -> None: ...

    await store.open(on_commit, None, None)
    store.append([event(1)])
    now = 3.0
    store.append([event(2)])  # waits behind the first one
    store.on_committed([event(1)])
    now = 8.0
    assert store.trouble is None, "it is under way since the first one returned"
    now = 8.5
    assert store.trouble == "the log: a commit has not returned for 6 s"
    store.append([event(3)])
    now = 20.0
    store.on_committed([event(2)])
    assert store.trouble is None
    now = 26.0
    assert "has not returned for 6 s" in str(store.trouble)
    store.on_committed([event(3)])
    now = 100.0
    assert store.trouble is None, "nothing is under way"


async def test_a_stall_of_the_first_commit_counts_from_its_append() -> None:
    now = 0.0
    store: DurableStore[Any] = DurableStore(Log, make_writer=Writer, monotonic=lambda: now, stall_after=5.0)  # type: ignore[arg-type] # as above
    await store.open(lambda events: None, None, None)
    now = 50.0
    assert store.trouble is None
    store.append([event(1)])
    now = 54.0
    store.append([event(2)])
    assert store.trouble is None
    now = 56.0
    assert store.trouble is not None
