"""The queue as a client sees it whose token is bound to kinds or to labels: jobs outside of its bounds do not exist.

Every method decides, so that a method that is added to `Backend` is a type error here until somebody has decided. What
concerns the queue as a whole, such as a pause, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal, NoReturn

import attrs

from trio_jobs._backend import Backend
from trio_jobs._backend_commands import NewSubmit
from trio_jobs._backup import Backup
from trio_jobs._engine.bounds import Bounds
from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.job_filter import Group, JobFilter, Order
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.job_list import CURSOR
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._errors import KeyConflict, PermissionDenied, UnknownKind
from trio_jobs._lookup_errors import AmbiguousJob, JobNotFound
from trio_jobs._validation import check_each, name_job

__all__ = ["BoundBackend", "bound", "restricted"]


def bound(backend: Backend, bounds: Bounds) -> Backend:
    """The queue within these bounds."""
    if not bounds:
        return backend
    return BoundBackend(backend, bounds)


def restricted(wanted: JobFilter, bounds: Bounds) -> JobFilter | None:
    """A filter for the jobs that match another one and are within these bounds; None if there can be none."""
    kinds = bounds.kinds if wanted.kinds is None else wanted.kinds
    if kinds is not None and bounds.kinds is not None:
        kinds &= bounds.kinds
    labels = dict(wanted.labels)
    for name, value in bounds.labels:
        if labels.setdefault(name, value) != value:
            return None
    if kinds is not None and not kinds:
        return None
    return attrs.evolve(wanted, kinds=kinds, labels=tuple(sorted(labels.items())))


class BoundBackend:
    """Conforms to `Backend`.

    Args:
        backend: The queue.
        bounds: The jobs that exist.
    """

    def __init__(self, backend: Backend, bounds: Bounds) -> None:
        self._backend: Final = backend
        self._bounds: Final = bounds

    def _includes(self, job: Job) -> bool:
        return self._bounds.include(job.kind, job.labels, job.id)

    def _refuse(self, what: str) -> NoReturn:
        raise PermissionDenied(f"{what} concerns the queue as a whole, and this token is bound to {self._bounds}")

    # the history as a whole; readers of events have a filter with the bounds

    @property
    def epoch(self) -> str:
        return self._backend.epoch

    @property
    def events(self) -> EventSource:
        return self._backend.events

    @property
    def progress_listeners(self) -> set[Callable[[Progress], None]]:
        return self._backend.progress_listeners

    def now(self) -> float:
        return self._backend.now()

    # query

    def get(self, job_id: str, *, brief: bool = False) -> Job:
        try:
            job = self._backend.get(job_id, brief=brief)
        except AmbiguousJob as error:
            job = self._backend.get(self._only(error, JobNotFound(job_id)), brief=brief)
        if not self._includes(job):
            raise JobNotFound(job_id)
        return job

    def live(self, job: Job) -> Job:
        return self._backend.live(job)

    def find(self, kind: str | None, key: str) -> Job:
        missing = JobNotFound("", key)
        try:
            job = self._backend.find(kind, key)
        except AmbiguousJob as error:
            job = self._backend.get(self._only(error, missing))
        if not self._includes(job):
            raise missing
        return job

    def _only(self, ambiguous: AmbiguousJob, missing: JobNotFound) -> str:
        """The one of several jobs that exists. Raises `missing` or `AmbiguousJob`."""
        jobs = [job for job in ambiguous.job_ids if self._includes(self._backend.get(job, brief=True))]
        if not jobs:
            raise missing
        if len(jobs) > 1:
            raise AmbiguousJob(ambiguous.given, tuple(jobs))
        return jobs[0]

    def page(
        self, wanted: JobFilter, order: Order, after: str | int | None, limit: int, take: Callable[[Job], bool]
    ) -> tuple[int | None, bool]:
        found = restricted(wanted, self._bounds)
        if isinstance(after, str) and not after.startswith(CURSOR):
            after = self.get(after, brief=True).id
        return (None, False) if found is None else self._backend.page(found, order, after, limit, take)

    def count_steps(self, wanted: JobFilter, group: tuple[Group, str] | None, into: Counter[str]) -> Iterator[int]:
        found = restricted(wanted, self._bounds)
        return iter(()) if found is None else self._backend.count_steps(found, group, into)

    def snapshot(
        self,
        after: int,
        until: int,
        kinds: Collection[str] | None,
        states: Collection[State] | None,
        limit: int,
        take: Callable[[Job], bool],
    ) -> int:
        own = self._bounds.kinds
        if own is not None:
            kinds = own if kinds is None else own.intersection(kinds)
            if not kinds:
                return until
        return self._backend.snapshot(
            after, until, kinds, states, limit, lambda job: take(job) if self._includes(job) else True
        )

    def kinds(self) -> Mapping[str, dict[str, Any]]:
        own = self._bounds.kinds
        return {kind: schema for kind, schema in self._backend.kinds().items() if own is None or kind in own}

    @contextmanager
    def _own_kinds(self) -> Iterator[None]:
        """Let an error of an unknown kind name no kind outside of the bounds."""
        try:
            yield
        except UnknownKind as error:
            own = UnknownKind(error.kind, tuple(sorted(self.kinds())))
            if error.index is not None:
                name_job(own, error.index)
            raise own from None

    def has_verify(self, kind: str) -> bool:
        return self._backend.has_verify(kind)

    async def wait_final(self, job_id: str, timeout: float, *, in_doubt: Literal["wait", "raise"]) -> Job:
        return await self._backend.wait_final(self._id(job_id), timeout, in_doubt=in_doubt)

    async def history(self, job_id: str) -> JobHistory:
        return await self._backend.history(self._id(job_id))

    def _id(self, job_id: str) -> str:
        return self.get(job_id, brief=True).id

    def activity(self, *, before: int | None, limit: int, by: str | None) -> tuple[OperatorAction, ...]:
        self._refuse("queue.activity")

    def statistics(self) -> Statistics:
        """Without the numbers of jobs, which take steps: count them with `count_steps`."""
        return attrs.evolve(self._backend.statistics(), jobs={}, waiting_callers=0, waiting_jobs=0, mean_run=None)

    def health(self) -> Health:
        health = self._backend.health()
        hidden: dict[str, Any] = {
            name: attrs.fields_dict(Health)[name].default
            for name in ("in_doubt_since", "oldest_waiting", "waiting_since", "held_by", "held_since")
        }
        return attrs.evolve(health, in_doubt=0, without_handler=0, **hidden)

    @property
    def paused(self) -> str | None:
        return self._backend.paused

    @property
    def hook_errors(self) -> int:
        return self._backend.hook_errors

    @property
    def interrupt_errors(self) -> int:
        return self._backend.interrupt_errors

    def oldest_pending_age(self) -> float | None:
        return None

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
        own = self._labels(kind, labels)
        if correct and key is not None:
            self._check_key(kind, key)
        try:
            with self._own_kinds():
                receipt = await self._backend.submit(
                    kind,
                    payload,
                    key=key,
                    due_at=due_at,
                    delay=delay,
                    deadline_at=deadline_at,
                    deadline_after=deadline_after,
                    wait=wait,
                    labels=own,
                    correct=correct,
                    by=by,
                )
        except KeyConflict:
            self._check_key(kind, key or "")
            raise
        if not receipt.created and key is not None:
            self._check_key(kind, key)
        return receipt

    def _labels(self, kind: str, labels: Mapping[str, str] | None) -> dict[str, str] | None:
        """The labels of a new job: those of the submit, and those of the bounds."""
        own = {**dict(self._bounds.labels), **(labels or {})}
        if not self._bounds.include(kind, own):
            raise PermissionDenied(f"this token submits only jobs within its bounds: {self._bounds}")
        return own or None

    async def submit_many(self, jobs: Sequence[NewSubmit], *, wait: float, by: str | None) -> list[Receipt]:
        def check_key(job: NewSubmit) -> None:
            if job.key is not None:
                self._check_key(job.kind, job.key)

        check_each(check_key, jobs)
        own = check_each(lambda job: attrs.evolve(job, labels=self._labels(job.kind, job.labels)), jobs)
        try:
            with self._own_kinds():
                receipts = await self._backend.submit_many(own, wait=wait, by=by)
        except KeyConflict:  # with a job that was submitted during the wait
            check_each(check_key, jobs)
            raise
        if not all(receipt.created for receipt in receipts):
            check_each(check_key, jobs)
        return receipts

    async def cancel_many(
        self, conditions: JobConditions, *, dry_run: bool, by: str | None, note: str | None
    ) -> tuple[str, ...]:
        own = self._conditions(conditions)
        return await self._backend.cancel_many(own, dry_run=dry_run, by=by, note=note)

    async def retry_many(
        self, conditions: JobConditions, *, even_if_acted: bool, dry_run: bool, by: str | None, note: str | None
    ) -> RetriedJobs:
        own = self._conditions(conditions)
        return await self._backend.retry_many(own, even_if_acted=even_if_acted, dry_run=dry_run, by=by, note=note)

    def _conditions(self, conditions: JobConditions) -> JobConditions:
        """The conditions of a bulk operation, together with the bounds."""
        kind, kinds = conditions.get("kind"), self._bounds.kinds
        if kinds is not None and kind is None:
            if len(kinds) > 1:
                raise PermissionDenied(f"this token is bound to {self._bounds}: name one kind")
            (kind,) = kinds
        labels = {**dict(self._bounds.labels), **(conditions.get("labels") or {})}
        if not self._bounds.include(kind or "", labels):
            raise PermissionDenied(f"this token changes only jobs within its bounds: {self._bounds}")
        return {**conditions, "kind": kind, "labels": labels or None}

    async def correct(
        self, job_id: str, payload: Any, *, if_seq: int | None, by: str | None, note: str | None
    ) -> Receipt:
        with self._own_kinds():
            return await self._backend.correct(self._id(job_id), payload, if_seq=if_seq, by=by, note=note)

    async def verify(self, job_id: str, *, by: str | None, note: str | None) -> VerifyWord:
        with self._own_kinds():
            return await self._backend.verify(self._id(job_id), by=by, note=note)

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
        job = self._id(job_id)
        with self._own_kinds():
            await self._backend.reschedule(job, due_at=due_at, delay=delay, if_seq=if_seq, by=by, note=note)

    async def run_now(self, job_id: str, *, if_seq: int | None, by: str | None, note: str | None) -> None:
        with self._own_kinds():
            await self._backend.run_now(self._id(job_id), if_seq=if_seq, by=by, note=note)

    async def claim(self, job_id: str, *, seconds: float, take_over: bool, by: str | None, note: str | None) -> None:
        await self._backend.claim(self._id(job_id), seconds=seconds, take_over=take_over, by=by, note=note)

    async def release_claim(self, job_id: str, *, take_over: bool, by: str | None, note: str | None) -> None:
        await self._backend.release_claim(self._id(job_id), take_over=take_over, by=by, note=note)

    def _check_key(self, kind: str, key: str) -> None:
        """Refuse a key of a job outside of the bounds, without naming that job."""
        try:
            job = self._backend.find(kind, key)
        except JobNotFound:
            return
        if not self._includes(job):
            raise PermissionDenied("the key is in use by a job outside of the bounds of this token: use another key")

    async def forget(self, job_id: str, *, by: str | None, note: str | None) -> None:
        await self._backend.forget(self._id(job_id), by=by, note=note)

    async def cancel(self, job_id: str, *, by: str | None, note: str | None, if_seq: int | None = None) -> CancelAnswer:
        return await self._backend.cancel(self._id(job_id), by=by, note=note, if_seq=if_seq)

    async def retry(
        self, job_id: str, *, even_if_acted: bool, by: str | None, note: str | None, if_seq: int | None = None
    ) -> None:
        job = self._id(job_id)
        with self._own_kinds():
            await self._backend.retry(job, even_if_acted=even_if_acted, by=by, note=note, if_seq=if_seq)

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
        job = self._id(job_id)
        await self._backend.resolve(job, resolution, result=result, by=by, note=note, if_seq=if_seq)

    async def pause(self, reason: str, *, until: datetime | None = None, by: str | None) -> None:
        self._refuse("queue.pause")

    async def resume(self, *, by: str | None, note: str | None) -> None:
        self._refuse("queue.resume")

    async def drain(self, *, by: str | None, note: str | None) -> None:
        self._refuse("queue.drain")

    async def undrain(self, *, by: str | None, note: str | None) -> None:
        self._refuse("queue.undrain")

    async def read_secrets(self) -> Mapping[str, str]:
        self._refuse("read_secrets")

    async def keep_secret(self, name: str, value: str) -> None:
        self._refuse("keep_secret")

    async def backup(self, name: str) -> Backup:
        self._refuse("queue.backup")
