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
from trio_jobs._engine.decide import Ending, Verified
from trio_jobs._engine.directives import SessionLost
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.jobs import FINAL, Done, JobRecord, Limit, NotDone, Outcome, State, Unknown, Verdict
from trio_jobs._errors import SdkCallRefused
from trio_jobs._ports import Clock, Host
from trio_jobs._runtime.attempt import NEVER, Running, as_error, classify, log_fields
from trio_jobs._runtime.event_log import History
from trio_jobs._runtime.job_channel import Line
from trio_jobs._runtime.job_context import AsyncJobContext, Desk, JobContext

__all__ = ["AttemptGate", "Consumer"]

log: Final = logging.getLogger("trio_jobs.consumer")


class AttemptGate(Protocol):
    """What stands between two attempts (`_queue.gate`)."""

    def is_open(self) -> bool: ...

    async def wait(self) -> None: ...

    async def make_usable(self) -> bool: ...

    async def pace(self) -> None: ...

    def call_ended(self) -> None: ...

    def attempt_ended(self, *, session_lost: bool) -> None: ...


class Consumer:
    """Takes jobs from `line` to `host`.

    gate: passed before each attempt. desk: where handlers' wishes go. strict_order: nobody passes the job at the head.
    watch: called with an attempt that has a limit. verify_later: called with a job in doubt and the seconds to let
    pass, after which it comes back through the line. chance: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        history: History,
        line: Line,
        host: Host,
        clock: Clock,
        handlers: Mapping[str, Handler],
        gate: AttemptGate,
        desk: Desk,
        strict_order: bool,
        watch: Callable[[Running], None],
        verify_later: Callable[[JobRecord, float], None],
        chance: Callable[[], float],
    ) -> None:
        self._history = history
        self._line = line
        self._host = host
        self._clock = clock
        self._handlers = handlers
        self._gate = gate
        self._desk = desk
        self._strict_order = strict_order
        self._watch = watch
        self._verify_later = verify_later
        self._chance = chance
        self.current: Running | None = None
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
        gate = self._gate
        if not gate.is_open():
            await gate.wait()
        record = await self._line.receive()
        while not gate.is_open() and self._history.holds(record):  # something changed while the line was empty
            self._line.put_back(record)  # where it can be seen, cancelled, and expire as all others can
            await gate.wait()
            record = await self._line.receive()
        self._line.leave()
        if not self._history.holds(record):
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
            while record.state not in FINAL and self._history.holds(record):
                self._touched = trio.Event()
                if record.state is State.PENDING:
                    await self._gate.wait()
                    await self._attempt(record)
                elif record.state is not State.IN_DOUBT:
                    assert record.due_at is not None
                    if not await self._touched_within(record.due_at - self._clock.now()):
                        events = decide.due(record, self._clock.now(), self._history.next_seq)
                        if events:  # it may have moved on in the very moment in which it came due
                            self._history.record(events)
                elif not _can_be_asked(record, handler):
                    await self._touched.wait()
                elif not await self._touched_within(handler.settle_after):
                    await self._gate.wait()
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
        history = self._history
        handler = self._handlers[record.kind]
        events = decide.start(record, handler.enters_at_start, self._clock.now(), history.next_seq)
        if not events:
            return
        history.record(events)
        if record.state is not State.PROCESSING:
            return  # it expired instead
        running = self.current = Running(record, handler, trio.CancelScope())
        try:
            if history.durable and not handler.rules.idempotent:
                with running.step_aside():
                    await history.committed(record.last_seq, record)
                if not history.holds(record):
                    return  # it was begun at once, and then its submit was taken back
            ending = await self._ask_first(running) if self._must_ask_first(record, handler) else None
            passing = None
            if ending is None:
                ending, passing = await self._call_within_limits(running)
            self._gate.attempt_ended(session_lost=running.session_lost)
            answer = None
            if decide.asks_verify(record, ending, handler.rules):
                answer = await self._ask(running, handler.settle_after)
            self._end(record, handler, ending, answer)
            if passing is not None:
                raise passing
        finally:
            self._over()
        if record.doubt is not None:
            await self._look_after_doubt(record, handler)

    def _context(self, running: Running) -> JobContext | AsyncJobContext:
        kind = AsyncJobContext if running.handler.is_async else JobContext
        return kind(running, self._desk, self._token)

    def _must_ask_first(self, record: JobRecord, handler: Handler) -> bool:
        """An earlier attempt was in the SDK, here or, as far as anybody knows, in an earlier process: not without
        asking."""
        rules = handler.rules
        return rules.verifies and not rules.idempotent and (record.acted or handler.verify_first)

    async def _ask_first(self, running: Running) -> Ending | None:
        """Ask verify before the handler is called. None: it may be called."""
        record, handler = running.record, running.handler
        if running.why is not None:
            return _not_begun(running.why)
        answer = await self._ask(running, self._left_to_settle(record, handler))
        if isinstance(answer.verdict, Done):
            return Ending(Outcome.ALREADY_DONE, answer.result, answer.problem)
        if isinstance(answer.verdict, Unknown) and answer.asked and handler.rules.on_doubt != "retry":
            return Ending(Outcome.UNVERIFIED)
        if not await self._is_ready(running):
            running.cancel(Limit.STOP)
        return None

    async def _call_within_limits(self, running: Running) -> tuple[Ending, BaseException | None]:
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

    def _set_limits(self, running: Running) -> None:
        handler, deadline_at = running.handler, running.record.deadline_at
        now = self._clock.monotonic()
        if handler.attempt_timeout != NEVER:
            running.limit_at = running.scope.deadline = now + handler.attempt_timeout
        if deadline_at is not None:
            deadline = now + max(deadline_at - self._clock.now(), 0)
            running.deadline_scope = trio.CancelScope(deadline=deadline)
            if deadline < running.limit_at:
                running.limit_at, running.limit = deadline, Limit.DEADLINE
        self._watch(running)

    async def _call_handler(self, running: Running) -> outcome.Value[Any] | outcome.Error:
        """What the handler returned or, if it is a plain one, raised; an async one raises it from here."""
        handler = running.handler
        args: tuple[Any, ...] = (handler.decode(running.record.payload),)  # its type may raise: not entered then
        running.entered = handler.enters_at_start
        if handler.takes_job:
            args += (self._context(running),)
        if not handler.is_async:
            return await self._host.call(_plain(handler, args))
        if handler.takes_sdk:
            args = (self._host.handle(lambda: self._enter(running), self._gate.call_ended), *args)
        return outcome.Value(await _theirs(handler.fn, *args))

    async def _enter(self, running: Running) -> None:
        """Before each call of an async handler: from the first on its attempt has entered the SDK."""
        await self._gate.pace()
        self._refuse_if_over(running)
        record, history = running.record, self._history
        events = decide.enter(record, self._clock.now(), history.next_seq)
        if events:
            history.record(events)
            if history.durable and not running.handler.rules.idempotent:
                await history.committed(record.last_seq)
                self._refuse_if_over(running)
        running.entered = True

    def _refuse_if_over(self, running: Running) -> None:
        if self.current is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; its SDK handle takes no more calls")

    def _end(self, record: JobRecord, handler: Handler, ending: Ending, answer: Verified | None) -> None:
        history = self._history
        events = decide.end(record, ending, handler.rules, self._clock.now(), self._chance(), history.next_seq, answer)
        if events:
            history.record(events)
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
        if handler.settle_after:
            self._verify_later(record, handler.settle_after)
        else:
            await self._gate.wait()
            await self._settle(record)

    async def _settle(self, record: JobRecord) -> None:
        """Ask verify about a job in doubt that has settled, and act on what it says."""
        if record.doubt is None or record.doubt.inside:
            return  # settled by somebody meanwhile
        handler = self._handlers[record.kind]
        running = self.current = Running(record, handler, trio.CancelScope())
        try:
            answer = await self._ask(running)
        finally:
            self._over()
        if not answer.asked:
            return
        events = decide.verified(
            record, answer, handler.rules, self._clock.now(), self._chance(), self._history.next_seq
        )
        self._history.record(events)
        await self._look_after_doubt(record, handler)

    async def _ask(self, running: Running, settle_for: float = 0.0) -> Verified:
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
            return Verified(Unknown(), asked=False)
        running.limit_at = self._clock.monotonic() + handler.verify_timeout
        self._watch(running)
        result = await self._call_verify(running, verify)
        late = self._clock.monotonic() > running.limit_at
        running.limit_at = NEVER
        self._gate.call_ended()
        verdict: Verdict = Unknown()
        if result is None and running.stopped:
            return Verified(verdict, asked=False)
        if result is None or late:
            log.warning(
                "job %s: verify did not answer within %g s", record.id, handler.verify_timeout, extra=log_fields(record)
            )
        elif isinstance(result, outcome.Error):
            if isinstance(result.error, KeyboardInterrupt):
                raise result.error
            log.warning("job %s: verify raised %s", record.id, as_error(result.error).type, extra=log_fields(record))
            if isinstance(result.error, SessionLost):
                self._gate.attempt_ended(session_lost=True)
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
            return Verified(verdict, body, problem)
        return Verified(verdict)

    async def _is_ready(self, running: Running) -> bool:
        """Before a further call of an attempt: the SDK open and rested. False: the attempt is to end.

        A session is opened whatever becomes of the attempt (breaking off its opening would give up the host), unless
        the queue stops; the rest is cut short.
        """
        usable = not running.stopped and await self._gate.make_usable()
        with running.step_aside():
            await self._gate.pace()
        return usable and not running.stopped

    def _left_to_settle(self, record: JobRecord, handler: Handler) -> float:
        """Seconds until `settle_after` has passed since the last attempt ended: now, as far as anybody knows, where
        that was in an earlier process."""
        ended_at = next((a.ended_at for a in reversed(record.attempts) if a.ended_at is not None), None)
        if ended_at is None:
            return handler.settle_after
        return max(handler.settle_after - max(self._clock.now() - ended_at, 0.0), 0.0)

    async def _call_verify(
        self, running: Running, verify: Callable[..., Any]
    ) -> outcome.Value[Any] | outcome.Error | None:
        handler, context = running.handler, self._context(running)
        if not handler.verify_is_async:
            takes_sdk = handler.takes_sdk
            return await self._host.call(lambda sdk: verify(sdk, context) if takes_sdk else verify(context))

        async def enter() -> None:
            await self._gate.pace()
            if self.current is not running or scope.cancel_called:
                raise SdkCallRefused("this verify is over; its SDK handle takes no more calls")

        scope = running.step_aside(handler.verify_timeout)
        handle = self._host.handle(enter, self._gate.call_ended)
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


def _not_begun(ended_by: Limit) -> Ending:
    """The end was asked for while the start was committed, or verify ran: not entered."""
    return Ending(Outcome.CANCELLED if ended_by is Limit.CANCEL else Outcome.STOPPED, ended_by=ended_by)


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
