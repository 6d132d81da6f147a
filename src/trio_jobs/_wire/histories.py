"""The parameters and results of the methods that return what has happened, and what operators did."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trio_jobs._wire.params import Note, Params
from trio_jobs._wire.schemas import OneJobId, Seq, WireAction, WireEvent

__all__ = [
    "Activity",
    "ActivityResult",
    "Forget",
    "ForgetResult",
    "History",
    "HistoryEvent",
    "HistoryResult",
]


class History(Params, frozen=True):
    """job: the id of the job, or at least its last 6 characters. after: only events after this one."""

    job: OneJobId
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class HistoryEvent(WireEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An event of a job. run: the number of the run to which it belongs. payload: of an event that has one; sent to a
    token of scope operate or control only."""

    run: int
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class HistoryResult(Struct, frozen=True):
    """events: in order. A page has fewer than `limit` where they would exceed 256 KiB. more: there are further ones,
    after the last of these. complete: the history begins with the submit; false if the first events are not kept."""

    job: str
    events: list[HistoryEvent]
    more: bool
    complete: bool


class Forget(Params, frozen=True):
    """job: the id of the job, or at least its last 6 characters. note: why; recorded."""

    job: OneJobId
    note: Note = None


class ForgetResult(Struct, frozen=True):
    """job: its whole id. seq: the last event."""

    job: str
    seq: int


class Activity(Params, frozen=True):
    """What operators did, the newest first. before: only what was done before this event. by: by this operator."""

    before: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    by: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class ActivityResult(Struct, frozen=True):
    """seq: the last event. actions: the newest first. more: there may be older ones, before the last of these."""

    seq: int
    actions: list[WireAction]
    more: bool
