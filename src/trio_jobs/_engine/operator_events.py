"""The events of what only a person does to a job: retry, correct, reschedule, claim, request a verify.

`_engine.events` exports them.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal, final

import msgspec

from trio_jobs._engine.event_base import JobEvent
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.states import State

__all__ = ["REMARKS", "Claimed", "Corrected", "Rescheduled", "RunRestarted", "Verified", "VerifyWord"]

VerifyWord = Literal["done", "not_done", "unknown"]


@final
class RunRestarted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="retried"):
    """A person retried a job that had failed or was cancelled: a new run begins."""

    state: ClassVar[State | None] = State.PENDING

    expired: bool | None = None
    """Whether the deadline had passed, so that the new run has none; None where the dates say so."""
    even_if_acted: bool = False
    """The new run may repeat what an earlier one may have done, although there is no `verify`."""
    by: str | None = None
    """Who retried the job: the name of a token, or `by` of the call."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


@final
class Corrected(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="corrected"):
    """The payload of a job that had failed or was cancelled was replaced: a new run begins, with the new payload and
    without the steps of earlier runs."""

    state: ClassVar[State | None] = State.PENDING

    payload: msgspec.Raw | msgspec.UnsetType
    """The new payload as JSON, a bytes-like object; UNSET over the wire."""
    digest: str | None = None
    """The hash of the canonical new payload of a job with a key; None over the wire."""
    deadline_at: float | None = None
    """When the new run expires, where the correction says so: seconds since the epoch, UTC. None: as before."""
    deadline_after: float | None = None
    """The seconds from this event to the deadline, where it was given in seconds; None for a date or without one."""
    expired: bool | None = None
    """Whether the deadline had passed, so that the new run has none; None where the dates say so."""
    by: str | None = None
    """Who corrected the job: the name of a token, or `by` of the call."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


@final
class Rescheduled(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="rescheduled"):
    """A person changed when a waiting job becomes due."""

    state: ClassVar[State | None] = State.SCHEDULED

    due_at: float
    """When the job becomes due: seconds since the epoch, UTC. See `due`."""
    delay: float | None = None
    """The seconds from this event until the job is due, where they were given; None for a date."""
    by: str | None = None
    """Who did it: the name of a token, or `by` of the call."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""

    @property
    def due(self) -> datetime:
        """When the job becomes due, UTC."""
        return moment(self.due_at)


@final
class Claimed(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="claimed"):
    """A person says to the others that the job is being worked on, or no longer is. Nothing else changes."""

    until: float | None = None
    """When the claim ends: seconds since the epoch, UTC; None: it has ended."""
    by: str | None = None
    """Who works on the job; for a claim that has ended, who ended it."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


@final
class Verified(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="verified"):
    """`verify` was called on request of a person, and the job keeps its state. Where the answer changes the state, the
    event that does so has the answer as its reason."""

    answer: VerifyWord
    """not_done: the job has not acted. unknown: nothing is known. done: a cancelled job has done its work."""
    by: str | None = None
    """Who requested it: the name of a token, or `by` of the call."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


REMARKS: frozenset[type[JobEvent]] = frozenset({Claimed, Verified})
"""Events that do not change the state, nor what the job waits for: timers and the age of the state go on."""
