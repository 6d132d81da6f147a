"""Waits in seconds: what events keep of them, and how a deadline in seconds is compared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.event_writer import is_expired
from trio_jobs._engine.fold import begin
from trio_jobs._engine.jobs import JobRecord, State, Wait
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.retry import Rules

PAYLOAD = msgspec.Raw(b"1")
encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(ev.AnyEvent).decode


def submit(**times: Any) -> ev.Submitted:
    return decide.submit("job", "kind", PAYLOAD, 1000.0, 1, **times)


def applied(*events: ev.Event, elapsed: float | None) -> JobRecord:
    projection = Projection()
    for event in events:
        projection.apply(event, elapsed)
    return projection.jobs["job"]


def test_a_submit_keeps_its_seconds_and_the_dates_at_which_they_end() -> None:
    event = decode(encode(submit(delay=60.0, deadline_after=90.0)))
    assert isinstance(event, ev.Scheduled)
    assert (event.due_at, event.delay, event.deadline_at, event.deadline_after) == (1060, 60, 1090, 90)
    record = begin(event)
    assert (record.due_at, record.deadline_at) == (1060, 1090)
    assert (record.due_wait, record.deadline_wait) == (Wait(60, None), Wait(90, None))


def test_a_submit_with_dates_has_no_seconds() -> None:
    record = begin(submit(due_at=1060.0, deadline_at=1090.0))
    assert (record.due_at, record.due_wait, record.deadline_at, record.deadline_wait) == (1060, None, 1090, None)


def test_a_job_whose_delay_is_over_is_pending() -> None:
    assert type(submit(delay=0.0)) is ev.Submitted


def test_events_of_earlier_versions_have_dates_alone() -> None:
    old = (
        b'{"type":"scheduled","seq":1,"at":1000.0,"job":"job","kind":"kind","payload":1,'
        b'"due_at":1060.0,"deadline_at":1090.0}'
    )
    record = applied(decode(old), elapsed=7.0)
    assert (record.due_wait, record.deadline_wait) == (None, None)


@pytest.mark.parametrize("kind", [ev.RetryScheduled, ev.Snoozed])
def test_the_seconds_of_a_retry_and_of_a_snooze_follow_from_their_event(kind: Any) -> None:
    start = ev.Started(seq=2, at=1001.0, job="job", attempt=1)
    wait = kind(seq=3, at=1002.0, job="job", attempt=1, due_at=1302.0)
    record = applied(submit(), start, wait, elapsed=50.0)
    assert record.due_wait == Wait(300, 350)
    due = ev.Due(seq=4, at=1302.0, job="job")
    started = ev.Started(seq=5, at=1303.0, job="job", attempt=2)
    record = applied(submit(), start, wait, due, started, elapsed=50.0)
    assert (record.due_at, record.due_wait) == (None, None)


def test_events_of_an_earlier_process_have_no_moment_of_this_one() -> None:
    record = applied(submit(delay=60.0, deadline_after=90.0), elapsed=None)
    assert (record.due_wait, record.deadline_wait, record.changed_elapsed) == (Wait(60.0, None), Wait(90.0, None), None)


@pytest.mark.parametrize(("now", "elapsed", "expired"), [(0.0, 97.0, True), (5000.0, 96.9, False)])
def test_a_deadline_in_seconds_is_compared_with_elapsed_seconds(now: float, elapsed: float, expired: bool) -> None:
    record = applied(submit(deadline_after=90.0), elapsed=7.0)
    assert is_expired(record, now, elapsed) is expired
    assert bool(decide.expire(record, now, 2, elapsed)) is expired
    [started] = decide.start(record, False, Rules(), now, 2, elapsed)
    assert isinstance(started, ev.Failed if expired else ev.Started)


@pytest.mark.parametrize(("now", "expired"), [(1089.9, False), (1090.0, True)])
def test_a_deadline_that_is_a_date_is_compared_with_the_wall_clock(now: float, expired: bool) -> None:
    by_date = applied(submit(deadline_at=1090.0), elapsed=7.0)
    assert is_expired(by_date, now, 1e9) is expired
    restored = applied(submit(deadline_after=90.0), elapsed=None)
    assert is_expired(restored, now) is expired, "nothing else is known"


@pytest.mark.parametrize(
    ("now", "elapsed", "recorded", "kept"),
    [
        (1050.0, 57.0, None, True),
        (1100.0, 107.0, None, False),
        (1100.0, 57.0, False, True),  # the wall clock was set forward
        (1050.0, 107.0, True, False),  # the wall clock was set back
    ],
)
def test_a_new_run_keeps_a_deadline_whose_seconds_have_not_passed(
    now: float, elapsed: float, recorded: bool | None, kept: bool
) -> None:
    """What the dates of the events do not say is recorded, so that each process folds the same job."""
    first, cancelled = submit(deadline_after=90.0), ev.Cancelled(seq=2, at=1001.0, job="job")
    record = applied(first, cancelled, elapsed=7.0)
    [again] = decide.retry(record, Rules(), None, now, 3, elapsed)
    assert isinstance(again, ev.RunRestarted)
    assert again.expired is recorded
    for replayed in (applied(first, cancelled, again, elapsed=7.0), applied(first, cancelled, again, elapsed=None)):
        assert replayed.state is State.PENDING
        assert (replayed.deadline_at is not None) is kept
        assert (replayed.deadline_wait is not None) is kept
