"""`JobConditions`, the keywords that select the jobs of a bulk operation, and their checked form."""

from __future__ import annotations

from typing import TypedDict, final

import attrs

from trio_jobs._engine.job_filter import parse_state
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._errors import UsageError
from trio_jobs._runtime.queries import MAX_PAGE
from trio_jobs._validation import check_number, check_seconds, unknown_keyword

__all__ = ["CheckedConditions", "JobConditions", "RetriedJobs"]


@final
class JobConditions(TypedDict, total=False):
    """The keywords of `Queue.cancel_many` and `Queue.retry_many` that select jobs. A job must match all of them."""

    state: State | str | None
    """Only jobs in this state; None for every state in which the operation is possible."""
    kind: str | None
    """Only jobs of this kind."""
    error_type: str | None
    """Only jobs whose last error is of a class with this name."""
    older_than: float | None
    """Only jobs that were submitted at least so many seconds ago."""
    limit: int
    """The highest number of jobs, 1 to 1,000 (the default); repeat the call for more."""


@final
@attrs.frozen
class RetriedJobs:
    """What `Queue.retry_many` did, the oldest jobs first."""

    retried: tuple[str, ...]
    """The ids of the jobs of which a new run has begun."""
    refused: tuple[str, ...]
    """The ids of the jobs that match and were left as they are, since `retry` would raise `JobMayHaveActed`. At most
    `limit`."""


@final
@attrs.frozen(kw_only=True)
class CheckedConditions:
    """Checked conditions. None matches every job."""

    state: State | None
    kind: str | None
    error_type: str | None
    submitted_before: float | None
    """UTC, in seconds since 1970."""
    limit: int

    @classmethod
    def of(cls, conditions: JobConditions, now: float) -> CheckedConditions:
        """Check conditions.

        Raises:
            UsageError: A value is not valid, or there is no such condition.
        """
        known = JobConditions.__annotations__
        error = unknown_keyword("cancel_many and retry_many", conditions.keys() - known, known, {}, {})
        if error is not None:
            raise error
        state, older_than = conditions.get("state"), conditions.get("older_than")
        limit = check_number("limit", conditions.get("limit", MAX_PAGE))
        if limit > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        return cls(
            state=None if state is None else parse_state(state),
            kind=conditions.get("kind"),
            error_type=conditions.get("error_type"),
            submitted_before=None if older_than is None else now - check_seconds("older_than", older_than),
            limit=limit,
        )

    def match(self, record: JobRecord) -> bool:
        """Return whether a job matches all conditions except for the state."""
        return (
            (self.kind is None or record.kind == self.kind)
            and (self.error_type is None or (record.error is not None and record.error.type == self.error_type))
            and (self.submitted_before is None or record.submitted_at <= self.submitted_before)
        )
