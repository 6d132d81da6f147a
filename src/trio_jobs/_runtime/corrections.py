"""Corrections: a job that has failed or was cancelled starts again with another payload."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import InvalidState, KeyConflict, UnknownKind, UsageError
from trio_jobs._ports import Clock
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.submission import Moment, Submission
from trio_jobs._runtime.verify_requests import VerifyRequests

__all__ = ["Corrections", "is_new_after"]


class Corrections:
    """Decides about corrections and appends them; the caller awaits the commit."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        handlers: Mapping[str, Handler],
        clock: Clock,
        slot: AttemptSlot,
        scheduler: Scheduler,
        requests: VerifyRequests,
    ) -> None:
        self._event_log = event_log
        self._handlers = handlers
        self._clock = clock
        self._slot = slot
        self._scheduler = scheduler
        self._requests = requests

    def of_submit(self, new: Submission, known: JobRecord, by: str | None) -> None:
        """Start the job that has the key of this submit again, with its payload.

        Raises:
            KeyConflict: The job cannot be corrected.
        """
        assert new.key is not None
        try:
            self.correct(known, new.handler, new.body, new.digest, due=new.due, deadline=new.deadline, by=by)
        except InvalidState as error:
            raise KeyConflict(known.kind, new.key, known.id, str(error)) from error

    def explain(self, new: Submission, known: JobRecord | KeyTombstone) -> str:
        """Return what the submitter of another payload for a known key can do; empty if nothing is known."""
        if isinstance(known, KeyTombstone):
            return "submit it with correct=True" if is_new_after(known) else ""
        try:
            decide.check_correctable(known, new.handler.rules)
        except InvalidState:
            return ""
        return f"that job is {known.state}: submit it with correct=True to start it again with this payload"

    @trio.lowlevel.enable_ki_protection
    def correct(
        self,
        record: JobRecord,
        handler: Handler,
        payload: msgspec.Raw,
        digest: str | None,
        *,
        due: Moment | None = None,
        deadline: Moment | None = None,
        by: str | None,
        note: str | None = None,
    ) -> None:
        """Start a new run of a job with another payload.

        Raises:
            JobMayHaveActed: It may have done its work, or a step of it.
            InvalidState: It is neither failed nor cancelled, or its call is still inside the SDK.
        """
        if self._slot.attempt_of(record) is not None and record.state in FINAL:
            raise InvalidState(record.id, record.state, "a call of it is still inside the SDK; wait for it to return")
        clock = self._clock
        now, elapsed, seq = clock.now(), clock.elapsed(), self._event_log.next_seq
        events: list[ev.JobEvent] = [
            *decide.correct(
                record,
                payload,
                digest,
                handler.rules,
                now,
                seq,
                elapsed,
                deadline_at=None if deadline is None else deadline.at,
                deadline_after=None if deadline is None else deadline.left(elapsed),
                by=by,
                note=note,
            )
        ]
        if due is not None:
            delay = due.left(elapsed)
            due_at = now + delay if delay is not None else due.at
            assert due_at is not None
            events.append(ev.Rescheduled(seq=seq + 1, at=now, job=record.id, due_at=due_at, delay=delay, by=by))
        self._requests.drop(record)
        self._event_log.append(events)
        if due is None:  # otherwise the reaction to the commit schedules it
            self._scheduler.requeue(record)
        if record.deadline_at is not None:
            self._scheduler.watch_deadline(record)

    def handler_of(self, record: JobRecord) -> Handler:
        """Return the handler of a job.

        Raises:
            UnknownKind: It is not registered any more.
        """
        handler = self._handlers.get(record.kind)
        if handler is None:
            raise UnknownKind(record.kind, tuple(sorted(self._handlers)))
        return handler

    def is_repeated(self, record: JobRecord, payload: msgspec.Raw, digest: str | None) -> bool:
        """Whether this correction has been made already, so that the request is a repeated one.

        Raises:
            UsageError: The job has failed or was cancelled with this payload.
        """
        if bytes(record.payload) != bytes(payload) and (digest is None or digest != record.digest):
            return False
        if record.state in (State.FAILED, State.CANCELLED):
            raise UsageError(f"job {record.id} is {record.state} with this payload; use retry to start it again")
        return bool(record.earlier) and record.earlier[-1][0] == record.run - 1


def is_new_after(tombstone: KeyTombstone) -> bool:
    """Whether a correction of a removed job is a new job: the job has done nothing."""
    return tombstone.state in (State.FAILED, State.CANCELLED) and not tombstone.may_have_acted
