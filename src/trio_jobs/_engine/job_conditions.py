"""`JobConditions`, the keywords that select the jobs of a bulk operation, and their checked form. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, TypedDict, final

import attrs

from trio_jobs._engine.job_filter import JobFilter, ListConditions
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._errors import UsageError
from trio_jobs._validation import check_number, check_seconds, unknown_keyword

__all__ = ["ID_LENGTH", "MAX_MANY", "CheckedConditions", "JobConditions", "RetriedJobs", "check_ids"]

ID_LENGTH: Final = 36  #: characters of an id
MAX_MANY: Final = 1000  #: jobs that one call lists, cancels or retries


@final
class JobConditions(TypedDict, total=False):
    """The keywords of `Queue.cancel_many` and `Queue.retry_many` that select jobs. A job must match all of them; None
    matches every job."""

    ids: Iterable[str] | None
    """Only the jobs with these whole ids, at most 1,000."""
    state: State | str | None
    """Only jobs in this state; None for every state in which the operation is possible."""
    kind: str | None
    """Only jobs of this kind."""
    key_prefix: str | None
    """Only jobs whose key begins with this text."""
    error_type: str | None
    """Only jobs whose last error is of a class with this name."""
    may_have_acted: bool | None
    """Only jobs that may have acted; False: only jobs that have not."""
    labels: Mapping[str, str] | None
    """Only jobs with all of these labels."""
    submitter: str | None
    """Only jobs that were submitted by this name."""
    since: datetime | None
    """Only jobs that were submitted at this aware datetime or later."""
    until: datetime | None
    """Only jobs that were submitted before this aware datetime."""
    older_than: float | None
    """Only jobs that were submitted at least so many seconds ago."""
    limit: int
    """The highest number of jobs, 1 to 1,000 (the default); repeat the call for more."""


@final
@attrs.frozen
class RetriedJobs:
    """What `Queue.retry_many` did, or would do, the oldest jobs first."""

    retried: tuple[str, ...]
    """The ids of the jobs of which a new run has begun."""
    refused: tuple[str, ...]
    """The ids of the jobs that match and were left as they are, since `retry` would raise `JobMayHaveActed`. At most
    `limit`."""
    may_have_acted: tuple[str, ...] = ()
    """The ids of all of these jobs that may have acted."""
    verified_first: tuple[str, ...] = ()
    """The ids of the retried jobs whose `verify` is called before anything is done again."""


@final
@attrs.frozen(kw_only=True)
class CheckedConditions:
    """Checked conditions. None matches every job."""

    wanted: JobFilter
    ids: tuple[str, ...] | None
    submitted_before: float | None
    """UTC, in seconds since 1970."""
    limit: int

    @classmethod
    def of(cls, conditions: JobConditions, now: float, possible: frozenset[State]) -> CheckedConditions:
        """Check conditions.

        Args:
            conditions: The conditions.
            now: UTC, in seconds since 1970.
            possible: The states in which the operation is possible.

        Raises:
            UsageError: A value is not valid, or there is no such condition.
        """
        known = JobConditions.__annotations__
        error = unknown_keyword("cancel_many and retry_many", conditions.keys() - known, known, {}, {})
        if error is not None:
            raise error
        wanted = JobFilter.of(
            ListConditions(
                state=conditions.get("state"),
                kind=conditions.get("kind"),
                key_prefix=conditions.get("key_prefix"),
                error_type=conditions.get("error_type"),
                may_have_acted=conditions.get("may_have_acted"),
                labels=conditions.get("labels"),
                by=conditions.get("submitter"),
                since=conditions.get("since"),
                until=conditions.get("until"),
            )
        )
        older_than, ids = conditions.get("older_than"), conditions.get("ids")
        limit = check_number("limit", conditions.get("limit", MAX_MANY))
        if limit > MAX_MANY:
            raise UsageError(f"limit must be at most {MAX_MANY}, not {limit}")
        return cls(
            wanted=attrs.evolve(wanted, states=possible if wanted.states is None else wanted.states & possible),
            ids=None if ids is None else check_ids(ids),
            submitted_before=None if older_than is None else now - check_seconds("older_than", older_than),
            limit=limit,
        )

    def matches(self, record: JobRecord) -> bool:
        """Return whether a job matches all conditions but for the ids."""
        before = self.submitted_before
        return (before is None or record.submitted_at <= before) and self.wanted.matches(record)


def check_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Return whole ids of jobs. Raise `UsageError` for anything else."""
    if isinstance(ids, str):
        raise UsageError(f"ids is a list of ids, not {ids!r:.100}")
    found = tuple(ids)
    if len(found) > MAX_MANY:
        raise UsageError(f"ids has at most {MAX_MANY} ids, not {len(found)}; repeat the call for more")
    short = next((one for one in found if not isinstance(one, str) or len(one) != ID_LENGTH), None)
    if short is not None:
        raise UsageError(f"a bulk operation takes whole ids, not {short!r:.100}")
    return found
