"""Events are encoded once for all subscribers."""

from __future__ import annotations

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin
from trio_jobs._runtime.feed import Feed
from trio_jobs._server.event_bodies import MOST, EventBodies
from trio_jobs._stores.memory import MemoryStore


def test_an_event_is_encoded_once_for_all_subscribers() -> None:
    record = begin(ev.Submitted(seq=1, at=0.0, job="j1", kind="kind1", key="A-1", payload=msgspec.Raw(b"1")))
    bodies = EventBodies(Feed(MemoryStore(), lambda job: record))
    event = ev.Due(seq=1, at=0.0, job="j1")
    assert bodies.body(event) is bodies.body(event)
    assert b'"kind":"kind1"' in bodies.body(event)
    assert b'"key":"A-1"' in bodies.body(event), "a later event has the key of its job too"


def test_the_cache_of_encoded_events_is_bounded() -> None:
    bodies = EventBodies(Feed(MemoryStore()))
    for seq in range(1, MOST + 3):
        bodies.body(ev.Due(seq=seq, at=0.0, job="j1"))
    assert len(bodies._bodies) <= MOST
