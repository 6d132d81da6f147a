"""What readers get with each event of a job, and the journal stores in the submit alone: its kind and its key. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trio_jobs._engine.events import Event, JobEvent, Submitted

__all__ = ["as_stored", "with_identity"]


def with_identity(event: Event, identity_of: Callable[[str], tuple[str, str | None] | None]) -> Event:
    """`event` with the kind and the key of its job.

    Args:
        event: An event as the store returns it.
        identity_of: Returns the kind and the key of a job; None for a pruned one.
    """
    if isinstance(event, JobEvent) and event.kind is None:
        identity = identity_of(event.job)
        if identity is not None:
            kind, key = identity
            return msgspec.structs.replace(event, kind=kind, key=key)
    return event


def as_stored(event: Event) -> Event:
    """`event` as the journal stores it: reverses `with_identity`."""
    if isinstance(event, JobEvent) and not isinstance(event, Submitted):
        return msgspec.structs.replace(event, kind=None, key=None)
    return event
