"""Events for the rules of `check_store`, and how the rules compare them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trio_jobs._engine import events as ev

__all__ = ["bodies", "completed", "expect", "numbers", "opened", "started", "submitted"]


def expect(holds: bool, violation: str) -> None:
    """Raise `AssertionError` with `violation`, which says what happened, unless the rule holds."""
    if not holds:
        raise AssertionError(violation)


def submitted(seq: int, job: str | None = None, payload: bytes = b'{"n": 1}') -> ev.Submitted:
    """A `Submitted` event as a store receives it."""
    body = msgspec.Raw(payload)
    return ev.Submitted(seq=seq, at=1_700_000_000.25 + seq, job=job or f"job-{seq}", kind="k", payload=body, key="é")


def started(seq: int, job: str) -> ev.Started:
    return ev.Started(seq=seq, at=1_700_000_050.5, job=job, attempt=1, entered=True)


def completed(seq: int, job: str) -> ev.Completed:
    return ev.Completed(seq=seq, at=1_700_000_100.0, job=job, attempt=1, result=msgspec.Raw(b"null"))


def opened(seq: int) -> ev.SessionOpened:
    return ev.SessionOpened(seq=seq, at=1.5, session=1)


def numbers(events: Iterable[ev.Event]) -> list[int]:
    return [event.seq for event in events]


def bodies(events: Sequence[ev.Event]) -> list[bytes]:
    """The events as JSON: `msgspec.Raw` values are not equal to each other even if their bytes are."""
    return [msgspec.json.encode(event) for event in events]
