"""The part of the interface `_backend` with which operators correct, verify, move and claim jobs, and change many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import attrs

from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.jobs import Receipt
from trio_jobs._engine.operator_events import VerifyWord

__all__ = ["CommandBackend", "NewSubmit"]


@attrs.frozen(kw_only=True)
class NewSubmit:
    """One job of `submit_many`. The fields are the arguments of `Backend.submit`."""

    kind: str
    payload: Any
    key: str | None
    due_at: datetime | None
    delay: float | None
    deadline_at: datetime | None
    deadline_after: float | None
    labels: dict[str, str] | None


class CommandBackend(Protocol):
    """See `Backend`, which is too long for one module."""

    async def submit_many(self, jobs: Sequence[NewSubmit], *, wait: float, by: str | None) -> list[Receipt]:
        """See `Queue.submit_many`.

        Args:
            jobs: The jobs.
            wait: For how many seconds at most to wait until there is a slot for each.
            by: The submitter.

        Raises:
            QueueFull: There was not; no job was accepted.
        """
        ...

    async def cancel_many(
        self, conditions: JobConditions, *, dry_run: bool, by: str | None, note: str | None
    ) -> tuple[str, ...]:
        """See `Queue.cancel_many`."""
        ...

    async def retry_many(
        self, conditions: JobConditions, *, even_if_acted: bool, dry_run: bool, by: str | None, note: str | None
    ) -> RetriedJobs:
        """See `Queue.retry_many`."""
        ...

    async def correct(
        self, job_id: str, payload: Any, *, if_seq: int | None, by: str | None, note: str | None
    ) -> Receipt:
        """See `Queue.correct`."""
        ...

    async def verify(self, job_id: str, *, by: str | None, note: str | None) -> VerifyWord:
        """See `Queue.verify`."""
        ...

    async def reschedule(
        self,
        job_id: str,
        *,
        due_at: datetime | None,
        delay: float | None,
        if_seq: int | None,
        by: str | None,
        note: str | None,
    ) -> None:
        """See `Queue.reschedule`."""
        ...

    async def run_now(self, job_id: str, *, if_seq: int | None, by: str | None, note: str | None) -> None:
        """See `Queue.run_now`."""
        ...

    async def claim(self, job_id: str, *, seconds: float, take_over: bool, by: str | None, note: str | None) -> None:
        """See `Queue.claim`."""
        ...

    async def release_claim(self, job_id: str, *, take_over: bool, by: str | None, note: str | None) -> None:
        """See `Queue.release_claim`."""
        ...
