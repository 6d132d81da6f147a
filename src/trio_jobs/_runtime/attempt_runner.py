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

from trio_jobs._call_report import RETURNED_NOTHING, CallReport, report_result
from trio_jobs._concurrency import NEVER
from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
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
from trio_jobs._runtime.shared_state import Estimates
from trio_jobs._runtime.start_commit import StartCommit
from trio_jobs._runtime.verification import Verification, not_started
from trio_jobs._sdk_call import CallHandle, HandlerCall

__all__ = ["AttemptRunner"]

log: Final = Log("trio_jobs.consumer")

_PROCESSING: Final = State.PROCESSING
_COMPLETED: Final = Outcome.COMPLETED
_DONE: Final = AttemptResult(_COMPLETED, RETURNED_NOTHING.result)
_DIED: Final = Outcome.DIED
_LAST_EVENTS: Final = frozenset({ev.Returned, ev.Completed, ev.Failed, ev.Cancelled})  #: those of a job's last attempt

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
        estimates: Estimates,
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
        self._estimates = estimates
        self._max_crashes = max_crashes
        self._chance = parts.chance
        self._attempts = 0
        self.start_commit = StartCommit(parts.event_log)
        """The wait for the commit of a start."""
        self.has_slept = False
        """An attempt has slept, which is a checkpoint, since the consumer has set this to False."""
        self.scope = AttemptScope()
        """The scope of the attempts without a limit. The task that calls `run` must leave it."""

    def is_idle(self) -> bool:
        """Whether no attempt and no verification is running."""
        return self._slot.current is None

    async def run(self, record: JobRecord) -> None:
        """Execute the next attempt of a pending job.

        Returns when the result is recorded and, if verify could resolve a doubt at once, the doubt is resolved.
        """
        handler = self._handlers[record.kind]
        started = self._start(record, handler)
        if started is None:
            return
        running = self._slot.fill(RunningAttempt(record, handler, started))
        try:
            if self._event_log.durable and self._awaits_start(record, handler):
                running.stop_scope = self.start_commit
                if await self.start_commit.wait(record):
                    self.has_slept = True
                if not self._event_log.contains(record):
                    return  # the attempt started before the submit was committed, and the submit was rejected
            result = passing = None
            if handler.rules.verifies and self._verification.is_due_before(record, handler):
                result = await self._verification.ask_before(running)
            if result is None and running.why is not None:
                result = not_started(running.why)
            if result is None:
                # here and not in a coroutine of its own, which would take some percent of the time of a job in memory
                ended: CallReport | outcome.Error | None = None
                try:
                    if handler.attempt_timeout != NEVER or record.deadline_at is not None:
                        ended = await self._call_limited(running)
                    elif handler.enters_at_start or handler.takes_sdk or handler.takes_job:
                        with self.scope as running.scope:
                            ended = await self._call_handler(running)
                    else:
                        payload = handler.decode(record.payload)
                        with self.scope as running.scope:
                            try:
                                value = await call_unprotected(handler.fn, payload)
                                ended = RETURNED_NOTHING if value is None else report_result(value)
                            except BaseException as error:
                                ended = captured(error)
                except BaseException as error:  # not within the scopes: it may be in a group with their Cancelled
                    ended = outcome.Error(error)
                if ended is RETURNED_NOTHING and not (running.entered or running.has_own_scope):
                    running.scope, result = None, _DONE  # the usual end in memory
                else:
                    result, passing = self._classify(running, ended)
            self._end(running, result)
            if passing is not None:
                raise passing
        finally:
            self._slot.empty()
        if record.doubt is not None:
            await self._verification.resolve_soon(record, handler)

    def _start(self, record: JobRecord, handler: Handler) -> float | None:
        """Record the start of an attempt, and return its elapsed time. None: the job has expired, or must not be
        repeated."""
        event_log, clock = self._event_log, self._clock
        now, elapsed = clock.now(), clock.elapsed()
        if self._scheduler.has_times:
            self._scheduler.look(now, elapsed)  # a clock may have advanced since it was last read
        seq = event_log.projection.seq + 1
        events = decide.start(record, handler.enters_at_start, handler.rules, now, seq, elapsed)
        event_log.append(events, elapsed)
        return elapsed if events and record.state is _PROCESSING else None

    def _awaits_start(self, record: JobRecord, handler: Handler) -> bool:
        """Whether the start of this attempt is committed before its handler is called.

        An idempotent handler may be called again, so its start need not be on the disk. But if it kills the process
        before that, the crash is not counted, and the job is never failed as poison.
        """
        self._attempts += 1
        return not handler.rules.idempotent or record.crashes > 0 or self._attempts <= FIRST_ATTEMPTS

    def _classify(
        self, running: RunningAttempt, ended: CallReport | outcome.Error | None
    ) -> tuple[AttemptResult, BaseException | None]:
        """Return the result of `classify`. Called in the step in which the handler has ended."""
        late = False
        if running.interrupted_call is not None and self._interrupter.was_interrupted(running):
            running.was_interrupted = True
            self._sessions.renew_soon()
        if running.has_own_scope:
            late = running.limit_at != NEVER and self._clock.monotonic() > running.limit_at
            running.clear_limits()
        else:
            running.scope = None  # the next attempt has it
        sessions = self._sessions
        return classify(
            running,
            ended,
            late,
            sessions.renew_after_error,
            inside=self._executor.inside,
            stopping=sessions.stopped,
        )

    async def _call_limited(self, running: RunningAttempt) -> CallReport | outcome.Error | None:
        """Call the handler within scopes of its own, which its limits can end. None: one of them has ended it."""
        self._set_limits(running)
        assert running.scope is not None
        if running.deadline_scope is None:
            with running.scope:
                return await self._call_handler(running)
        else:
            with running.deadline_scope, running.scope:
                return await self._call_handler(running)
        return None

    def _set_limits(self, running: RunningAttempt) -> None:
        """Limit the attempt. It has a scope of its own, which its limit can end after the handler has returned."""
        running.scope = trio.CancelScope()
        running.has_own_scope = True
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
            if not handler.is_async:  # that may return without a checkpoint
                self.has_slept = True
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
        self.has_slept = True  # in the call, which follows

    def _refuse_if_over(self, running: RunningAttempt) -> None:
        if self._slot.current is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; its SDK handle takes no more calls")

    def _end(self, running: RunningAttempt, result: AttemptResult) -> None:
        """Record the end of an attempt."""
        event_log, clock, saver = self._event_log, self._clock, self._saver
        record, handler, ended = running.record, running.handler, result.outcome
        seq, elapsed = event_log.projection.seq + 1, clock.elapsed()
        in_session = handler.takes_sdk and ended is _COMPLETED
        self._sessions.attempt_ended(running.discard, record if in_session else None)
        if result.error is not None:
            _log_mistake(running, result)
        if saver is not None and ended is _COMPLETED:
            events = decide.returned(record, result, clock.now(), seq)
        else:
            rules = handler.rules
            if ended is _DIED:
                rules = attrs.evolve(rules, max_crashes=self._max_crashes)
            events = decide.end(record, result, rules, clock.now(), self._chance(), seq, elapsed)
        if events:
            event_log.append(events, elapsed)
            last: Any = events[-1]
            if type(last) in _LAST_EVENTS and last.outcome is not None:
                self._estimates.add(record.kind, elapsed - running.started_elapsed)
        elif ended is not Outcome.INSIDE:  # else its call was abandoned and has not returned
            log.warning(
                "job %s: its call ended (%s) after the job was resolved",
                record.id,
                result.outcome,
                extra=log_fields(record),
            )
        if saver is not None:
            saver.attempt_ended(record, result)


def _log_mistake(running: RunningAttempt, result: AttemptResult) -> None:
    """Log a mistake of the program. Other errors of handlers are events, and not logged."""
    record, error = running.record, result.error
    assert error is not None
    if not result.has_run:
        log.error("job %s (%s): %s", record.id, record.kind, error.message, extra=log_fields(record))
    elif running.misused_queue:  # without the message, which may contain data of the job
        how = f"attempt {record.attempt_count} used the queue in a wrong way, and raised {error.type}"
        log.error("job %s (%s): %s; the attempt has the message", record.id, record.kind, how, extra=log_fields(record))
