"""The consumer: the one task that takes jobs from the line, one by one, and brings each attempt to its end.

What must hold at every await here: the job in hand has a state that says where it is, since Cancelled may come out of
any of them. So the start is recorded before anything is awaited after `receive`, and the end before anything is
awaited after the handler.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import outcome
import trio

from trio_jobs._engine import decide
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.directives import SessionLost
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.jobs import FINAL, Done, EndedBy, JobRecord, NotDone, Outcome, State, Unknown, Verdict
from trio_jobs._errors import SdkCallRefused
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import NEVER, RunningAttempt, as_error, classify, log_fields
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.job_context import AsyncJobContext, JobContext, Recorder

__all__ = ["AttemptGate", "Consumer"]

log: Final = logging.getLogger("trio_jobs.consumer")


class AttemptGate(Protocol):
    """What stands between two attempts (`_queue.sessions`)."""

    def is_open(self) -> bool: ...

    async def wait(self) -> None: ...

    async def make_usable(self) -> bool: ...

    async def pace(self) -> None: ...

    def call_ended(self) -> None: ...

    def attempt_ended(self, *, session_lost: bool) -> None: ...


class Consumer:
    """Takes jobs from `channel` to `executor`.

    gate: passed before each attempt. desk: where handlers' wishes go. strict_order: nobody passes the job at the head.
    watch: called with an attempt that has a limit. verify_later: called with a job in doubt and the seconds to let
    pass, after which it comes back through the line. chance: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        channel: JobChannel,
        executor: SdkExecutor,
        clock: Clock,
        handlers: Mapping[str, Handler],
        sessions: AttemptGate,
        recorder: Recorder,
        strict_order: bool,
        watch: Callable[[RunningAttempt], None],
        verify_later: Callable[[JobRecord, float], None],
        chance: Callable[[], float],
    ) -> None:
        self._event_log = event_log
        self._channel = channel
        self._executor = executor
        self._clock = clock
        self._handlers = handlers
        self._sessions = sessions
        self._recorder = recorder
        self._strict_order = strict_order
        self._watch = watch
        self._verify_later = verify_later
        self._chance = chance
        self.current: RunningAttempt | None = None
        self.holding: JobRecord | None = None
        """The job that nobody passes, in strict order."""
        self.hold_first: list[JobRecord] = []
        """Restored jobs that were at the head of the line when the queue stopped."""
        self._between: trio.Event | None = None
        self._touched = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        for record in self.hold_first:
            await self._hold(record)
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """One job from the line to the end of an attempt (or of a verify). Cancelled while waiting: none was taken."""
        sessions = self._sessions
        if not sessions.is_open():
            await sessions.wait()
        record = await self._channel.receive()
        while not sessions.is_open() and self._event_log.contains(record):  # something changed while the line was empty
            self._channel.unreceive(record)  # where it can be seen, cancelled, and expire as all others can
            await sessions.wait()
            record = await self._channel.receive()
        self._channel.received()
        if not self._event_log.contains(record):
            return  # its submit was taken back while it was on its way here
        if self._strict_order:
            await self._hold(record)
        elif record.state is State.IN_DOUBT:
            await self._settle(record)
        else:
            await self._attempt(record)

    def touch(self, record: JobRecord) -> None:
        """The job has moved on by itself: if it is the one that is held, look again."""
        if self.holding is record:
            self._touched.set()

    async def _hold(self, record: JobRecord) -> None:
        """Bring the job at the head to its end; nobody passes while it is to be tried again, or in doubt."""
        handler = self._handlers[record.kind]
        self.holding = record
        try:
            while record.state not in FINAL and self._event_log.contains(record):
                self._touched = trio.Event()
                if record.state is State.PENDING:
                    await self._sessions.wait()
                    await self._attempt(record)
                elif record.state is not State.IN_DOUBT:
                    assert record.due_at is not None
                    if not await self._touched_within(record.due_at - self._clock.now()):
                        events = decide.due(record, self._clock.now(), self._event_log.next_seq)
                        if events:  # it may have moved on in the very moment in which it came due
                            self._event_log.append(events)
                elif not _can_be_asked(record, handler):
                    await self._touched.wait()
                elif not await self._touched_within(handler.verify_delay):
                    await self._sessions.wait()
                    await self._settle(record)
        finally:
            self.holding = None

    async def _touched_within(self, seconds: float) -> bool:
        with trio.move_on_after(max(seconds, 0.0)) as scope:
            await self._touched.wait()
        return not scope.cancelled_caught

    async def between_attempts(self) -> None:
        """Return when no attempt is under way (and no verify). Cancelled: nothing is changed."""
        await trio.lowlevel.checkpoint()
        while self.current is not None:
            self._between = trio.Event()
            await self._between.wait()

    def _over(self) -> None:
        self.current = None
        if self._between is not None:
            self._between.set()

    async def _attempt(self, record: JobRecord) -> None:
        event_log = self._event_log
        handler = self._handlers[record.kind]
        events = decide.start(record, handler.enters_at_start, self._clock.now(), event_log.next_seq)
        if not events:
            return
        event_log.append(events)
        if record.state is not State.PROCESSING:
            return  # it expired instead
        running = self.current = RunningAttempt(record, handler, trio.CancelScope())
        try:
            if event_log.durable and not handler.rules.idempotent:
                with running.step_aside():
                    await event_log.committed(record.last_seq, record)
                if not event_log.contains(record):
                    return  # it was begun at once, and then its submit was taken back
            ending = await self._ask_first(running) if self._must_ask_first(record, handler) else None
            passing = None
            if ending is None:
                ending, passing = await self._call_within_limits(running)
            self._sessions.attempt_ended(session_lost=running.session_lost)
            answer = None
            if decide.asks_verify(record, ending, handler.rules):
                answer = await self._ask(running, handler.verify_delay)
            self._end(record, handler, ending, answer)
            if passing is not None:
                raise passing
        finally:
            self._over()
        if record.doubt is not None:
            await self._look_after_doubt(record, handler)

    def _context(self, running: RunningAttempt) -> JobContext | AsyncJobContext:
        kind = AsyncJobContext if running.handler.is_async else JobContext
        return kind(running, self._recorder, self._token)

    def _must_ask_first(self, record: JobRecord, handler: Handler) -> bool:
        """An earlier attempt was in the SDK, here or, as far as anybody knows, in an earlier process: not without
        asking."""
        rules = handler.rules
        return rules.verifies and not rules.idempotent and (record.may_have_acted or handler.verify_first)

    async def _ask_first(self, running: RunningAttempt) -> AttemptResult | None:
        """Ask verify before the handler is called. None: it may be called."""
        record, handler = running.record, running.handler
        if running.why is not None:
            return _not_begun(running.why)
        answer = await self._ask(running, self._left_to_settle(record, handler))
        if isinstance(answer.verdict, Done):
            return AttemptResult(Outcome.ALREADY_DONE, answer.result, answer.problem)
        if isinstance(answer.verdict, Unknown) and answer.asked and handler.rules.on_doubt != "retry":
            return AttemptResult(Outcome.UNVERIFIED)
        if not await self._is_ready(running):
            running.cancel(EndedBy.STOP)
        return None

    async def _call_within_limits(self, running: RunningAttempt) -> tuple[AttemptResult, BaseException | None]:
        """What the attempt came to; and what must go on from here, if anything.

        The except stands outside the scopes: an error from a handler's cleanup goes through them in a group.
        """
        if running.why is not None:
            return _not_begun(running.why), None
        if running.handler.attempt_timeout != NEVER or running.record.deadline_at is not None:
            self._set_limits(running)
        result: outcome.Value[Any] | outcome.Error | None = None
        try:
            if running.deadline_scope is None:
                with running.scope:
                    result = await self._call_handler(running)
            else:
                with running.deadline_scope, running.scope:
                    result = await self._call_handler(running)
        except BaseException as error:
            result = outcome.Error(error)
        late = running.limit_at != NEVER and self._clock.monotonic() > running.limit_at
        return classify(running, result, late)

    def _set_limits(self, running: RunningAttempt) -> None:
        handler, deadline_at = running.handler, running.record.deadline_at
        now = self._clock.monotonic()
        if handler.attempt_timeout != NEVER:
            running.limit_at = running.scope.deadline = now + handler.attempt_timeout
        if deadline_at is not None:
            deadline = now + max(deadline_at - self._clock.now(), 0)
            running.deadline_scope = trio.CancelScope(deadline=deadline)
            if deadline < running.limit_at:
                running.limit_at, running.limit = deadline, EndedBy.DEADLINE
        self._watch(running)

    async def _call_handler(self, running: RunningAttempt) -> outcome.Value[Any] | outcome.Error:
        """What the handler returned or, if it is a plain one, raised; an async one raises it from here."""
        handler = running.handler
        args: tuple[Any, ...] = (handler.decode(running.record.payload),)  # its type may raise: not entered then
        running.entered = handler.enters_at_start
        if handler.takes_job:
            args += (self._context(running),)
        if not handler.is_async:
            return await self._executor.call(_plain(handler, args))
        if handler.takes_sdk:
            args = (self._executor.handle(lambda: self._enter(running), self._sessions.call_ended), *args)
        return outcome.Value(await _theirs(handler.fn, *args))

    async def _enter(self, running: RunningAttempt) -> None:
        """Before each call of an async handler: from the first on its attempt has entered the SDK."""
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
        if self.current is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; its SDK handle takes no more calls")

    def _end(self, record: JobRecord, handler: Handler, ending: AttemptResult, answer: VerifyAnswer | None) -> None:
        event_log = self._event_log
        events = decide.end(
            record, ending, handler.rules, self._clock.now(), self._chance(), event_log.next_seq, answer
        )
        if events:
            event_log.append(events)
        else:
            log.warning(
                "job %s: its call returned (%s) after the job was settled",
                record.id,
                ending.outcome,
                extra=log_fields(record),
            )

    # verify

    async def _look_after_doubt(self, record: JobRecord, handler: Handler) -> None:
        """If the job has just come into doubt, ask verify, now or when it has settled. In strict order `_hold` does."""
        if self._strict_order or not _can_be_asked(record, handler):
            return
        if handler.verify_delay:
            self._verify_later(record, handler.verify_delay)
        else:
            await self._sessions.wait()
            await self._settle(record)

    async def _settle(self, record: JobRecord) -> None:
        """Ask verify about a job in doubt that has settled, and act on what it says."""
        if record.doubt is None or record.doubt.inside:
            return  # settled by somebody meanwhile
        handler = self._handlers[record.kind]
        running = self.current = RunningAttempt(record, handler, trio.CancelScope())
        try:
            answer = await self._ask(running)
        finally:
            self._over()
        if not answer.asked:
            return
        events = decide.verified(
            record, answer, handler.rules, self._clock.now(), self._chance(), self._event_log.next_seq
        )
        self._event_log.append(events)
        await self._look_after_doubt(record, handler)

    async def _ask(self, running: RunningAttempt, settle_for: float = 0.0) -> VerifyAnswer:
        """Verify's answer, `settle_for` seconds from now. Raising, overrunning, answering something else: Unknown.

        Not `asked`, if the queue stops before.
        """
        record, handler = running.record, running.handler
        verify = handler.verify
        assert verify is not None
        if settle_for:
            with running.step_aside():
                await trio.sleep(settle_for)
        if not await self._is_ready(running):
            return VerifyAnswer(Unknown(), asked=False)
        running.limit_at = self._clock.monotonic() + handler.verify_timeout
        self._watch(running)
        result = await self._call_verify(running, verify)
        late = self._clock.monotonic() > running.limit_at
        running.limit_at = NEVER
        self._sessions.call_ended()
        verdict: Verdict = Unknown()
        if result is None and running.stopped:
            return VerifyAnswer(verdict, asked=False)
        if result is None or late:
            log.warning(
                "job %s: verify did not answer within %g s", record.id, handler.verify_timeout, extra=log_fields(record)
            )
        elif isinstance(result, outcome.Error):
            if isinstance(result.error, KeyboardInterrupt):
                raise result.error
            log.warning("job %s: verify raised %s", record.id, as_error(result.error).type, extra=log_fields(record))
            if isinstance(result.error, SessionLost):
                self._sessions.attempt_ended(session_lost=True)
        elif isinstance(result.value, Done | NotDone | Unknown):
            verdict = result.value
        else:
            if inspect.iscoroutine(result.value):
                result.value.close()
            log.warning(
                "job %s: verify must answer Done, NotDone or Unknown, not %s",
                record.id,
                type(result.value),
                extra=log_fields(record),
            )
        if isinstance(verdict, Done):
            body, problem = encode_result(verdict.result)
            return VerifyAnswer(verdict, body, problem)
        return VerifyAnswer(verdict)

    async def _is_ready(self, running: RunningAttempt) -> bool:
        """Before a further call of an attempt: the SDK open and rested. False: the attempt is to end.

        A session is opened whatever becomes of the attempt (breaking off its opening would give up the host), unless
        the queue stops; the rest is cut short.
        """
        usable = not running.stopped and await self._sessions.make_usable()
        with running.step_aside():
            await self._sessions.pace()
        return usable and not running.stopped

    def _left_to_settle(self, record: JobRecord, handler: Handler) -> float:
        """Seconds until `verify_delay` has passed since the last attempt ended: now, as far as anybody knows, where
        that was in an earlier process."""
        ended_at = next((a.ended_at for a in reversed(record.attempts) if a.ended_at is not None), None)
        if ended_at is None:
            return handler.verify_delay
        return max(handler.verify_delay - max(self._clock.now() - ended_at, 0.0), 0.0)

    async def _call_verify(
        self, running: RunningAttempt, verify: Callable[..., Any]
    ) -> outcome.Value[Any] | outcome.Error | None:
        handler, context = running.handler, self._context(running)
        if not handler.verify_is_async:
            takes_sdk = handler.takes_sdk
            return await self._executor.call(lambda sdk: verify(sdk, context) if takes_sdk else verify(context))

        async def enter() -> None:
            await self._sessions.pace()
            if self.current is not running or scope.cancel_called:
                raise SdkCallRefused("this verify is over; its SDK handle takes no more calls")

        scope = running.step_aside(handler.verify_timeout)
        handle = self._executor.handle(enter, self._sessions.call_ended)
        args = (handle, context) if handler.takes_sdk else (context,)
        result: outcome.Value[Any] | outcome.Error | None = None
        try:
            with scope:
                result = outcome.Value(await _theirs(verify, *args))
        except BaseException as error:
            if isinstance(error, trio.Cancelled) and trio.current_effective_deadline() == -NEVER:
                raise
            result = outcome.Error(error)
        return result


def _not_begun(ended_by: EndedBy) -> AttemptResult:
    """The end was asked for while the start was committed, or verify ran: not entered."""
    return AttemptResult(Outcome.CANCELLED if ended_by is EndedBy.CANCEL else Outcome.STOPPED, ended_by=ended_by)


def _can_be_asked(record: JobRecord, handler: Handler) -> bool:
    """Is the job in a doubt that verify may settle, and has not been asked about?"""
    doubt = record.doubt
    return doubt is not None and not (doubt.inside or doubt.asked) and handler.rules.verifies


def _plain(handler: Handler, args: tuple[Any, ...]) -> Callable[[Any], Any]:
    """A plain handler as the host calls it: with the SDK."""
    fn = handler.fn
    return (lambda sdk: fn(sdk, *args)) if handler.takes_sdk else (lambda sdk: fn(*args))


@trio.lowlevel.disable_ki_protection
async def _theirs(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Other people's code can be interrupted by Ctrl-C; the consumer's own steps cannot."""
    return await fn(*args)
