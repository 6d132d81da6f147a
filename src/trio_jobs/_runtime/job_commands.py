"""Commands of operators for one job: correct, verify, reschedule, run now, claim."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import trio

from trio_jobs._engine import decide
from trio_jobs._engine.jobs import JobRecord, Receipt, State
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._engine.payload_digest import digest as digest_of
from trio_jobs._errors import InvalidState, QueueClosed, UsageError
from trio_jobs._ports import Clock
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.corrections import Corrections
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.shared_state import QueueStatus
from trio_jobs._runtime.verification import remaining_delay
from trio_jobs._runtime.verify_requests import VerifyRequests
from trio_jobs._validation import check_by, check_date, check_note, check_seconds, check_wait

__all__ = ["CLAIM_SECONDS", "JobCommands"]

CLAIM_SECONDS: Final = 900.0  #: how long a claim lasts
LONGEST_CLAIM: Final = 86_400.0  #: a claim is renewed, not kept for weeks


class JobCommands:
    """The methods are documented in `Queue`.

    Each command is decided and appended in one synchronous step, and its commit is awaited after that.
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        clock: Clock,
        admission: Admission,
        channel: JobChannel,
        slot: AttemptSlot,
        scheduler: Scheduler,
        blocking_job: BlockingJob,
        caller: CallerCheck,
        commits: CommitWaiter,
        corrections: Corrections,
        requests: VerifyRequests,
        status: QueueStatus,
    ) -> None:
        self._event_log = event_log
        self._projection = event_log.projection
        self._clock = clock
        self._admission = admission
        self._channel = channel
        self._slot = slot
        self._scheduler = scheduler
        self._blocking_job = blocking_job
        self._caller = caller
        self._commits = commits
        self._corrections = corrections
        self._requests = requests
        self._status = status

    async def correct(
        self, job_id: str, payload: Any, *, if_seq: int | None, by: str | None, note: str | None
    ) -> Receipt:
        by, note = check_by(by), check_note(note)
        self._admission.refuse_if_closing()
        record = self._event_log.newest(job_id)
        handler = self._corrections.handler_of(record)
        body, value = handler.accept(payload)
        digest = None if record.key is None else digest_of(value, body)
        if not self._corrections.is_repeated(record, body, digest):
            self._event_log.newest(record.id, if_seq)
            self._corrections.correct(record, handler, body, digest, by=by, note=note)
        await self._commits.everything()
        return Receipt(record.id, False, self._channel.position(record), record.state)

    async def verify(self, job_id: str, *, by: str | None, note: str | None) -> VerifyWord:
        by, note = check_by(by), check_note(note)
        self._caller.refuse_wait("verify()", "call it in a task of your own")
        record = self._event_log.newest(job_id)
        request = self._requests.get(record)
        if request is None:
            self._check_verify(record)
            request = self._requests.add(record, by, note)
            try:
                self._request_verify(record, by, note)
            except BaseException as error:
                self._requests.answer(record, QueueClosed(str(error)))
                raise
        word = await request.wait()
        await self._commits.everything()
        return word

    def _check_verify(self, record: JobRecord) -> None:
        handler = self._corrections.handler_of(record)
        if record.state not in (State.FAILED, State.CANCELLED, State.IN_DOUBT):
            raise InvalidState(record.id, record.state, "verify is called for failed, cancelled and in_doubt jobs only")
        if not handler.rules.verifies:
            raise UsageError(f"the handler {record.kind!r} has no verify; find out what job {record.id} has done")
        if self._status.stopping:
            raise QueueClosed("the queue stops")
        paused = self._projection.paused
        if paused is not None:
            reason = f" ({paused.reason})" if paused.reason else ""
            raise UsageError(f"the queue is paused{reason}, so verify cannot be called; resume it first")
        if self._slot.attempt_of(record) is not None and record.state is not State.IN_DOUBT:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")

    @trio.lowlevel.enable_ki_protection
    def _request_verify(self, record: JobRecord, by: str | None, note: str | None) -> None:
        if record.state is State.IN_DOUBT:
            if self._slot.attempt_of(record) is not None and (record.doubt is None or not record.doubt.inside):
                return  # it is being called
            now, seq = self._clock.now(), self._event_log.next_seq
            events = decide.ask_again(record, by, now, seq, note)
            self._channel.remove(record)
            self._event_log.append(events)
            if self._blocking_job.record is record:
                self._blocking_job.notify(record)
                return
            delay = remaining_delay(record, self._corrections.handler_of(record), self._clock)
            if delay:  # before that, verify could not find what has been done
                self._scheduler.schedule_verify(record, delay)
                return
        self._scheduler.requeue(record)

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
        by, note = check_by(by), check_note(note)
        if (due_at is None) is (delay is None):
            raise UsageError("give due_at or delay; to start the job at once, use run_now")
        now = self._clock.now()
        at = None if due_at is None else check_date("due_at", due_at)
        seconds = None if delay is None else check_wait("delay", delay)
        due = at if at is not None else now + (seconds or 0.0)
        if due <= now:
            raise UsageError("the job cannot become due in the past; to start it at once, use run_now")
        record = self._event_log.newest(job_id, if_seq)
        self._corrections.handler_of(record)
        if record.deadline_at is not None and record.deadline_at <= due:
            raise UsageError(f"job {record.id} expires before that; choose an earlier time, or submit it anew")
        if record.state is State.PENDING:
            self._admission.refuse_if_too_many_wait(1)
        self._reschedule(record, at, seconds, by, note)
        await self._commits.everything()

    @trio.lowlevel.enable_ki_protection
    def _reschedule(
        self, record: JobRecord, at: float | None, seconds: float | None, by: str | None, note: str | None
    ) -> None:
        now, seq = self._clock.now(), self._event_log.next_seq
        events = decide.reschedule(record, now, seq, due_at=at, delay=seconds, by=by, note=note)
        self._channel.remove(record)
        self._event_log.append(events)  # the reaction to the commit schedules it
        self._blocking_job.notify(record)

    async def run_now(self, job_id: str, *, if_seq: int | None, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        record = self._event_log.newest(job_id, if_seq)
        self._corrections.handler_of(record)
        self._run_now(record, by, note)
        await self._commits.everything()

    @trio.lowlevel.enable_ki_protection
    def _run_now(self, record: JobRecord, by: str | None, note: str | None) -> None:
        events = decide.run_now(record, by, self._clock.now(), self._event_log.next_seq, note)
        if not events:
            return
        self._event_log.append(events)
        if self._blocking_job.record is record:
            self._blocking_job.notify(record)
        else:
            self._scheduler.requeue(record)

    async def claim(self, job_id: str, *, seconds: float, take_over: bool, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        if by is None:
            raise UsageError("a claim says who works on the job: give by")
        lasts = check_seconds("seconds", seconds, zero=False)
        if lasts > LONGEST_CLAIM:
            raise UsageError(f"a claim lasts at most {LONGEST_CLAIM:g} seconds, a day; renew it then")
        record, now = self._event_log.newest(job_id), self._clock.now()
        seq = self._event_log.next_seq
        self._event_log.append(decide.claim(record, by, now + lasts, now, seq, note, take_over=take_over))
        await self._commits.everything()

    async def release_claim(self, job_id: str, *, take_over: bool, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        record, now = self._event_log.newest(job_id), self._clock.now()
        seq = self._event_log.next_seq
        self._event_log.append(decide.release(record, by, now, seq, note, take_over=take_over))
        await self._commits.everything()
