"""The simulated SDK, for a thread and for Trio, its executors, and the service.

`LoopThreadExecutor` is the real `ThreadExecutor` with a Trio task as its thread: a plain handler runs in one step, and
the time that it takes passes in virtual time before its call returns. For the queue there is no difference, and the
schedule can be repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import outcome
import trio

from sim.machine import Machine
from sim.observer import Call, happens
from sim.plan import KINDS, STUCK_AFTER, WAITS, CallBehaviour, KindRules
from sim.process import LoopProcessExecutor
from trio_jobs._call_report import CallReport
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, NotDone, Unknown, Verdict
from trio_jobs._engine.openings import Opening
from trio_jobs._engine.retry import Retry
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._interruption import Interruption
from trio_jobs._ports import Discard
from trio_jobs._runtime.job_context import AsyncJobContext, JobContext
from trio_jobs._sdk_call import SdkCall
from trio_jobs._service import Service, parts_of

__all__ = ["sim_service"]

VERIFY_TIMEOUT = 1.0

FOREVER = 10_000.0  #: virtual seconds; more than a schedule lasts


#: Handlers do not depend on the machine, and reading their signatures takes a tenth of a schedule's time
_handlers_by_thread: dict[bool, dict[str, Handler]] = {}


def sim_service(machine: Machine, *, calm: bool) -> Service:
    """The service of a plan on one machine.

    Args:
        machine: The machine.
        calm: The SDK always opens, and verify always answers correctly.
    """
    plan = machine.observer.plan
    sdk = _Sdk(machine, 0.0 if calm else plan.open_failures, calm=calm)
    save: Callable[[Any], Any] | None = None
    if plan.saves:
        save = _Session.save if plan.thread else _Session.asave
    alive: Callable[[Any], Any] | None = None
    if plan.alive_faults is not None:
        alive = _Session.alive if plan.thread else _Session.aalive
    if plan.thread:
        interrupt = _Session.interrupt if plan.interrupts else None
        service = Service(
            executor=lambda nursery: (
                LoopProcessExecutor(sdk.session, machine, calm=calm)
                if plan.kills
                else LoopThreadExecutor(sdk.session, machine)
            ),
            save=save,
            interrupt=interrupt,
            alive=alive,
            seat_lock=None,
            **plan.settings,
        )
    else:
        service = Service(async_sdk=sdk.async_session, save=save, alive=alive, seat_lock=None, **plan.settings)
    known = _handlers_by_thread.get(plan.thread)
    if known is None:
        _register(service, plan.thread)
        _handlers_by_thread[plan.thread] = dict(parts_of(service).handlers)
    else:
        parts_of(service).handlers.update(known)
    return service


def _register(service: Service, thread: bool) -> None:
    for kind, rules in KINDS.items():
        fn, verify = _handler(thread, rules)
        service.handler(
            kind=kind,
            attempt_timeout=rules.timeout,
            stuck_after=STUCK_AFTER,
            retry=Retry(rules.max_retries, waits=WAITS) if rules.consents else None,
            idempotent=rules.idempotent,
            verify=verify if rules.verifies else None,
            verify_timeout=VERIFY_TIMEOUT,
            verify_delay=rules.verify_delay,
            on_doubt=rules.on_doubt,
        )(fn)


def _handler(thread: bool, rules: KindRules) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A new handler and verify for a kind, since a function can be registered only once."""
    if not thread:

        async def in_trio(session: Any, payload: int, job: AsyncJobContext) -> str:
            if rules.steps:
                return cast("str", await job.step("book", session.acall, job, payload))
            return cast("str", await session.acall(job, payload))

        async def verify_in_trio(session: Any, job: AsyncJobContext) -> Verdict:
            return cast("Verdict", await session.averify(job))

        return in_trio, verify_in_trio
    if rules.calls:

        async def calls(sdk: Any, payload: int, job: AsyncJobContext) -> str:
            if not rules.steps:
                return cast("str", await sdk.call(lambda session: session.call(job, payload)))
            return cast("str", await job.step("book", sdk.call, lambda session: session.call(job, payload)))

        async def verify_by_call(sdk: Any, job: AsyncJobContext) -> Verdict:
            return cast("Verdict", await sdk.call(lambda session: session.verify(job)))

        return calls, verify_by_call

    def plain(session: Any, payload: int, job: JobContext) -> str:
        return cast("str", session.call(job, payload))

    def verify(session: Any, job: JobContext) -> Verdict:
        return cast("Verdict", session.verify(job))

    return plain, verify


