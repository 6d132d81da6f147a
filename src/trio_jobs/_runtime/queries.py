"""Queries about the jobs and the queue. They change nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

import msgspec
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import FINAL, Job, JobRecord, State, to_datetime, view
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._errors import JobCancelled, JobFailed, JobInDoubt, QueueClosed, ResultUnavailable, UsageError
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import Estimates, JobWaiters, QueueStatus
from trio_jobs._runtime.verification import waits_for_person
from trio_jobs._validation import check_number

__all__ = ["MAX_PAGE", "Queries", "parse_state"]

MAX_PAGE: Final = 1000  #: jobs that one call lists, cancels or retries
MAX_PAGE_ENDS: Final = 1000  #: pages whose end is remembered
MAX_LOOK: Final = 2000  #: jobs that one step of a snapshot looks at if few of them match: about 0.5 ms


def parse_state(name: State | str) -> State:
    """Return the state with this name.

    Raises:
        UsageError: There is none.
    """
    try:
        return State(name)
    except ValueError:
        raise UsageError(f"there is no state {name!r}; there are {', '.join(State)}") from None


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
        self._estimates = estimates
        self._status = status
        self._page_ends: dict[tuple[str, State | None], int] = {}
        """The event number at which each of the newest pages ended, by its last job and its `state`."""

    def get(self, job_id: str, *, brief: bool = False) -> Job:
        return view(self._event_log.committed_job(job_id), brief=brief)

    def kind_of(self, job_id: str) -> str | None:
        """Return the kind of a job; None if the job is pruned or never existed."""
        record = self._projection.jobs.get(job_id)
        return None if record is None else record.kind

    def list_jobs(self, state: State | str | None, kind: str | None, after: str | None, limit: int) -> list[Job]:
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        jobs: list[Job] = []
        self.page(None if state is None else parse_state(state), kind, after, limit, _always(jobs.append), brief=False)
        return jobs

    def page(
        self,
        state: State | None,
        kind: str | None,
        after: str | int | None,
        limit: int,
        take: Callable[[Job], bool],
        *,
        brief: bool,
    ) -> tuple[int, bool]:
        """See `Backend.page`. brief: without payloads, steps, attempts and results."""
        kinds = None if kind is None else (kind,)
        end = self._place_of(after, state) if isinstance(after, str) else after or 0
        log = self._event_log
        records = log.by_submit(end, kinds) if state is None else log.in_state(state, end, kinds)
        last: JobRecord | None = None
        more = False
        for count, record in enumerate(records):
            if count == limit or not take(view(record, brief=brief)):
                more = True
                break
            last = record
        if last is not None:
            end = last.submitted_seq if state is None else last.state_seq
            self._page_ends.pop((last.id, state), None)
            self._page_ends[last.id, state] = end
            if len(self._page_ends) > MAX_PAGE_ENDS:
                del self._page_ends[next(iter(self._page_ends))]
        return end, more

    def _place_of(self, job_id: str, state: State | None) -> int:
        """Return the event number after which a page begins: that of the event by which the job entered the state.

        For a job that has left the state, this number is known only if the job was the last one of a remembered page.
        Otherwise the number of its submit is returned: some jobs may then be listed twice, but none is omitted.
        """
        place = self._page_ends.get((job_id, state))
        if place is None:
            record = self._event_log.committed_job(job_id)
            place = record.state_seq if record.state is state else record.submitted_seq
        return place

    def job_ids(self) -> list[str]:
        return [record.id for record in self._event_log.by_submit()]

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
        taken = 0
        for looked_at, record in enumerate(self._event_log.by_submit(after, kinds)):
            if record.submitted_seq > until:
                break
            if looked_at == MAX_LOOK:
                return after
            if states is None or record.state in states:
                if taken == limit or not take(view(record, brief=True)):
                    return after
                taken += 1
            after = record.submitted_seq
        return until

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"]) -> Any:
        await trio.lowlevel.checkpoint()
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
        if self._sessions.opening:
            problems.append("opening_sdk")
        if self._sessions.failing:
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
        return Health(
            ok=not problems,
            problems=tuple(problems),
            in_doubt=self._event_log.count(State.IN_DOUBT),
            held_by=None if blocking is None else blocking.id,
            held_since=None if blocking is None else to_datetime(blocking.changed_at),
            without_handler=len(self._status.unhandled),
            store=store,
        )


def _always(do: Callable[[Job], None]) -> Callable[[Job], bool]:
    def take(job: Job) -> bool:
        do(job)
        return True

    return take
