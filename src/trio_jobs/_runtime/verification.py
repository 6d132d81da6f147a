"""Verification: calls `verify` of a handler to determine what an attempt did, and applies the result.

`verify` is called in two situations: before an attempt whose predecessor may have acted, and for a job in doubt, which
every job is whose attempt raised inside the SDK. It is a call into the SDK like any other: one at a time, at least
`min_interval` after the last call, and with a time limit. An exception, a result of another type and a result that is
too late all count as `Unknown`.

`verify` must report what is durable, so it is never called in the session in which the attempt went wrong: work that
only the memory of that session holds would be found there. `SdkSessionManager` has replaced the session by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import outcome
import trio

from trio_jobs._call_report import CallReport, report_answer, report_error
from trio_jobs._concurrency import NEVER
from trio_jobs._engine import decide
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, EndedBy, JobRecord, NotDone, Outcome, State, Unknown
from trio_jobs._engine.openings import OpeningReason
from trio_jobs._engine.projection import Projection
from trio_jobs._errors import SdkCallRefused
from trio_jobs._exception_tree import is_a
from trio_jobs._log import Log
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._ports import Clock, Discard
from trio_jobs._runtime.attempt import RunningAttempt, call_unprotected, captured, log_fields
from trio_jobs._runtime.call_parts import CallParts
from trio_jobs._runtime.job_context import ContextFactory
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.verify_requests import VerifyRequests, word_of
from trio_jobs._runtime.waits import sleep_until
from trio_jobs._sdk_call import CallHandle, VerifyCall

__all__ = ["Verification", "can_verify", "remaining_delay", "waits_for_person", "work_is_left"]

log: Final = Log("trio_jobs.consumer")


class Verification:
    """Calls `verify`, one call at a time."""

    def __init__(
        self,
        parts: CallParts,
        *,
        scheduler: Scheduler,
        make_context: ContextFactory,
        requests: VerifyRequests,
        strict_order: bool,
        max_crashes: int,
    ) -> None:
        self._event_log = parts.event_log
        self._executor = parts.executor
        self._clock = parts.clock
        self._handlers = parts.handlers
        self._sessions = parts.sessions
        self._slot = parts.slot
        self._overruns = parts.overruns
        self._interrupter = parts.interrupter
        self._scheduler = scheduler
        self._make_context = make_context
        self._requests = requests
        self._strict_order = strict_order
        self._max_crashes = max_crashes
        self._chance = parts.chance

    # within an attempt

    def is_due_before(self, record: JobRecord, handler: Handler) -> bool:
        """Whether verify must be called before the handler, since an earlier attempt may have acted.

        With `verify_first` this is assumed for every job, also without an earlier attempt in this store.
        """
        rules = handler.rules
        return rules.verifies and not rules.idempotent and (record.may_have_acted or handler.verify_first)

    async def ask_before(self, running: RunningAttempt) -> AttemptResult | None:
        """Call verify before the handler. None: the handler may be called."""
        record, handler = running.record, running.handler
        if running.why is not None:
            return not_started(running.why)
        answer = await self.ask(running, remaining_delay(record, handler, self._clock))
        if isinstance(answer.verdict, Done):
            return AttemptResult(Outcome.ALREADY_DONE, answer.result, answer.problem)
        if isinstance(answer.verdict, Unknown) and answer.asked and handler.rules.on_doubt != "retry":
            return AttemptResult(Outcome.UNVERIFIED)
        if not await self._prepare_call(running):
            running.cancel(EndedBy.STOP)
        return None

    # jobs in doubt

    async def resolve_soon(self, record: JobRecord, handler: Handler) -> None:
        """If the job is in doubt, call verify now, or after its delay.

        In strict order this does nothing: the consumer calls verify, since the job blocks the queue.
        """
        if self._strict_order or not can_verify(record, handler):
            return
        await self._sessions.close_discarded()  # now, although the queue may be paused for long
        if handler.verify_delay:
            self._scheduler.schedule_verify(record, handler.verify_delay)
        else:
            await self._sessions.wait()
            await self.resolve(record)

    async def resolve(self, record: JobRecord) -> None:
        """Call verify for a job in doubt, and apply its result.

        Cancelled:
            The job is still in doubt, and verify is called at the next start.
        """
        if record.doubt is None or record.doubt.inside:
            return  # the doubt was resolved meanwhile
        handler = self._handlers[record.kind]
        running = self._slot.fill(RunningAttempt(record, handler))
        answer = None
        try:
            answer = await self.ask(running)
        finally:
            self._slot.empty()
            if answer is None or not answer.asked:
                events = decide.abandon_verify(record, self._clock.now(), self._event_log.next_seq)
                self._event_log.append(events)
        if not answer.asked:
            if record.state is not State.IN_DOUBT:  # verify has killed too many processes
                self._requests.drop(record)
            return
        events = decide.verified(
            record,
            answer,
            handler.rules,
            self._clock.now(),
            self._chance(),
            self._event_log.next_seq,
            self._clock.elapsed(),
        )
        self._event_log.append(events)
        self._requests.answer(record, word_of(answer.verdict))
        await self.resolve_soon(record, handler)

    def is_requested(self, record: JobRecord) -> bool:
        """Whether an operator has requested that verify is called for this job."""
        return self._requests.get(record) is not None

    def refuse_request(self, record: JobRecord) -> None:
        """The job is not known any more. Has no effect without a request."""
        self._requests.answer(record, JobNotFound(record.id))

    async def answer_request(self, record: JobRecord) -> None:
        """Call verify for a failed or cancelled job, as an operator has requested.

        Cancelled:
            The job is unchanged.
        """
        request = self._requests.get(record)
        assert request is not None
        handler = self._handlers[record.kind]
        await self._sessions.close_discarded()
        running = self._slot.fill(RunningAttempt(record, handler))
        try:
            answer = await self.ask(running, remaining_delay(record, handler, self._clock))
        finally:
            self._slot.empty()
        if not answer.asked:
            return  # the queue stops
        if not self._event_log.contains(record):
            self.refuse_request(record)
            return
        now, seq = self._clock.now(), self._event_log.next_seq
        self._event_log.append(decide.answered(record, answer, request.by, now, seq, request.note))
        self._requests.answer(record, word_of(answer.verdict))

    # the call

    async def ask(self, running: RunningAttempt, delay: float = 0.0) -> VerifyAnswer:
        """Call verify after `delay` seconds. The answer has `asked` False if the queue stops before verify returns."""
        verify = running.handler.verify
        assert verify is not None
        if delay:
            with running.new_stop_scope():
                await sleep_until(self._clock, self._clock.elapsed() + delay)
        if not await self._prepare_call(running):
            return VerifyAnswer(Unknown(), asked=False)
        if running.record.state is State.IN_DOUBT and not await self._begin(running):
            return VerifyAnswer(Unknown(), asked=False)
        running.verifies = True
        ended = await self._call(running, verify)
        running.verifies = False
        interrupted = self._interrupter.was_interrupted(running)
        if interrupted:
            self._sessions.renew_soon()
            if not isinstance(ended, CallReport) or ended.error is not None:
                self._sessions.discard(Discard("verify was interrupted"))
        late = interrupted or self._clock.monotonic() > running.limit_at
        running.clear_limits()
        self._sessions.call_ended()
        if running.stopped and (ended is None or interrupted):
            return VerifyAnswer(Unknown(), asked=False)
        return self._answer(running, ended, late=late)

    async def _begin(self, running: RunningAttempt) -> bool:
        """Commit that verify is about to be called for a job in doubt: a call that kills the process is then counted.

        Returns:
            False if verify must not be called: the doubt was resolved, or verify has killed too many processes.
        """
        record, event_log = running.record, self._event_log
        rules = attrs.evolve(running.handler.rules, max_crashes=self._max_crashes)
        event_log.append(decide.begin_verify(record, rules, self._clock.now(), event_log.next_seq))
        if event_log.durable and record.state is State.IN_DOUBT:
            with running.new_stop_scope():
                await event_log.committed(record.last_seq, record)
        return record.doubt is not None and record.doubt.verifying and not running.stopped

    def _answer(self, running: RunningAttempt, ended: CallReport | outcome.Error | None, *, late: bool) -> VerifyAnswer:
        record, handler = running.record, running.handler
        fields = log_fields(record)
        report = None
        if isinstance(ended, outcome.Error):
            report = report_error(ended.error, handler.rules.retry, self._sessions.renew_after_error)
            if report.error is not None and report.error.by_signal:
                raise ended.error
        else:
            report = ended
        if report is None or late:
            log.warning("job %s: verify did not answer within %g s", record.id, handler.verify_timeout, extra=fields)
        elif report.error is not None:
            error = report.error
            if error.killed or error.died:
                self._sessions.discard(Discard("verify was killed" if error.killed else "died", next_opening="killed"))
            log.warning("job %s: verify raised %s", record.id, error.info.type, extra=fields)
            if error.lost or (handler.takes_sdk and error.renews):
                own = not isinstance(ended, outcome.Error) or running.was_raised_by_call(ended.error)
                reason: OpeningReason = "lost" if error.lost else "error"
                self._sessions.discard(Discard("verify raised", by_last_call=own, next_opening=reason))
        elif report.answer is not None and not self._sessions.unsaved.can_tell(record.id):
            log.warning(
                "job %s: the answer of verify counts as Unknown: the session in which the job failed was kept "
                "(renew_after_error), and may hold what it left",
                record.id,
                extra=fields,
            )
        elif report.answer == "done":
            return VerifyAnswer(Done(), report.result, report.problem)
        elif report.answer == "not_done":
            return VerifyAnswer(NotDone())
        elif report.answer is None:
            log.warning(
                "job %s: verify must answer Done, NotDone or Unknown, not %s", record.id, report.not_run, extra=fields
            )
        return VerifyAnswer(Unknown())

    async def _prepare_call(self, running: RunningAttempt) -> bool:
        """Before a further call of an attempt: open the SDK if necessary, and wait for the rest of `min_interval`.

        The stop of the queue ends the wait, but not an opening in progress: a cancelled opening would make the executor
        unusable.

        Returns:
            False if the attempt must end.
        """
        usable = not running.stopped and await self._sessions.make_usable()
        with running.new_stop_scope():
            await self._sessions.pace()
        return usable and not running.stopped

    async def _call(self, running: RunningAttempt, verify: Callable[..., Any]) -> CallReport | outcome.Error | None:
        """Return the report of verify, or what an async one raised; None if a scope has ended it."""
        handler, context = running.handler, self._make_context(running)
        call = VerifyCall(handler, context, self._sessions.renew_after_error, running)
        if not handler.verify_is_async:
            running.limit_in_seconds(self._clock, handler.verify_timeout, None)
            self._overruns.watch(running)
            return await self._executor.call(call)

        async def enter() -> None:
            await self._sessions.pace()
            if self._slot.current is not running or scope.cancel_called:
                raise SdkCallRefused("this verify is over; its SDK handle takes no more calls")

        scope = running.new_stop_scope()
        running.limit_in_seconds(self._clock, handler.verify_timeout, scope)
        self._overruns.watch(running)
        ended: CallReport | outcome.Error | None = None
        try:
            with scope:
                if handler.has_async_sdk:
                    ended = await self._executor.call(call)
                else:
                    handle = self._executor.handle(enter, self._sessions.call_ended)
                    if isinstance(handle, CallHandle):
                        running.was_raised_by_call = handle.has_raised
                    args = (handle, context) if handler.takes_sdk else (context,)
                    try:
                        ended = report_answer(await call_unprotected(verify, *args))
                    except BaseException as error:
                        ended = captured(error)
        except BaseException as error:
            if is_a(error, trio.Cancelled) and trio.current_effective_deadline() == -NEVER:
                raise
            ended = outcome.Error(error)
        return ended


def remaining_delay(record: JobRecord, handler: Handler, clock: Clock) -> float:
    """Return the seconds until `verify_delay` has passed since the last attempt ended; the whole delay if no end is
    recorded."""
    if record.ended_elapsed is not None:
        return max(handler.verify_delay - (clock.elapsed() - record.ended_elapsed), 0.0)
    ended_at = next((a.ended_at for a in reversed(record.attempts) if a.ended_at is not None), None)
    if ended_at is None:
        return handler.verify_delay
    # it ended in an earlier process; if the wall clock was set back since, the whole delay
    return max(handler.verify_delay - max(clock.now() - ended_at, 0.0), 0.0)


def can_verify(record: JobRecord, handler: Handler) -> bool:
    """Whether the job is in doubt and verify, which was not called for this doubt yet, may resolve it."""
    doubt = record.doubt
    return doubt is not None and not (doubt.inside or doubt.asked) and handler.rules.verifies


def waits_for_person(record: JobRecord, handler: Handler | None) -> bool:
    """Whether the job is in doubt, and verify will not be called before an operator resolves it or its call returns."""
    return record.state is State.IN_DOUBT and (handler is None or not can_verify(record, handler))


def work_is_left(projection: Projection, handlers: Mapping[str, Handler]) -> bool:
    """Whether a drain must wait: a job is pending, processing, saving or retrying, or verify will be called for it."""
    if projection.count(State.PENDING, State.PROCESSING, State.SAVING, State.RETRYING):
        return True
    doubts = projection.by_state[State.IN_DOUBT]
    return any(not waits_for_person(record, handlers.get(record.kind)) for record in doubts)


def not_started(ended_by: EndedBy) -> AttemptResult:
    """Return the result of an attempt that was requested to end before its handler was called."""
    return AttemptResult(Outcome.CANCELLED if ended_by is EndedBy.CANCEL else Outcome.STOPPED, ended_by=ended_by)
