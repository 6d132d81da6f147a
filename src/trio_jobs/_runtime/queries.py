"""Queries about the jobs and the queue. They change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Literal

import attrs
import msgspec
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.job_conditions import MAX_MANY
from trio_jobs._engine.job_filter import (
    EVERY_JOB,
    Group,
    JobFilter,
    ListConditions,
    Order,
    parse_group,
    parse_order,
)
from trio_jobs._engine.job_list import CURSOR, JobCounts, JobList, decode_cursor, encode_cursor
from trio_jobs._engine.jobs import FINAL, Job, JobRecord, State, to_datetime, view
from trio_jobs._engine.queue_events import SessionClosed
from trio_jobs._engine.status import Health, Pause, SdkClose, Statistics
from trio_jobs._errors import (
    JobCancelled,
    JobFailed,
    JobInDoubt,
    QueueClosed,
    ResultUnavailable,
    UsageError,
)
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.expected_wait import ExpectedWaits
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import Estimates, JobWaiters, QueueStatus
from trio_jobs._runtime.verification import waits_for_person
from trio_jobs._validation import MAX_KEY, check_number, check_text

__all__ = ["MAX_PAGE", "Queries"]

MAX_PAGE: Final = MAX_MANY  #: jobs that one call lists
MAX_STEPS: Final = 2  #: steps of about half a millisecond in which a page looks for jobs that match


class Queries:
    """The methods are documented in `Queue`."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        handlers: Mapping[str, Handler],
        executor: SdkExecutor,
        channel: JobChannel,
        slot: AttemptSlot,
        blocking_job: BlockingJob,
        scheduler: Scheduler,
        sessions: SdkSessionManager,
        overruns: OverrunMonitor,
        caller: CallerCheck,
        waiters: JobWaiters,
        expected: ExpectedWaits,
        estimates: Estimates,
        status: QueueStatus,
    ) -> None:
        self._event_log = event_log
        self._projection = event_log.projection
        self._handlers = handlers
        self._executor = executor
        self._channel = channel
        self._slot = slot
        self._blocking_job = blocking_job
        self._scheduler = scheduler
        self._sessions = sessions
        self._overruns = overruns
        self._caller = caller
        self._waiters = waiters
        self._expected = expected
        self._estimates = estimates
        self._status = status

    def get(self, job_id: str, *, brief: bool = False) -> Job:
        return view(self._event_log.committed_job(job_id), brief=brief)

    def live(self, job: Job) -> Job:
        """Return a job with its position in the channel and its expected wait, if it is pending."""
        record = self._projection.jobs.get(job.id)
        if record is None or job.state is not State.PENDING:
            return job
        position = self._channel.position(record)
        return attrs.evolve(job, position=position, expected_wait=self._expected.of(record, position))

    def find(self, kind: str | None, key: str) -> Job:
        key = check_text("a key", key, MAX_KEY)
        kinds = [kind] if kind is not None else sorted({*self._handlers, *self._projection.by_submit.kinds()})
        return view(self._event_log.by_key(kinds, key))

    def id_of(self, job_id: str) -> str:
        """Return the whole id of a job; for an unknown one the given id."""
        try:
            return self._event_log.committed_job(job_id).id
        except JobNotFound:
            return job_id

    def list_jobs(self, after: str | None, limit: int, order: str, conditions: ListConditions) -> JobList:
        wanted, checked_order = JobFilter.of(conditions), parse_order(order)
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        jobs: list[Job] = []
        place, more = self.page(wanted, checked_order, after, limit, _always(jobs.append), brief=False)
        return JobList(jobs, encode_cursor(place or 0, wanted, checked_order, self._epoch) if more else None)

    def page(
        self,
        wanted: JobFilter,
        order: Order,
        after: str | int | None,
        limit: int,
        take: Callable[[Job], bool],
        *,
        brief: bool,
    ) -> tuple[int | None, bool]:
        """See `Backend.page`. brief: without payloads, steps, attempts and results."""
        place = self._place_of(after, wanted, order) if isinstance(after, str) else after
        count = steps = 0
        for number, record in self._event_log.scan(wanted, place, order):
            if record is None:
                place = number
                steps += 1
                if steps == MAX_STEPS:
                    return place, True
            elif count == limit or not take(view(record, brief=brief)):
                return place, True
            else:
                place = number
                count += 1
        return place, False

    @property
    def _epoch(self) -> str:
        return self._event_log.store.epoch

    def _place_of(self, after: str, wanted: JobFilter, order: Order) -> int:
        """Return the number of the submit behind which a page begins."""
        if after.startswith(CURSOR):
            return decode_cursor(after, wanted, order, self._epoch)
        return self._event_log.committed_job(after).submitted_seq

    async def count(self, group: str | None, conditions: ListConditions) -> JobCounts:
        wanted = JobFilter.of(conditions)
        values: Counter[str] = Counter()
        total = 0
        for found in self.count_steps(wanted, None if group is None else parse_group(group), values):
            total += found
            await trio.lowlevel.checkpoint()
        return JobCounts.of(total, None if group is None else values)

    def count_steps(self, wanted: JobFilter, group: tuple[Group, str] | None, into: Counter[str]) -> Iterator[int]:
        """See `Backend.count_steps`."""
        name, label = group or (None, "")
        return self._event_log.count_jobs(wanted, name, label, into)

    def job_ids(self) -> list[str]:
        return [record.id for _, record in self._event_log.scan(EVERY_JOB) if record is not None]

    def snapshot(
        self,
        after: int,
        until: int,
        kinds: Collection[str] | None,
        states: Collection[State] | None,
        limit: int,
        take: Callable[[Job], bool],
    ) -> int:
        """See `Backend.snapshot`."""
        wanted = JobFilter(
            kinds=None if kinds is None else frozenset(kinds), states=None if states is None else frozenset(states)
        )
        for number, record in self._event_log.scan(wanted, after):
            if number > until:
                break
            if record is None:
                return number
            if limit == 0 or not take(view(record, brief=True)):
                return after
            limit -= 1
            after = number
        return until

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"]) -> Any:
        await trio.lowlevel.checkpoint()
        job_id = self._event_log.committed_job(job_id).id
        while True:
            record = self._event_log.committed_job(job_id)
            if record.state in FINAL:
                return self._result(record)
            if in_doubt == "raise" and waits_for_person(record, self._handlers.get(record.kind)):
                raise JobInDoubt(job_id, record.reason)
            if self._status.report is not None:
                raise QueueClosed(f"the queue has stopped; job {job_id} is {record.state}")
            self._caller.refuse_wait(
                f"result() of job {job_id}, which is {record.state},", "return first, and wait in a task of your own"
            )
            await self._waiters.wait(job_id)

    def _result(self, record: JobRecord) -> Any:
        if record.state is State.FAILED:
            error = str(record.error) if record.error is not None else ""
            raise JobFailed(record.id, record.reason, error, record.may_have_acted)
        if record.state is State.CANCELLED:
            raise JobCancelled(record.id, record.reason)
        if record.result is None:
            raise ResultUnavailable(record.id, record.result_problem or "it was resolved without one")
        handler = self._handlers.get(record.kind)
        decode = msgspec.json.decode if handler is None else handler.decode_result
        try:
            return decode(record.result)
        except Exception:  # the handler returned another type than its annotation, or the type's own checks raise
            return msgspec.json.decode(record.result)

    def statistics(self) -> Statistics:
        channel = self._channel.statistics()
        return Statistics(
            jobs={state: self._event_log.count(state) for state in State},
            capacity=channel.capacity,
            free=channel.free,
            waiting_callers=channel.waiting,
            waiting_jobs=self._scheduler.waiting,
            session=self._executor.session,
            sdk_busy=self._executor.inside,
            seq=self._event_log.committed_seq,
            mean_run=self._estimates.mean_run,
        )

    def health(self) -> Health:
        problems = []
        current = self._slot.current
        if current is not None and self._overruns.stuck is current:
            problems.append("stuck")
        elif current is not None and self._overruns.overdue is current:
            problems.append("overdue")
        elif self._status.pump is not None:
            problems.append(self._status.pump)
        paused, close = self._projection.paused, self._projection.last_close
        if paused is not None:
            problems.append("paused")
        if self._sessions.opening:
            problems.append("opening_sdk")
        if self._sessions.waits.failing:
            problems.append("sessions_failing")
        if self._sessions.work.problem is not None:
            problems.append("close_failed")
        store = self._event_log.store.trouble
        if store is not None:
            problems.append("store")
        if self._status.closing:
            problems.append("stopping" if self._status.stopping else "draining")
        blocking = self._blocking_job.record
        if blocking is not None and blocking.state in (State.PENDING, State.PROCESSING, State.SAVING):
            blocking = None  # it is processed now or next, and does not wait for anything
        doubt, waiting = self._event_log.oldest(State.IN_DOUBT), self._event_log.oldest(State.PENDING)
        return Health(
            ok=not problems,
            problems=tuple(problems),
            in_doubt=self._event_log.count(State.IN_DOUBT),
            paused=None
            if paused is None
            else Pause(paused.reason, paused.occurred_at, paused.by, to_datetime(paused.until)),
            last_close=None if close is None else _close(close),
            failed_sessions=self._sessions.waits.failed_sessions,
            in_doubt_since=None if doubt is None else to_datetime(doubt.changed_at),
            oldest_waiting=None if waiting is None else waiting.id,
            waiting_since=None if waiting is None else to_datetime(waiting.changed_at),
            held_by=None if blocking is None else blocking.id,
            held_since=None if blocking is None else to_datetime(blocking.changed_at),
            without_handler=len(self._status.unhandled),
            store=store,
        )


def _close(event: SessionClosed) -> SdkClose:
    return SdkClose(event.session, event.occurred_at, event.problem is not None, event.problem)


def _always(do: Callable[[Job], None]) -> Callable[[Job], bool]:
    def take(job: Job) -> bool:
        do(job)
        return True

    return take
