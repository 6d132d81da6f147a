"""The parameters and results of the methods that find, list and count jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trio_jobs._engine.jobs import State
from trio_jobs._wire.params import Kind, Params, Time
from trio_jobs._wire.schemas import JobId, Labels, WireJob

__all__ = ["Conditions", "Count", "CountResult", "Find", "List", "ListResult"]


class Find(Params, frozen=True):
    """kind: the kind of the job; absent for any. key: the key of its submit. live: as of jobs.get."""

    key: Annotated[str, Meta(min_length=1, max_length=500)]
    kind: Kind | None = None
    live: bool = False


class Conditions(Params, frozen=True):
    """Only jobs that match all of these. state, states: in this state, or in one of these. kind: of this kind.
    key_prefix: whose key begins with this. error_type: whose last error is of this class. may_have_acted: or have not.
    labels: with all of these. by: of this submitter. since, until: submitted at or after the one, before the other.
    labels and by need a token of scope operate."""

    state: State | None = None
    kind: Kind | None = None
    states: Annotated[list[State], Meta(min_length=1, max_length=8)] | None = None
    key_prefix: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    error_type: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    may_have_acted: bool | None = None
    labels: Labels | None = None
    by: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    since: Time | None = None
    until: Time | None = None


class List(Conditions, frozen=True, kw_only=True):
    """Jobs in the order of their submits. The conditions are those of jobs.count. after: next of the previous page,
    with the same conditions and order; or the id of a job, for those behind it."""

    after: JobId | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    order: Literal["oldest", "newest"] = "oldest"


class ListResult(Struct, frozen=True, omit_defaults=True):
    """seq: the last event before the jobs were read. more: there may be a further job. next: then the cursor of the
    next page. A page has fewer than `limit` jobs, or none, where they would exceed 256 KiB or where the search would
    take too long."""

    seq: int
    jobs: list[WireJob]
    more: bool
    next: str | None = None


class Count(Conditions, frozen=True, kw_only=True):
    """Conditions as for jobs.list. group: count the jobs also by state, kind, error_type or label:NAME. The last needs
    a token of scope operate."""

    group: Annotated[str, Meta(max_length=70)] | None = None


class CountResult(Struct, frozen=True, omit_defaults=True):
    """seq: the last event before the jobs were counted. total: the number of jobs. groups: the number for each value,
    of at most 1,000 values, the largest numbers first. others: the number of jobs with other values."""

    seq: int
    total: int
    groups: dict[str, int] | None = None
    others: int = 0
