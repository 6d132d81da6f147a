"""What a subscription yields beside events and progress."""

from __future__ import annotations

from typing import final

import attrs

from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import Job
from trio_jobs._engine.progress import Progress

__all__ = ["Gap", "Snapshot", "Update"]


@final
@attrs.frozen
class Gap:
    """Events of the stream are missing. A snapshot follows."""

    after: int
    """The last event before the gap."""
    epoch: str
    """The identity of the server's history of events from here on."""
    new_history: bool
    """The server has another history than before: its `seq` numbers are not comparable, and jobs may be missing."""


@final
@attrs.frozen
class Snapshot:
    """A page of the jobs as they are now."""

    jobs: tuple[Job, ...]
    """The jobs, without payloads, attempts, steps and results."""
    first: bool
    """The first page of a snapshot: it replaces what was known before."""
    last: bool
    """The last page of a snapshot: the events after it follow."""


Update = Event | Progress | Snapshot | Gap
"""What `Subscription` yields."""
