"""The part of `QueueBackend` with which operators correct, verify, move and claim jobs, and change many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import trio

from trio_jobs._backend_commands import NewSubmit
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.jobs import Receipt
from trio_jobs._engine.new_job import NewJob
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._runtime.runtime import Runtime

__all__ = ["QueueBackendCommands"]

SOON: Final = 0.05  #: seconds that a submit of many jobs may wait at least: it passes checkpoints also if it does not


class QueueBackendCommands:
    """Conforms to `CommandBackend`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queries = runtime.queries
        self._operations = runtime.operations
        self._commands = runtime.commands

    async def submit_many(self, jobs: Sequence[NewSubmit], *, wait: float, by: str | None) -> list[Receipt]:
        admission = self._runtime.admission
        new = [
            NewJob(
                one.kind, one.payload, one.key, one.due_at, one.delay, one.deadline_at, one.deadline_after, one.labels
            )
            for one in jobs
        ]
        with trio.move_on_after(max(wait, SOON)):
            return await admission.submit_many(new, by=by)
        raise admission.queue_full()

    async def cancel_many(
        self, conditions: JobConditions, *, dry_run: bool, by: str | None, note: str | None
    ) -> tuple[str, ...]:
        return await self._operations.cancel_many(conditions, by=by, note=note, dry_run=dry_run)

    async def retry_many(
        self, conditions: JobConditions, *, even_if_acted: bool, dry_run: bool, by: str | None, note: str | None
    ) -> RetriedJobs:
        many = self._operations.retry_many
        return await many(conditions, even_if_acted=even_if_acted, by=by, note=note, dry_run=dry_run)

    async def correct(
        self, job_id: str, payload: Any, *, if_seq: int | None, by: str | None, note: str | None
    ) -> Receipt:
        return await self._commands.correct(job_id, payload, if_seq=if_seq, by=by, note=note)

    async def verify(self, job_id: str, *, by: str | None, note: str | None) -> VerifyWord:
        return await self._commands.verify(job_id, by=by, note=note)

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
        await self._commands.reschedule(job_id, due_at=due_at, delay=delay, if_seq=if_seq, by=by, note=note)

    async def run_now(self, job_id: str, *, if_seq: int | None, by: str | None, note: str | None) -> None:
        await self._commands.run_now(job_id, if_seq=if_seq, by=by, note=note)

    async def claim(self, job_id: str, *, seconds: float, take_over: bool, by: str | None, note: str | None) -> None:
        await self._commands.claim(job_id, seconds=seconds, take_over=take_over, by=by, note=note)

    async def release_claim(self, job_id: str, *, take_over: bool, by: str | None, note: str | None) -> None:
        await self._commands.release_claim(job_id, take_over=take_over, by=by, note=note)