class _Sdk:
    """Opens sessions of the simulated SDK."""

    def __init__(self, machine: Machine, open_failures: float, *, calm: bool) -> None:
        self.machine = machine
        self.observer = machine.observer
        self.calm = calm
        self._open_failures = open_failures

    @contextmanager
    def session(self) -> Iterator[_Session]:
        machine, observer = self.machine, self.observer
        if not machine.alive:
            raise OSError("the machine is dead")
        number = observer.new_session(machine.number)
        if happens(observer.rng, self._open_failures):
            machine.script.append((0.01, lambda: observer.not_opened(number)))
            raise OSError("the SDK does not answer")
        machine.script.append((0.01, lambda: observer.opened(number, machine.number)))
        try:
            yield _Session(self, number)
        finally:
            if machine.alive and number not in observer.dead_sessions:
                observer.closing(number, machine.number)
                fails = self._close_fails()
                machine.script.append((0.005, lambda: observer.closed(number, machine.number, failed=fails)))
                if fails:
                    raise OSError("the SDK cannot be closed")

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[_Session]:
        machine, observer = self.machine, self.observer
        if not machine.alive:
            raise OSError("the machine is dead")
        number = observer.new_session(machine.number)
        fails = happens(observer.rng, self._open_failures)
        try:
            await trio.sleep(0.01)
            if fails:
                raise OSError("the SDK does not answer")
        except BaseException:
            if machine.alive:
                observer.not_opened(number)
            raise
        if machine.alive:
            observer.opened(number, machine.number)
        try:
            yield _Session(self, number)
        finally:
            if machine.alive:
                observer.closing(number, machine.number)
                fails = self._close_fails()
                with trio.CancelScope(shield=True):
                    await machine.sleep(0.005)
                if machine.alive:
                    observer.closed(number, machine.number, failed=fails)
                if fails:
                    raise OSError("the SDK cannot be closed")

    def _close_fails(self) -> bool:
        return not self.calm and happens(self.observer.rng, self.observer.plan.close_failures)


