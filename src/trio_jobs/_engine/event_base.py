"""What all events have: see `_engine.events`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from trio_jobs._engine.json_values import json_fields, moment
from trio_jobs._engine.states import State

__all__ = ["Event", "JobEvent", "QueueEvent"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type"):
    """The base class of all events."""

    seq: int
    """The number of the event: from 1, without a gap within one epoch."""
    at: float
    """When the event occurred: seconds since the epoch, UTC. See `occurred_at`."""

    @property
    def occurred_at(self) -> datetime:
        """When the event occurred, UTC."""
        return moment(self.at)

    @property
    def type(self) -> str:
        """The name of the class in the journal and on the wire, such as "submitted" or "step_finished"."""
        return str(self.__struct_config__.tag)

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON types, for `json.dumps`.

        Returns:
            `type`, `state` and the fields by name, without those that are None or unset. Times are ISO 8601 strings in
            UTC; JSON in fields is decoded.
        """
        fields: dict[str, Any] = {"type": self.type, **json_fields(self)}
        for name in ("at", "due_at", "deadline_at", "until"):
            if fields.get(name) is not None:
                fields[name] = moment(fields[name]).isoformat()
        return {name: value for name, value in fields.items() if value is not None}


class JobEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of one job. A client gets a plain `JobEvent` for a type of event that its version does not know."""

    state: ClassVar[State | None] = None
    """The state of the job after such an event; None for the events that leave the state as it is in several states."""

    job: str
    """The id of the job."""
    kind: str | None = None
    """The kind of the job, set by `Queue.events` and `Client.subscribe`; None if the job has been pruned since. In the
    journal only the submit has a kind."""
    key: str | None = None
    """The key of the job, set likewise; None without one."""

    def to_dict(self) -> dict[str, Any]:
        """See `Event.to_dict`."""
        fields = super().to_dict()
        if self.state is not None:
            fields["state"] = self.state.value
        return fields


class QueueEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of the queue itself. A client gets a plain `QueueEvent` for a type of event that its version does not
    know."""
