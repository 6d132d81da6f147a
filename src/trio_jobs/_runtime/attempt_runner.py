"""Executes one attempt, from its start to its result.

Every await in this module can raise Cancelled, so the recorded state of the job must be correct at each of them. The
start is recorded before the first await after the job has left the channel, and the end before the first await after
the handler has ended.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import outcome
import trio

from trio_jobs._call_report import CallReport, report_result
from trio_jobs._concurrency import NEVER
from trio_jobs._engine import decide
from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import JobRecord, Outcome, State
from trio_jobs._errors import SdkCallRefused
from trio_jobs._log import Log
from trio_jobs._runtime.attempt import (
    RunningAttempt,
    call_unprotected,
    captured,
    classify,
    log_fields,
)
from trio_jobs._runtime.attempt_scope import AttemptScope
from trio_jobs._runtime.call_parts import CallParts
from trio_jobs._runtime.job_context import ContextFactory
from trio_jobs._runtime.saver import Saver
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.verification import Verification, not_started
from trio_jobs._sdk_call import CallHandle, HandlerCall

__all__ = ["AttemptRunner"]

log: Final = Log("trio_jobs.consumer")

#: The first attempts of a queue whose start is awaited also if they are idempotent. A job that killed the process is
#: among the first ones of the next process. It is behind those whose ends were not committed: some ten
FIRST_ATTEMPTS: Final = 100


class AttemptRunner:
    """Runs handlers, one attempt at a time."""

    def __init__(
        self,
        parts: CallParts,
        *,
        scheduler: Scheduler,
        verification: Verification,
        make_context: ContextFactory,
        saver: Saver | None,
        max_crashes: int,
    ) -> None:
        self._event_log = parts.event_log
        self._executor = parts.executor
        self._clock = parts.clock
        self._scheduler = scheduler
        self._handlers = parts.handlers
        self._sessions = parts.sessions
        self._slot = parts.slot
        self._overruns = parts.overruns
        self._interrupter = parts.interrupter
        self._verification = verification
        self._make_context = make_context
        self._saver = saver
        self._max_crashes = max_crashes
        self._chance = parts.chance
        self._attempts = 0
        self.scope = AttemptScope()
        """The scope of the attempts without a limit. The task that calls `run` must leave it."""

    async def run(self, record: JobRecord) -> None:
        """Execute the next attempt of a pending job.

        Returns when the result is recorded and, if verify could resolve a doubt at once, the doubt is resolved.
        """
        event_log = self._event_log
        handler = self._handlers[record.kind]
        clock = self._clock
        now, elapsed = clock.now(), clock.elapsed()
        self._scheduler.look(now, elapsed)  # a clock may have advanced since it was last read
        events = decide.start(record, handler.enters_at_start, handler.rules, now, event_log.next_seq, elapsed)
        if not events:
            return
        event_log.append(events)
        if record.state is not State.PROCESSING:
            return  # the job has expired, or must not be repeated
        running = self._slot.fill(RunningAttempt(record, handler))
        try:
            if event_log.durable and self._awaits_start(record, handler):
                with running.new_stop_scope():
                    await event_log.committed(record.last_seq, record)
                if not event_log.contains(record):
                    return  # the attempt started before the submit was committed, and the submit was rejected
            verification = self._verification
            due = handler.rules.verifies and verification.is_due_before(record, handler)
            result = await verification.ask_before(running) if due else None
            passing = None
            if result is None:
                result, passing = await self._call_within_limits(running)
            self._sessions.attempt_ended(running.discard, record if result.outcome is Outcome.COMPLETED else None)
            if not result.has_run and result.error is not None:
                log.error("job %s (%s): %s", record.id, record.kind, result.error.message, extra=log_fields(record))
            self._end(record, handler, result)
            if passing is not None:
                raise passing
        finally:
            self._slot.empty()
        if record.doubt is not None:
            await verification.resolve_soon(record, handler)

    def _awaits_start(self, record: JobRecord, handler: Handler) -> bool:
        """Whether the start of this attempt is committed before its handler is called.

        An idempotent handler may be called again, so its start need not be on the disk. But if it kills the process
        before that, the crash is not counted, and the job is never failed as poison.
        """
        self._attempts += 1
        return not handler.rules.idempotent or record.crashes > 0 or self._attempts <= FIRST_ATTEMPTS

    async def _call_within_limits(self, running: RunningAttempt) -> tuple[AttemptResult, BaseException | None]:
        """Call the handler within the scopes of the attempt. Returns the result of `classify`.

        The except clause is outside of the scopes, since an error from the cleanup of a handler may be in a group with
        the Cancelled of a scope.
        """
        if running.why is not None:
            return not_started(running.why), None
        limited = running.handler.attempt_timeout != NEVER or running.record.deadline_at is not None
        if limited:
            self._set_limits(running)
        ended: CallReport | outcome.Error | None = None
        try:
            if running.scope is None:
                with self.scope as running.scope:
                    ended = await self._call_handler(running)
            elif running.deadline_scope is None:
                with running.scope:
                    ended = await self._call_handler(running)
            else:
                with running.deadline_scope, running.scope:
                    ended = await self._call_handler(running)
        except BaseException as error:
            ended = outcome.Error(error)
        if not limited:
            running.scope = None  # in the step in which the handler has returned: the next attempt has the scope
        if running.interrupted_call is not None and self._interrupter.was_interrupted(running):
            running.was_interrupted = True
            self._sessions.renew_soon()
        late = False
        if limited:
            late = running.limit_at != NEVER and self._clock.monotonic() > running.limit_at
            running.clear_limits()
        return classify(running, ended, late, self._sessions.renew_after_error)

    def _set_limits(self, running: RunningAttempt) -> None:
        """Limit the attempt. It has a scope of its own, which its limit can end after the handler has returned."""
        running.scope = trio.CancelScope()
        timeout = running.handler.attempt_timeout
        if timeout != NEVER:
            running.limit_in_seconds(self._clock, timeout, running.scope)
        if running.record.deadline_at is not None:
            running.limit_by_deadline(self._clock)
        self._overruns.watch(running)

    async def _call_handler(self, running: RunningAttempt) -> CallReport | outcome.Error:
        """Return the report of the handler, or what an async one raised. Raises what precedes it, and Cancelled."""
        handler, payload = running.handler, running.record.payload
        context = self._make_context(running) if handler.takes_job else None
        if handler.enters_at_start:
            running.entered = True
            bind = None if self._saver is None or context is None else running.bind_sdk
            report = await self._executor.call(
                HandlerCall(handler, payload, context, self._sessions.renew_after_error, running, bind)
            )
            running.entered = report.entered
            return report
        args: tuple[Any, ...] = (handler.decode(payload),) if context is None else (handler.decode(payload), context)
        if handler.takes_sdk:
            handle = self._executor.handle(lambda: self._enter(running), self._sessions.call_ended)
            running.handle = handle
            if isinstance(handle, CallHandle):
                running.was_raised_by_call = handle.has_raised
            args = (handle, *args)
        try:
            return report_result(await call_unprotected(handler.fn, *args))
        except BaseException as error:
            return captured(error)

    async def _enter(self, running: RunningAttempt) -> None:
        """Prepare a call of an async handler. The first one is recorded: the attempt has entered the SDK."""
        await self._sessions.pace()
        self._refuse_if_over(running)
        record, event_log = running.record, self._event_log
        events = decide.enter(record, self._clock.now(), event_log.next_seq)
        if events:
            event_log.append(events)
            if event_log.durable and not running.handler.rules.idempotent:
                await event_log.committed(record.last_seq)
                self._refuse_if_over(running)
        running.entered = True

    def _refuse_if_over(self, running: RunningAttempt) -> None:
        if self._slot.current is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; its SDK handle takes no more calls")

    def _end(self, record: JobRecord, handler: Handler, result: AttemptResult) -> None:
        event_log = self._event_log
        clock = self._clock
        saver, returned = self._saver, result.outcome is Outcome.COMPLETED
        if saver is not None and returned:
            events = decide.returned(record, result, clock.now(), event_log.next_seq)
        else:
            rules = handler.rules
            if result.outcome is Outcome.DIED:
                rules = attrs.evolve(rules, max_crashes=self._max_crashes)
            now, seq, elapsed = clock.now(), event_log.next_seq, clock.elapsed()
            events = decide.end(record, result, rules, now, self._chance(), seq, elapsed)
        if events:
            event_log.append(events)
        elif result.outcome is not Outcome.INSIDE:  # else its call was abandoned and has not returned
            log.warning(
                "job %s: its call ended (%s) after the job was resolved",
                record.id,
                result.outcome,
                extra=log_fields(record),
            )
        if saver is not None:
            saver.attempt_ended(record, result)
