"""The events of the queue itself: its sessions, its pauses. `_engine.events` exports them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from trio_jobs._engine.event_base import Event, QueueEvent

__all__ = [
    "RETAINED",
    "DrainEnded",
    "DrainStarted",
    "Forgotten",
    "Paused",
    "Resumed",
    "SaveFailed",
    "Saved",
    "SessionClosed",
    "SessionOpened",
    "SessionOpening",
    "SessionOpeningFailed",
    "Stuck",
    "SubmitRejected",
    "is_unclean",
    "last_of_groups",
]


@final
class SessionOpening(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="session_opening"):
    """The SDK is about to be opened. Committed before its factory is called."""

    session: int
    """The number that the session will have, see `Opening.number`."""
    reason: str
    """Why it is opened, see `Opening.reason`."""
    unclean: bool = False
    """The last session of this seat is not known to have closed."""


@final
class SessionOpeningFailed(
    QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="session_opening_failed"
):
    """The SDK was not opened. The next opening has the same number."""

    session: int
    """The number that the session would have had."""
    problem: str
    """What the opening raised, or why it was not begun."""
    unclean: bool = False
    """The session before it is not known to have closed; as in the `SessionOpening`."""


@final
class SessionOpened(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="host_opened"):
    """The SDK is open."""

    session: int
    """The number of the session, from 1 since the queue started."""


@final
class SessionClosed(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="host_closed"):
    """The SDK is closed."""

    session: int
    """The number of the session, from 1 since the queue started."""
    problem: str | None = None
    """What the close raised; None if it raised nothing."""


@final
class Saved(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="saved"):
    """`save` has returned. The events by which its jobs are completed follow."""

    session: int
    """The number of the session, from 1 since the queue started."""
    jobs: tuple[str, ...]
    """The ids of the jobs whose work is saved, in the order in which their handlers returned."""


@final
class SaveFailed(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="save_failed"):
    """`save` raised or did not return. The events that decide about its jobs follow."""

    session: int
    """The number of the session, from 1 since the queue started."""
    jobs: tuple[str, ...]
    """The ids of the jobs whose work may not be saved, in the order in which their handlers returned."""
    problem: str
    """What `save` raised, or why it ended."""


@final
class Stuck(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="stuck"):
    """A call has exceeded its limit and `stuck_after`. The queue is blocked until the call returns."""

    culprit: str
    """The id of the job that made the call; "save" for a call of `save`."""


@final
class Paused(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="paused"):
    """The queue is paused: no attempt starts."""

    reason: str = ""
    """Why, as given to `pause`."""
    until: float | None = None
    """When the pause ends by itself: seconds since the epoch, UTC; None: when an operator resumes the queue."""
    by: str | None = None
    """Who paused the queue."""
    note: str | None = None
    """What that person noted; None for nothing."""


@final
class Resumed(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="resumed"):
    """The queue is resumed: attempts start again."""

    by: str | None = None
    """Who resumed the queue."""
    note: str | None = None
    """What that person noted; None for nothing."""


@final
class DrainStarted(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="drain_started"):
    """An operator has started a drain: submits are refused. A restart ends it."""

    by: str | None = None
    """Who started it."""
    note: str | None = None
    """What that person noted; None for nothing."""


@final
class DrainEnded(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="drain_ended"):
    """An operator has ended a drain: jobs are accepted again."""

    by: str | None = None
    """Who ended it."""
    note: str | None = None
    """What that person noted; None for nothing."""


@final
class Forgotten(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="forgotten"):
    """The data of a final job is removed at the request of an operator. Its key stays known."""

    jobs: tuple[str, ...]
    """The id of the job."""
    by: str | None = None
    """Who did it."""
    note: str | None = None
    """What that person noted; None for nothing."""


@final
class SubmitRejected(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="refused"):
    """Placeholder for a submit that the store rejected, or for a later event of its job. It keeps `seq` gap-free."""


RETAINED: Final[tuple[tuple[type[Event], ...], ...]] = (
    (Paused, Resumed),
    (SessionOpening, SessionOpeningFailed, SessionOpened, SessionClosed),
)
"""The queue events that a restart needs, in groups: a store keeps the last event of each group, whatever it prunes."""


def last_of_groups(events: Iterable[Event]) -> list[Event]:
    """The last event of each group of `RETAINED`, in the order of the groups."""
    last: dict[int, Event] = {}
    for event in events:
        if isinstance(event, QueueEvent):
            for number, group in enumerate(RETAINED):
                if isinstance(event, group):
                    last[number] = event
    return [last[number] for number in sorted(last)]


def is_unclean(last: Event | None) -> bool:
    """Whether the last session is not known to have closed.

    Args:
        last: The last of the events of sessions in `RETAINED`; None without one.
    """
    if isinstance(last, SessionClosed):
        return last.problem is not None
    if isinstance(last, SessionOpeningFailed):
        return last.unclean
    return last is not None
