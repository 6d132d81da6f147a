"""The queue of this process, as the port that a server uses."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import trio

from trio_jobs._backup import Backup
from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.job_filter import Group, JobFilter, Order
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.new_job import NewJob
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.payload_codec import json_schema
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._errors import JobCancelled, JobFailed, JobInDoubt, ResultUnavailable
from trio_jobs._kept_secrets import KeepsSecrets
from trio_jobs._runtime.backend_commands import QueueBackendCommands
from trio_jobs._runtime.runtime import Runtime

__all__ = ["QueueBackend"]


class QueueBackend(QueueBackendCommands):
    """Conforms to `Backend`."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._secrets: dict[str, str] = {}  # of a store that cannot keep them
        self._schemas: Mapping[str, dict[str, Any]] | None = None

    @property
    def epoch(self) -> str:
        return self._runtime.event_log.store.epoch

    @property
    def events(self) -> EventSource:
        return self._runtime.feed

    @property
    def progress_listeners(self) -> set[Callable[[Progress], None]]:
        return self._runtime.recorder.listeners

    def now(self) -> float:
        return self._runtime.clock.now()

    # query

    def get(self, job_id: str, *, brief: bool = False) -> Job:
        return self._queries.get(job_id, brief=brief)

    def live(self, job: Job) -> Job:
        return self._queries.live(job)

    def find(self, kind: str | None, key: str) -> Job:
        return self._queries.find(kind, key)

    def page(
        self, wanted: JobFilter, order: Order, after: str | int | None, limit: int, take: Callable[[Job], bool]
    ) -> tuple[int | None, bool]:
        return self._queries.page(wanted, order, after, limit, take, brief=True)

    def count_steps(self, wanted: JobFilter, group: tuple[Group, str] | None, into: Counter[str]) -> Iterator[int]:
        return self._queries.count_steps(wanted, group, into)

    def snapshot(
        self,
        after: int,
        until: int,
        kinds: Collection[str] | None,
        states: Collection[State] | None,
        limit: int,
        take: Callable[[Job], bool],
    ) -> int:
        return self._queries.snapshot(after, until, kinds, states, limit, take)

    def kinds(self) -> Mapping[str, dict[str, Any]]:
        if self._schemas is None:
            handlers = self._runtime.handlers
            self._schemas = {kind: json_schema(handler.payload_type) for kind, handler in handlers.items()}
        return self._schemas

    def has_verify(self, kind: str) -> bool:
        handler = self._runtime.handlers.get(kind)
        return handler is not None and handler.verify is not None

    async def wait_final(self, job_id: str, timeout: float, *, in_doubt: Literal["wait", "raise"]) -> Job:
        job_id = self._runtime.event_log.committed_job(job_id).id
        with trio.move_on_after(timeout):
            # the job itself contains how it has ended
            with contextlib.suppress(JobFailed, JobCancelled, ResultUnavailable, JobInDoubt):
                await self._queries.result(job_id, in_doubt=in_doubt)
        return self._queries.get(job_id)

    async def forget(self, job_id: str, *, by: str | None, note: str | None) -> None:
        await self._runtime.erasure.forget(job_id, by=by, note=note)

    async def history(self, job_id: str) -> JobHistory:
        return await self._runtime.histories.of_job(job_id)

    def activity(self, *, before: int | None, limit: int, by: str | None) -> tuple[OperatorAction, ...]:
        return self._runtime.histories.activity(before, limit, by)

    def statistics(self) -> Statistics:
        return self._queries.statistics()

    def health(self) -> Health:
        return self._queries.health()

    @property
    def paused(self) -> str | None:
        return self._operations.paused

    @property
    def hook_errors(self) -> int:
        return self._runtime.hooks.errors

    @property
    def interrupt_errors(self) -> int:
        return self._runtime.interrupter.errors

    def oldest_pending_age(self) -> float | None:
        first = self._runtime.event_log.oldest(State.PENDING)
        if first is None:
            return None
        clock = self._runtime.clock
        if first.changed_elapsed is not None:
            return clock.elapsed() - first.changed_elapsed
        return max(clock.now() - first.changed_at, 0.0)

    # act

    async def submit(
        self,
        kind: str,
        payload: Any,
        *,
        key: str | None,
        due_at: datetime | None,
        delay: float | None,
        deadline_at: datetime | None,
        deadline_after: float | None,
        wait: float | None,
        labels: Mapping[str, str] | None,
        correct: bool = False,
        by: str | None,
    ) -> Receipt:
        job = NewJob(kind, payload, key, due_at, delay, deadline_at, deadline_after, labels)
        return await self._runtime.admission.submit_job(job, wait=wait, by=by, correct=correct)

    async def cancel(self, job_id: str, *, by: str | None, note: str | None, if_seq: int | None = None) -> CancelAnswer:
        return await self._operations.cancel(job_id, by=by, note=note, if_seq=if_seq)

    async def retry(
        self, job_id: str, *, even_if_acted: bool, by: str | None, note: str | None, if_seq: int | None = None
    ) -> None:
        await self._operations.retry(job_id, even_if_acted=even_if_acted, by=by, note=note, if_seq=if_seq)

    async def resolve(
        self,
        job_id: str,
        resolution: Resolution,
        *,
        result: Any,
        by: str | None,
        note: str | None,
        if_seq: int | None = None,
    ) -> None:
        await self._operations.resolve(job_id, resolution, result=result, by=by, note=note, if_seq=if_seq)

    async def pause(self, reason: str, *, until: datetime | None = None, by: str | None) -> None:
        await self._operations.pause(reason, until=until, by=by)

    async def resume(self, *, by: str | None, note: str | None) -> None:
        await self._operations.resume(by=by, note=note)

    async def drain(self, *, by: str | None, note: str | None) -> None:
        await self._operations.start_drain(by=by, note=note)

    async def undrain(self, *, by: str | None, note: str | None) -> None:
        await self._operations.undrain(by=by, note=note)

    async def read_secrets(self) -> Mapping[str, str]:
        store = self._runtime.event_log.store
        return await store.secrets() if isinstance(store, KeepsSecrets) else dict(self._secrets)

    async def keep_secret(self, name: str, value: str) -> None:
        store = self._runtime.event_log.store
        if isinstance(store, KeepsSecrets):
            await store.keep_secret(name, value)
        else:
            self._secrets[name] = value

    async def backup(self, name: str) -> Backup:
        return await self._operations.backup_beside(name)
