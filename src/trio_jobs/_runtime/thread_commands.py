"""The methods of `FromThread` with which an operator corrects, verifies, moves or claims one job."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from trio_jobs._engine.jobs import Receipt
from trio_jobs._runtime.job_commands import CLAIM_SECONDS
from trio_jobs._runtime.thread_caller import ThreadCaller

__all__ = ["ThreadCommands"]


class ThreadCommands(ThreadCaller):
    """The base class of `FromThread`."""

    def correct(
        self,
        job_id: str,
        payload: Any,
        *,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> Receipt:
        """See `Queue.correct`."""
        return self._wait(self._runtime.commands.correct, job_id, payload, if_seq=if_seq, by=by, note=note)

    def verify(
        self, job_id: str, *, by: str | None = None, note: str | None = None
    ) -> Literal["done", "not_done", "unknown"]:
        """See `Queue.verify`."""
        return self._wait(self._runtime.commands.verify, job_id, by=by, note=note)

    def reschedule(
        self,
        job_id: str,
        *,
        due_at: datetime | None = None,
        delay: float | None = None,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """See `Queue.reschedule`."""
        reschedule = self._runtime.commands.reschedule
        self._wait(reschedule, job_id, due_at=due_at, delay=delay, if_seq=if_seq, by=by, note=note)

    def run_now(
        self, job_id: str, *, by: str | None = None, note: str | None = None, if_seq: int | None = None
    ) -> None:
        """See `Queue.run_now`."""
        self._wait(self._runtime.commands.run_now, job_id, if_seq=if_seq, by=by, note=note)

    def claim(
        self,
        job_id: str,
        *,
        by: str,
        seconds: float = CLAIM_SECONDS,
        take_over: bool = False,
        note: str | None = None,
    ) -> None:
        """See `Queue.claim`."""
        claim = self._runtime.commands.claim
        self._wait(claim, job_id, seconds=seconds, take_over=take_over, by=by, note=note)

    def release_claim(
        self, job_id: str, *, by: str | None = None, take_over: bool = False, note: str | None = None
    ) -> None:
        """See `Queue.release_claim`."""
        self._wait(self._runtime.commands.release_claim, job_id, take_over=take_over, by=by, note=note)