class _Session:
    def __init__(self, sdk: _Sdk, number: int) -> None:
        self._sdk = sdk
        self._machine = sdk.machine
        self._observer = sdk.observer
        self.number = self._number = number

    def _begin(self, job: JobContext | AsyncJobContext, payload: int) -> tuple[Call, CallBehaviour] | None:
        """Record the entry of a call; None on a dead machine."""
        observer, machine = self._observer, self._machine
        if not machine.alive:
            return None
        observer.numbers[job.id] = payload
        call = observer.enter_call(machine.number, self._number, job.id, job.kind, job.attempt, payload)
        assert call.behaviour is not None
        return call, call.behaviour

    # in Trio

    async def acall(self, job: AsyncJobContext, payload: int) -> str:
        entry = self._begin(job, payload)
        if entry is None:
            return "without effect"
        call, behaviour = entry
        how = "cancelled"
        try:
            await self._do(call, behaviour)
            how = "returned"
        except Exception:
            how = "raised"
            raise
        finally:
            if self._machine.alive:
                self._observer.leave(call, how)
        return f"voucher {payload}"

    async def _do(self, call: Call, behaviour: CallBehaviour) -> None:
        machine = self._machine
        await machine.sleep(behaviour.before)
        if behaviour.kind == "slow":
            await machine.sleep(behaviour.long)
        elif behaviour.kind == "hang":
            with trio.CancelScope(shield=True):
                await machine.sleep(behaviour.long)
        if is_booking(behaviour) and machine.alive:
            self._observer.book(call)
        if behaviour.kind in ("return", "late_error"):
            await machine.sleep(behaviour.after)
        raise_for(behaviour)

    async def averify(self, job: AsyncJobContext) -> Verdict:
        machine, observer = self._machine, self._observer
        if not machine.alive:
            return Unknown()
        call = observer.enter_verify(machine.number, self._number, job.id, job.kind, job.attempt)
        seconds, answer = self._answer(job.id)
        how = "cancelled"
        if isinstance(answer, Exception):
            observer.dirty_sessions.add(self._number)
        try:
            await machine.sleep(seconds)
            how = verdict_name(answer)
        finally:
            if machine.alive:
                observer.leave(call, how)
        return cast("Verdict", unwrap_answer(answer))

    # on a thread: the time of a call passes after its function has returned

    def call(self, job: JobContext | AsyncJobContext, payload: int) -> str:
        entry = self._begin(job, payload)
        if entry is None:
            return "without effect"
        call, behaviour = entry
        script, observer = self._machine.script, self._observer
        long = behaviour.long if behaviour.kind in ("slow", "hang") else 0.0
        if long and observer.plan.interrupts:
            if KINDS[job.kind].timeout is not None:
                long = FOREVER
            self._machine.freed = trio.Event()
            self._machine.hanging = lambda: observer.leave(call, "raised")
        after = behaviour.after
        if observer.plan.kills and behaviour.before < 0.01:  # it hangs after it has booked
            after, long = after + long, 0.0
        script.append(
            (behaviour.before + long, (lambda: observer.book(call)) if is_booking(behaviour) else (lambda: None))
        )
        returns = behaviour.kind in ("return", "slow", "hang")
        script.append((after, lambda: observer.leave(call, "returned" if returns else "raised")))
        raise_for(behaviour)
        return f"voucher {payload}"

    def interrupt(self) -> None:
        """Free a call that hangs."""
        observer = self._observer
        if not self._machine.alive:
            return
        if not any(call.session == self._number and call.what not in ("open", "close") for call in observer.inside):
            observer.report("P1", f"an interruption hits {[call.what for call in observer.inside]} and not a call")
        observer.note("sdk", "is interrupted")
        self._machine.freed.set()

    def verify(self, job: JobContext | AsyncJobContext) -> Verdict:
        machine, observer = self._machine, self._observer
        if not machine.alive:
            return Unknown()
        call = observer.enter_verify(machine.number, self._number, job.id, job.kind, job.attempt)
        seconds, answer = self._answer(job.id)
        if isinstance(answer, Exception):
            observer.dirty_sessions.add(self._number)
        # an answer after the limit is ignored
        how = verdict_name(answer) if seconds < VERIFY_TIMEOUT else "cancelled"
        machine.script.append((seconds, lambda: observer.leave(call, how)))
        return cast("Verdict", unwrap_answer(answer))

    # whether the session works

    def alive(self) -> bool:
        machine, observer = self._machine, self._observer
        if not machine.alive:
            return True
        call = observer.enter_alive(machine.number, self._number)
        seconds, fault = self._alive_fault()
        how = "returned" if fault in ("", "hang") else fault  # an answer after the limit counts
        machine.script.append((seconds, lambda: observer.leave(call, how)))
        if fault == "raise":
            raise OSError("the connection is gone")
        return fault != "dead"

    async def aalive(self) -> bool:
        machine, observer = self._machine, self._observer
        if not machine.alive:
            return True
        call = observer.enter_alive(machine.number, self._number)
        seconds, fault = self._alive_fault()
        how = "cancelled"
        try:
            await machine.sleep(seconds)
            how = fault or "returned"
        finally:
            if machine.alive:
                observer.leave(call, how)
        if fault == "raise":
            raise OSError("the connection is gone")
        return fault != "dead"

    def _alive_fault(self) -> tuple[float, str]:
        """How many seconds an `alive` takes, and what it says but True."""
        observer = self._observer
        fault = "" if self._sdk.calm else observer.plan.alive_fault(observer.rng)
        return 45.0 if fault == "hang" else observer.rng.choice((0.0, 0.01, 0.2)), fault

    # saves

    def save(self) -> None:
        machine, observer, number = self._machine, self._observer, self._number
        if not machine.alive:
            return
        call = observer.enter_save(machine.number, number)
        seconds, fault = self._save_fault()
        if fault != "before":
            machine.script.append((seconds, lambda: observer.write(number, half=fault == "half")))
        raises = fault in ("before", "half", "after")
        machine.script.append((0.001, lambda: observer.leave(call, "raised" if raises else "returned")))
        if raises:
            raise OSError("the disk is full")

    async def asave(self) -> None:
        machine, observer, number = self._machine, self._observer, self._number
        if not machine.alive:
            return
        call = observer.enter_save(machine.number, number)
        seconds, fault = self._save_fault()
        how = "cancelled"
        try:
            with trio.CancelScope(shield=fault == "hang"):
                await machine.sleep(seconds)
            if fault != "before" and machine.alive:
                observer.write(number, half=fault == "half")
            if fault in ("before", "half", "after"):
                how = "raised"
                raise OSError("the disk is full")
            how = "returned"
        finally:
            if machine.alive:
                observer.leave(call, how)

    def _save_fault(self) -> tuple[float, str]:
        """How many seconds a save takes, and what it does wrong."""
        observer = self._observer
        fault = "" if self._sdk.calm else observer.plan.save_fault(observer.rng)
        seconds = {"slow": 1.2, "hang": 4.0}.get(fault, 0.0)
        return seconds or observer.rng.choice((0.0, 0.01, 0.2)), fault

    def _answer(self, job: str) -> tuple[float, Any]:
        """How many seconds a verify takes, and its answer."""
        observer = self._observer
        mistake = "" if self._sdk.calm else observer.plan.mistake(observer.rng)
        if mistake == "raise":
            return 0.01, OSError("cannot look")
        if mistake == "nonsense":
            return 0.01, "yes"
        slow = 4.0 if observer.plan.kills else 2.0  # a process that does not answer is killed
        seconds = slow if mistake == "slow" else observer.rng.choice((0.0, 0.01, 0.2))
        return seconds, Done(f"found {job[-6:]}") if observer.finds(job, self._number) else NotDone()


