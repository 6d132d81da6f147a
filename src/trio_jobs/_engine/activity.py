"""Who did what: the actions of operators on jobs and on the queue, in the order of their events. Pure.

The jobs have their own actions, for as long as they are kept. This is the list for those who ask what was done, by
whom, since when. It outlives the jobs, so it has a limit of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

import msgspec

from trio_jobs._engine import queue_events as qe
from trio_jobs._engine.event_base import Event
from trio_jobs._engine.operator_actions import ActionName, ActionRecord

__all__ = ["MAX_ACTIVITY", "Activity", "queue_action"]

MAX_ACTIVITY: Final = 10_000  #: actions that are kept, the newest: some MB, and a year of an operator's days
SLACK: Final = 1_000  #: the oldest are removed so many at once, since that moves all others

_seq: Final = attrgetter("seq")
_OF_QUEUE: Final[dict[type[Event], ActionName]] = {
    qe.Paused: "pause",
    qe.Resumed: "resume",
    qe.DrainStarted: "drain",
    qe.DrainEnded: "undrain",
    qe.Forgotten: "forget",
}


def queue_action(event: Event) -> ActionRecord | None:
    """The action of an event of the queue itself; None if it is not one of an operator."""
    name = _OF_QUEUE.get(type(event))
    if name is None:
        return None
    note: str | None = event.note  # type: ignore[attr-defined] # by class
    if isinstance(event, qe.Paused):
        note = note or event.reason or None
    job = event.jobs[0] if isinstance(event, qe.Forgotten) else None
    return ActionRecord(name, event.seq, event.at, event.by, note, job=job)  # type: ignore[attr-defined] # by class


class Activity:
    """The newest `MAX_ACTIVITY` actions."""

    def __init__(self) -> None:
        self._records: list[ActionRecord] = []
        self.version = 0
        """The number of changes."""

    def __repr__(self) -> str:
        return f"<Activity {len(self._records)} actions>"

    def add(self, record: ActionRecord) -> None:
        """Add the action of the newest event."""
        self.version += 1
        self._records.append(record)
        if len(self._records) >= MAX_ACTIVITY + SLACK:
            del self._records[:SLACK]

    def remove_job(self, job: str) -> None:
        """Remove what was done to a job: its submit was rejected, so nothing of it has happened."""
        self.version += 1
        self._records = [record for record in self._records if record.job != job]

    def forget_job(self, job: str) -> None:
        """Keep who did what to a job and when, without its key and without notes, which may be about a person."""
        self.version += 1
        self._records = [
            msgspec.structs.replace(record, key=None, note=None) if record.job == job else record
            for record in self._records
        ]

    def page(self, before: int | None, until: int) -> Iterator[ActionRecord]:
        """The actions, the newest first.

        Args:
            before: Only those before this event; None for all.
            until: Only those up to this event.
        """
        end = until + 1 if before is None else min(before, until + 1)
        for index in range(bisect_left(self._records, end, key=_seq) - 1, -1, -1):
            yield self._records[index]

    def restore(self, kept: Iterable[ActionRecord]) -> None:
        """Add what a store has kept of removed events. Of what is in the events too, that is believed."""
        by_seq = {record.seq: record for record in [*kept, *self._records]}
        self._records = [by_seq[seq] for seq in sorted(by_seq)][-MAX_ACTIVITY:]
