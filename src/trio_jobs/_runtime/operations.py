"""Operations: changes of jobs and of the queue that an operator can request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, Final

import msgspec
import trio

from trio_jobs._backup import Backup
from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.job_conditions import CheckedConditions, JobConditions, RetriedJobs
from trio_jobs._engine.jobs import CancelAnswer, EndedBy, JobRecord, State, escape, to_datetime
from trio_jobs._engine.safety import may_repeat
from trio_jobs._errors import InvalidState, QueueClosed, UnknownKind, UsageError
from trio_jobs._ports import BacksUp, Clock
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.saver import Saver
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import JobWaiters, QueueStatus
from trio_jobs._runtime.verification import remaining_delay, work_is_left
from trio_jobs._runtime.verify_requests import VerifyRequests
from trio_jobs._validation import check_by, check_date, check_note, plain_text

__all__ = ["Operations"]

MAX_REASON: Final = 500
BACKUP_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")

_CANCELLABLE: Final = frozenset({State.SCHEDULED, State.PENDING, State.RETRYING, State.PROCESSING, State.SAVING})
_RETRIABLE: Final = frozenset({State.FAILED, State.CANCELLED})

_submitted_seq: Final = attrgetter("submitted_seq")


class Operations:
    """The methods are documented in `Queue`.

    Each operation is decided and appended in one synchronous step, and its commit is awaited after that.
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        handlers: Mapping[str, Handler],
        clock: Clock,
        admission: Admission,
        channel: JobChannel,
        slot: AttemptSlot,
        scheduler: Scheduler,
        sessions: SdkSessionManager,
        caller: CallerCheck,
        commits: CommitWaiter,
        waiters: JobWaiters,
        saver: Saver | None,
        requests: VerifyRequests,
        status: QueueStatus,
    ) -> None:
        self._event_log = event_log
        self._projection = event_log.projection
        self._handlers = handlers
        self._clock = clock
        self._admission = admission
        self._channel = channel
        self._slot = slot
        self._scheduler = scheduler
        self._sessions = sessions
        self._caller = caller
        self._commits = commits
        self._waiters = waiters
        self._saver = saver
        self._requests = requests
        self._status = status

    # jobs

    async def cancel(self, job_id: str, *, by: str | None, note: str | None, if_seq: int | None = None) -> CancelAnswer:
        answer = self.cancel_now(job_id, by=by, note=note, if_seq=if_seq)
        await self._commits.everything()
        return answer

    def cancel_now(
        self, job_id: str, *, by: str | None, note: str | None = None, if_seq: int | None = None
    ) -> CancelAnswer:
        """`cancel` without the wait for its commit."""
        by, note = check_by(by), check_note(note)
        return self._cancel(self._event_log.newest(job_id, if_seq), by, note)

    @trio.lowlevel.enable_ki_protection
    def _cancel(self, record: JobRecord, by: str | None, note: str | None) -> CancelAnswer:
        answer, events = decide.cancel(record, by, self._clock.now(), self._event_log.next_seq, note)
        if events:
            self._event_log.append(events)
        if answer == "requested":
            current = self._slot.attempt_of(record)
            if current is not None:
                current.cancel(EndedBy.CANCEL)
        elif events:
            self._channel.remove(record)
        return answer

    async def retry(
        self, job_id: str, *, even_if_acted: bool, by: str | None, note: str | None, if_seq: int | None = None
    ) -> State:
        by, note = check_by(by), check_note(note)
        self._admission.refuse_if_closing()
        state = self._retry(self._event_log.newest(job_id, if_seq), by, note, even_if_acted=even_if_acted)
        await self._commits.everything()
        return state

    @trio.lowlevel.enable_ki_protection
    def _retry(self, record: JobRecord, by: str | None, note: str | None, *, even_if_acted: bool) -> State:
        handler = self._handlers.get(record.kind)
        if handler is None:
            raise UnknownKind(record.kind, tuple(sorted(self._handlers)))
        if self._slot.attempt_of(record) is not None:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
        clock = self._clock
        now, elapsed, seq = clock.now(), clock.elapsed(), self._event_log.next_seq
        events = decide.retry(record, handler.rules, by, now, seq, elapsed, even_if_acted=even_if_acted, note=note)
        self._requests.drop(record)
        self._event_log.append(events)
        state = record.state
        delay = remaining_delay(record, handler, clock) if state is State.IN_DOUBT else 0.0
        if delay:
            self._scheduler.schedule_verify(record, delay)
        else:
            self._scheduler.requeue(record)
        if record.deadline_at is not None:
            self._scheduler.watch_deadline(record)
        return state

    async def resolve(
        self,
        job_id: str,
        resolution: decide.Resolution,
        *,
        result: Any,
        by: str | None,
        note: str | None,
        if_seq: int | None = None,
    ) -> None:
        by, note = check_by(by), check_note(note)
        if resolution not in ("done", "not_done", "failed"):
            raise UsageError(f"a job in doubt is resolved as 'done', 'not_done' or 'failed', not {resolution!r}")
        body, problem, _ = encode_result(result)
        if problem is not None:
            raise UsageError(f"the result cannot be kept: {problem}")
        self._resolve(self._event_log.newest(job_id, if_seq), resolution, body, by, note)
        await self._commits.everything()

    @trio.lowlevel.enable_ki_protection
    def _resolve(
        self,
        record: JobRecord,
        resolution: decide.Resolution,
        result: msgspec.Raw | None,
        by: str | None,
        note: str | None,
    ) -> None:
        now, elapsed, seq = self._clock.now(), self._clock.elapsed(), self._event_log.next_seq
        events = decide.resolve(record, resolution, by, now, seq, result, elapsed, note)
        self._channel.remove(record)  # it may wait there for verify, and would keep its slot while the queue is paused
        self._requests.drop(record)
        self._event_log.append(events)

    async def cancel_many(
        self, conditions: JobConditions, *, by: str | None, note: str | None, dry_run: bool = False
    ) -> tuple[str, ...]:
        by, note = check_by(by), check_note(note)
        selected = self._select(_CANCELLABLE, conditions)
        if not dry_run:
            for record in selected:
                self._cancel(record, by, note)
        await self._commits.everything()
        return tuple(record.id for record in selected)

    async def retry_many(
        self,
        conditions: JobConditions,
        *,
        even_if_acted: bool,
        by: str | None,
        note: str | None,
        dry_run: bool = False,
    ) -> RetriedJobs:
        by, note = check_by(by), check_note(note)
        self._admission.refuse_if_closing()
        refused = [] if even_if_acted else self._select(_RETRIABLE, conditions, self._must_not_repeat)
        selected = self._select(
            _RETRIABLE, conditions, lambda record: even_if_acted or not self._must_not_repeat(record)
        )
        verified_first = [record.id for record in selected if self._is_verified_first(record)]
        may_have_acted = [record.id for record in (*selected, *refused) if record.has_acted]
        if not dry_run:
            for record in selected:
                self._retry(record, by, note, even_if_acted=even_if_acted)
        await self._commits.everything()
        return RetriedJobs(
            tuple(record.id for record in selected),
            tuple(record.id for record in refused),
            tuple(may_have_acted),
            tuple(verified_first),
        )

    def _must_not_repeat(self, record: JobRecord) -> bool:
        return not may_repeat(record, self._handlers[record.kind].rules, automatic=False)

    def _is_verified_first(self, record: JobRecord) -> bool:
        """Whether verify is called before the next attempt of a job."""
        rules = self._handlers[record.kind].rules
        return record.may_have_acted and rules.verifies and not rules.idempotent

    def _select(
        self,
        possible: frozenset[State],
        conditions: JobConditions,
        accepts: Callable[[JobRecord], bool] = lambda record: True,
    ) -> list[JobRecord]:
        """Return the jobs in one of these states that match all conditions, the oldest first.

        Raises:
            JobNotFound: The conditions name a job that is not known.
        """
        check = CheckedConditions.of(conditions, self._clock.now(), possible)
        matches = (
            record
            for record in self._candidates(check)
            if check.matches(record)
            and not self._is_ending(record)
            and (possible is not _RETRIABLE or record.kind in self._handlers)
            and accepts(record)
        )
        return [*islice(matches, check.limit)]

    def _candidates(self, check: CheckedConditions) -> Iterable[JobRecord]:
        """Return the newest records of the jobs that may match, the oldest first."""
        jobs, event_log = self._projection.jobs, self._event_log
        if check.ids is not None:
            return sorted({id(one): one for one in map(event_log.newest, check.ids)}.values(), key=_submitted_seq)
        return (jobs[record.id] for _, record in event_log.scan(check.wanted) if record is not None)

    def _is_ending(self, record: JobRecord) -> bool:
        """Whether the job has an attempt that was requested to end, or whose call is still inside the SDK."""
        if record.state is State.SAVING:
            return record.cancel_requested
        if self._slot.attempt_of(record) is None:
            return False
        return record.cancel_requested or record.state is not State.PROCESSING

    # the queue

    async def pause(self, reason: str, *, until: datetime | None, by: str | None) -> None:
        by = check_by(by)
        if not issubclass(type(reason), str):
            raise UsageError(f"the reason of a pause is a text, not {reason!r:.100}")
        now, seq = self._clock.now(), self._event_log.next_seq
        ends = None if until is None else check_date("until", until)
        if ends is not None and ends <= now:
            raise UsageError(f"the pause would end in the past: until is {until}; give a later time, or none")
        paused = self._projection.paused
        # of two pauses the longer one holds
        if paused is None or (paused.until is not None and (ends is None or ends > paused.until)):
            reason = escape(plain_text(reason))[:MAX_REASON]
            self._event_log.append((ev.Paused(seq=seq, at=now, reason=reason, until=ends, by=by),))
            self.watch_pause()
        await self._commits.everything()

    def watch_pause(self) -> None:
        """Let the present pause end at its date, if it has one."""
        paused = self._projection.paused
        self._scheduler.watch_pause(None if paused is None else paused.until, self._end_pause)

    def _end_pause(self) -> None:
        if self._projection.paused is not None:
            self._resume(None, None)

    def _resume(self, by: str | None, note: str | None) -> None:
        now, seq = self._clock.now(), self._event_log.next_seq
        self._event_log.append((ev.Resumed(seq=seq, at=now, by=by, note=note),))
        self.watch_pause()
        self._sessions.resumed()

    async def resume(self, *, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        if self._projection.paused is not None:
            self._resume(by, note)
        elif self._status.closing and not self._status.stopping:
            raise UsageError("the queue is not paused but draining; undrain() lets it accept jobs again")
        await self._commits.everything()

    @property
    def paused(self) -> str | None:
        paused = self._projection.paused
        return None if paused is None else paused.reason

    @property
    def paused_until(self) -> datetime | None:
        paused = self._projection.paused
        return None if paused is None else to_datetime(paused.until)

    async def start_drain(self, *, by: str | None, note: str | None) -> None:
        """`drain` on the decision of an operator, which is recorded."""
        by, note = check_by(by), check_note(note)
        self._refuse_own_drain()
        if not self._status.closing:
            now, seq = self._clock.now(), self._event_log.next_seq
            self._event_log.append((ev.DrainStarted(seq=seq, at=now, by=by, note=note),))
        await self.drain()

    def _refuse_own_drain(self) -> None:
        self._caller.refuse_wait("drain()", "call close_to_submits(), or drain in a task of your own")

    async def drain(self) -> None:
        self._refuse_own_drain()
        self._admission.begin_drain()
        if self._saver is not None:
            self._saver.hurry()
        await trio.lowlevel.checkpoint()
        while work_is_left(self._projection, self._handlers):
            if self._status.report is not None:
                raise QueueClosed("the queue has stopped before it was drained")
            if not self._status.closing:
                raise UsageError("undrain() was called before the queue was drained; it accepts jobs again")
            await self._waiters.wait_idle()
        await self._commits.everything()  # the ends of the last jobs may not be committed yet

    async def undrain(self, *, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        was_draining = self._status.closing
        self._admission.end_drain()
        if was_draining:
            now, seq = self._clock.now(), self._event_log.next_seq
            self._event_log.append((ev.DrainEnded(seq=seq, at=now, by=by, note=note),))
        self._waiters.wake_idle()
        await self._commits.everything()

    async def backup(self, path: str) -> Backup:
        store = self._event_log.store
        if not isinstance(store, BacksUp):
            raise UsageError("jobs in memory cannot be backed up; open the service with a journal")
        return await store.backup(path)

    async def backup_beside(self, name: str) -> Backup:
        if not BACKUP_NAME.fullmatch(name):
            raise UsageError(f"a backup's name is 1 to 100 letters, digits, '-', '_' and '.', not {name!r:.150}")
        store = self._event_log.store
        return await self.backup(f"{store.path}.backup-{name}" if isinstance(store, BacksUp) else name)
