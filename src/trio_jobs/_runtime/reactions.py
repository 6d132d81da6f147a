"""Reactions to committed events. The listener of the event log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import JobRecord, escape
from trio_jobs._errors import StoreError
from trio_jobs._log import Log
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.attempt import AttemptSlot, log_fields
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.hook_names import JobHook
from trio_jobs._runtime.hooks import Hooks
from trio_jobs._runtime.pruner import Pruner
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import JobWaiters, QueueStatus
from trio_jobs._runtime.start_commit import StartCommit
from trio_jobs._runtime.verification import waits_for_person, work_is_left

__all__ = ["Reactions"]

log: Final = Log("trio_jobs.queue")

_HOOKS: Final[dict[type[ev.Event], JobHook]] = {
    ev.Completed: "completed",
    ev.Failed: "failed",
    ev.Cancelled: "cancelled",
}


class Reactions:
    """Conforms to `LogListener`.

    Args:
        fail: Called with the error when the store has failed permanently.
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        handlers: Mapping[str, Handler],
        strict_order: bool,
        admission: Admission,
        start_commit: StartCommit,
        slot: AttemptSlot,
        blocking_job: BlockingJob,
        scheduler: Scheduler,
        sessions: SdkSessionManager,
        pruner: Pruner,
        hooks: Hooks,
        feed: Feed,
        waiters: JobWaiters,
        status: QueueStatus,
        fail: Callable[[StoreError], None],
    ) -> None:
        self._projection = event_log.projection
        self._handlers = handlers
        self._strict_order = strict_order
        self._admission = admission
        self._start_commit = start_commit
        self._slot = slot
        self._blocking_job = blocking_job
        self._scheduler = scheduler
        self._sessions = sessions
        self._pruner = pruner
        self._hooks = hooks
        self._feed = feed
        self._waiters = waiters
        self._status = status
        self._fail = fail
        self._by_type: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.Returned: self._on_returned,
            ev.Completed: self._on_final,
            ev.Failed: self._on_final,
            ev.Cancelled: self._on_final,
            ev.RetryScheduled: self._on_scheduled,
            ev.Snoozed: self._on_scheduled,
            ev.Rescheduled: self._on_scheduled,
            ev.Interrupted: self._on_pending,
            ev.DoubtResolved: self._on_pending,
            ev.InDoubt: self._on_doubt,
            ev.Overdue: self._on_overdue,
            ev.Stuck: self._on_stuck,
            ev.SessionClosed: self._on_session_closed,
        }
        if event_log.durable:
            self._by_type[ev.Submitted] = self._by_type[ev.Scheduled] = admission.on_committed
            self._by_type[ev.Started] = start_commit.on_committed

    def on_committed(self, events: Sequence[ev.Event]) -> None:
        by_type = self._by_type
        for event in events:
            react = by_type.get(type(event))
            if react is not None:
                react(event)
        self._feed.publish(events)

    def on_rejected(self, submit: ev.Submitted) -> None:
        self._admission.on_rejected(submit)
        self._start_commit.on_rejected(submit)
        self._wake_if_idle()  # it may be the last job that a drain waits for

    def on_broken(self, error: StoreError) -> None:
        self._admission.pending.end()
        self._start_commit.on_broken(error)
        self._fail(error)

    def _on_final(self, event: ev.Ended) -> None:
        record = self._projection.jobs[event.job]
        waiters = self._waiters
        if waiters.by_job:
            waiters.wake(event.job)
        if self._status.unhandled:
            self._status.unhandled.discard(event.job)
        if self._blocking_job.record is not None:
            self._blocking_job.notify(record)
        if self._hooks.are_used:
            self._hooks.call_soon(_HOOKS[type(event)], record)
        if len(self._projection.jobs) > self._pruner.fewest:
            self._pruner.job_ended(record.state)
        if waiters.idle is not None:
            self._wake_if_idle()

    def _on_returned(self, event: ev.Returned) -> None:
        if self._waiters.idle is not None:
            self._wake_if_idle()

    def _on_scheduled(self, event: ev.Ended | ev.Rescheduled) -> None:
        record = self._projection.jobs[event.job]
        if record.moved_seq == event.seq and not self._is_blocking(
            record
        ):  # else the job changed again before the commit
            self._scheduler.schedule(record)
        self._wake_if_idle()

    def _on_pending(self, event: ev.Ended) -> None:
        record = self._projection.jobs[event.job]
        if record.moved_seq != event.seq or event.job in self._status.unhandled:
            return  # the job has changed again, or no handler can process it
        if record.deadline_at is not None:
            self._scheduler.watch_deadline(record)  # if it has passed during the attempt, the job does not wait
        if self._is_blocking(record):
            self._blocking_job.notify(record)
        else:
            self._scheduler.requeue(record)

    def _is_blocking(self, record: JobRecord) -> bool:
        """Whether the job is the one that the consumer, in strict order, processes until it is final."""
        if not self._strict_order:
            return False
        return self._blocking_job.record is record or self._slot.attempt_of(record) is not None

    def _on_doubt(self, event: ev.InDoubt) -> None:
        record = self._projection.jobs[event.job]
        waiter = self._waiters.by_job.pop(event.job, None)
        if waits_for_person(record, self._handlers.get(record.kind)):
            log.error(
                "job %s (%s, key %s) is in doubt: %s; it is not known what attempt %d did, resolve the job",
                record.id, record.kind, escape(record.key or "none"), record.reason, record.attempt_count,
                extra=log_fields(record),
            )  # fmt: skip
            self._hooks.call_soon("in_doubt", record)
        if waiter is not None:  # `result(in_doubt="raise")` raises now; other callers wait again
            waiter.set()
        self._wake_if_idle()

    def _on_overdue(self, event: ev.Overdue) -> None:
        self._hooks.call_soon("overdue", self._projection.jobs[event.job])

    def _on_stuck(self, event: ev.Stuck) -> None:
        record = self._projection.jobs.get(event.culprit)
        current = self._slot.current
        if record is None and current is not None and current.group:  # a save, reported by the first of its jobs
            record = current.record
        if record is not None:
            self._hooks.call_soon("stuck", record)

    def _on_session_closed(self, event: ev.SessionClosed) -> None:
        failure = self._sessions.work.failure_of(event.session)
        if failure is not None:
            self._hooks.close_failed(failure)

    def _wake_if_idle(self) -> None:
        if self._waiters.idle is not None and not work_is_left(self._projection, self._handlers):
            self._waiters.wake_idle()
