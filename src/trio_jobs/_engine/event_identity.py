"""What readers get with each event of a job, and the journal stores in the submit alone: its kind and its key. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from trio_jobs._engine.events import ALL_EVENTS, Event, JobEvent, Submitted

__all__ = ["as_stored", "with_identity"]

#: The classes of job events that the store has without the kind and the key
_WITHOUT_IDENTITY: Final = frozenset(
    class_ for class_ in ALL_EVENTS if issubclass(class_, JobEvent) and not issubclass(class_, Submitted)
)


def with_identity(event: Event, identity_of: Callable[[str], tuple[str, str | None] | None]) -> Event:
    """`event` with the kind and the key of its job.

    Args:
        event: An event as the store returns it.
        identity_of: Returns the kind and the key of a job; None for a pruned one.
    """
    if type(event) in _WITHOUT_IDENTITY:
        of_job: Any = event  # a JobEvent; `isinstance` takes eight times as long for the classes of events
        if of_job.kind is None and (identity := identity_of(of_job.job)) is not None:
            kind, key = identity
            return msgspec.structs.replace(event, kind=kind, key=key)
    return event


def as_stored(event: Event) -> Event:
    """`event` as the journal stores it: reverses `with_identity`."""
    if isinstance(event, JobEvent) and not isinstance(event, Submitted):
        return msgspec.structs.replace(event, kind=None, key=None)
    return event