def is_booking(behaviour: CallBehaviour) -> bool:
    return behaviour.kind in ("return", "late_error", "slow", "hang")


def raise_for(behaviour: CallBehaviour) -> None:
    """Raise what the handler raises after the call, if anything."""
    match behaviour.kind:
        case "error" | "late_error":
            raise OSError("the SDK says no")
        case "retry_after":
            raise RetryAfter(0.3)
        case "snooze":
            raise Snooze(0.4)
        case "fail":
            raise Fail("it cannot be done")
        case "cancel":
            raise Cancel("it is not wanted any more")
        case "session_lost":
            raise SessionLost("the connection is gone")


def verdict_name(answer: Any) -> str:
    if isinstance(answer, Done):
        return "Done"
    return "NotDone" if isinstance(answer, NotDone) else "Unknown"


def unwrap_answer(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Inbox:
    """Replaces the `SimpleQueue` of the thread."""

    def __init__(self) -> None:
        self._items: deque[Callable[[], Any] | None] = deque()
        self._arrived = trio.Event()

    def put(self, work: Callable[[], Any] | None) -> None:
        self._items.append(work)
        self._arrived.set()

    async def get(self) -> Callable[[], Any] | None:
        while not self._items:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._items.popleft()


class LoopThreadExecutor(ThreadExecutor):
    """A `ThreadExecutor` with a task instead of a thread."""

    def __init__(self, factory: Callable[[], Any] | None, machine: Machine) -> None:
        super().__init__(factory)
        self._box = _Inbox()
        self._inbox = cast("Any", self._box)
        self._machine = machine
        self._current: SdkCall | None = None

    async def open(self, opening: Opening) -> None:
        if self._thread is None:
            self._thread = cast("Any", self)
            self._machine.nursery.start_soon(self._live)
        await super().open(opening)

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        await trio.lowlevel.checkpoint()
        if self._call_inside != number:
            return Interruption(was_inside=False)
        self._boundary.interrupted = number
        fn(self._sdk)
        return Interruption(was_inside=True)

    async def _live(self) -> None:
        while (work := await self._box.get()) is not None:
            result: outcome.Value[Any] | outcome.Error = outcome.capture(work)
            if await self._pass_time():
                result = outcome.Value(self._interrupted())
            self._returned(result)
            if self._abandoned:
                break
        self._leave(Discard("its call was abandoned") if self._abandoned else None)
        await self._pass_time()

    def _call(self, number: int, call: SdkCall) -> CallReport:
        self._current = call
        return super()._call(number, call)

    def _interrupted(self) -> CallReport:
        """Let the call raise that has already returned."""
        try:
            raise OSError("interrupted")
        except OSError as error:
            assert self._current is not None
            report, self._error = self._current.raised(error)
            return report

    async def _pass_time(self) -> bool:
        """Let the time of the call pass, then apply its effects. Returns whether an interruption has ended it."""
        machine = self._machine
        script, machine.script = machine.script, []
        hanging, machine.hanging = machine.hanging, None
        for seconds, then in script:
            if hanging is None:
                await machine.sleep(seconds)
            elif await machine.hang(seconds):
                if machine.alive:
                    hanging()
                return True
            hanging = None
            if machine.alive:
                then()
        return False
