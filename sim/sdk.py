"""The SDK as handlers see it, for a thread of its own and for Trio, the hosts around it, and the service.

`LoopThreadExecutor` is the real `ThreadExecutor` whose thread is a task of Trio's: a plain handler runs in one step,
and what it would have taken passes in virtual time before its call returns. Nobody can tell the difference, except that
it can be played again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import outcome
import trio

from sim.machine import Machine
from sim.plan import KINDS, STUCK_AFTER, WAITS, Act, KindRules
from sim.world import Call, luck
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, NotDone, Unknown, Verdict
from trio_jobs._engine.retry import Retry
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._runtime.job_context import AsyncJobContext, JobContext
from trio_jobs._service import Service

__all__ = ["sim_service"]

VERIFY_TIMEOUT = 1.0


#: Handlers know nothing of a machine, and to read their signatures takes a tenth of a schedule's time
_made: dict[bool, dict[str, Handler]] = {}


def sim_service(machine: Machine, *, calm: bool) -> Service:
    """The service of a plan, on one machine. calm: the SDK opens at once, and verify tells the truth."""
    plan = machine.world.plan
    sdk = _Sdk(machine, 0.0 if calm else plan.open_failures, calm=calm)
    if plan.thread:
        service = Service(executor=lambda nursery: LoopThreadExecutor(sdk.session, machine), **plan.settings)
    else:
        service = Service(async_sdk=sdk.async_session, **plan.settings)
    known = _made.get(plan.thread)
    if known is None:
        _register(service, plan.thread)
        _made[plan.thread] = dict(service._handlers)
    else:
        service._handlers.update(known)
    return service


def _register(service: Service, thread: bool) -> None:
    for kind, rules in KINDS.items():
        fn, verify = _handler(thread, rules)
        service.handler(
            kind=kind,
            attempt_timeout=rules.timeout,
            stuck_after=STUCK_AFTER,
            retry=Retry(rules.max_retries, waits=WAITS),
            idempotent=rules.idempotent,
            verify=verify if rules.verifies else None,
            verify_timeout=VERIFY_TIMEOUT,
            verify_delay=rules.verify_delay,
            on_doubt=rules.on_doubt,
        )(fn)


def _handler(thread: bool, rules: KindRules) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions of their own for each kind: one function is one handler."""
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
    """Opens sessions."""

    def __init__(self, machine: Machine, open_failures: float, *, calm: bool) -> None:
        self.machine = machine
        self.world = machine.world
        self.calm = calm
        self._open_failures = open_failures

    @contextmanager
    def session(self) -> Iterator[_Session]:
        machine, world = self.machine, self.world
        if not machine.alive:
            raise OSError("the machine is dead")
        number = world.new_session(machine.number)
        if luck(world.chance, self._open_failures):
            machine.script.append((0.01, lambda: world.not_opened(number)))
            raise OSError("the SDK does not answer")
        machine.script.append((0.01, lambda: world.opened(number, machine.number)))
        yield _Session(self, number)
        if machine.alive:
            world.closing(number, machine.number)
            machine.script.append((0.005, lambda: world.closed(number, machine.number)))

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[_Session]:
        machine, world = self.machine, self.world
        if not machine.alive:
            raise OSError("the machine is dead")
        number = world.new_session(machine.number)
        fails = luck(world.chance, self._open_failures)
        try:
            await trio.sleep(0.01)
            if fails:
                raise OSError("the SDK does not answer")
        except BaseException:
            if machine.alive:
                world.not_opened(number)
            raise
        if machine.alive:
            world.opened(number, machine.number)
        try:
            yield _Session(self, number)
        finally:
            if machine.alive:
                world.closing(number, machine.number)
                with trio.CancelScope(shield=True):
                    await machine.sleep(0.005)
                if machine.alive:
                    world.closed(number, machine.number)


class _Session:
    def __init__(self, sdk: _Sdk, number: int) -> None:
        self._sdk = sdk
        self._machine = sdk.machine
        self._world = sdk.world
        self._number = number

    def _begin(self, job: JobContext | AsyncJobContext, payload: int) -> tuple[Call, Act] | None:
        """None on a dead machine."""
        world, machine = self._world, self._machine
        if not machine.alive:
            return None
        world.numbers[job.id] = payload
        call = world.enter_call(machine.number, self._number, job.id, job.kind, job.attempt, payload)
        assert call.act is not None
        return call, call.act

    # in Trio

    async def acall(self, job: AsyncJobContext, payload: int) -> str:
        begun = self._begin(job, payload)
        if begun is None:
            return "nobody sees this"
        call, act = begun
        how = "cancelled"
        try:
            await self._do(call, act)
            how = "returned"
        except Exception:
            how = "raised"
            raise
        finally:
            if self._machine.alive:
                self._world.leave(call, how)
        return f"voucher {payload}"

    async def _do(self, call: Call, act: Act) -> None:
        machine = self._machine
        await machine.sleep(act.before)
        if act.kind == "slow":
            await machine.sleep(act.long)
        elif act.kind == "hang":
            with trio.CancelScope(shield=True):
                await machine.sleep(act.long)
        if books(act) and machine.alive:
            self._world.book(call)
        if act.kind in ("return", "late_error"):
            await machine.sleep(act.after)
        raise_for(act)

    async def averify(self, job: AsyncJobContext) -> Verdict:
        machine, world = self._machine, self._world
        if not machine.alive:
            return Unknown()
        call = world.enter_verify(machine.number, self._number, job.id, job.kind, job.attempt)
        seconds, answer = self._answer(job.id)
        how = "cancelled"
        try:
            await machine.sleep(seconds)
            how = said(answer)
        finally:
            if machine.alive:
                world.leave(call, how)
        return cast("Verdict", answered(answer))

    # on a thread: what it takes passes behind the call

    def call(self, job: JobContext | AsyncJobContext, payload: int) -> str:
        begun = self._begin(job, payload)
        if begun is None:
            return "nobody sees this"
        call, act = begun
        script, world = self._machine.script, self._world
        long = act.long if act.kind in ("slow", "hang") else 0.0
        script.append((act.before + long, (lambda: world.book(call)) if books(act) else (lambda: None)))
        returns = act.kind in ("return", "slow", "hang")
        script.append((act.after, lambda: world.leave(call, "returned" if returns else "raised")))
        raise_for(act)
        return f"voucher {payload}"

    def verify(self, job: JobContext | AsyncJobContext) -> Verdict:
        machine, world = self._machine, self._world
        if not machine.alive:
            return Unknown()
        call = world.enter_verify(machine.number, self._number, job.id, job.kind, job.attempt)
        seconds, answer = self._answer(job.id)
        # an answer that comes too late counts for nothing
        how = said(answer) if seconds < VERIFY_TIMEOUT else "cancelled"
        machine.script.append((seconds, lambda: world.leave(call, how)))
        return cast("Verdict", answered(answer))

    def _answer(self, job: str) -> tuple[float, Any]:
        """Seconds it takes, and what it says."""
        world = self._world
        mistake = "" if self._sdk.calm else world.plan.mistake(world.chance)
        if mistake == "raise":
            return 0.01, OSError("cannot look")
        if mistake == "nonsense":
            return 0.01, "yes"
        seconds = 2.0 if mistake == "slow" else world.chance.choice((0.0, 0.01, 0.2))
        return seconds, Done(f"found {job[-6:]}") if world.booked.get(job) else NotDone()


def books(act: Act) -> bool:
    return act.kind in ("return", "late_error", "slow", "hang")


def raise_for(act: Act) -> None:
    """What a handler that has called the SDK raises, if it does."""
    match act.kind:
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


def said(answer: Any) -> str:
    if isinstance(answer, Done):
        return "Done"
    return "NotDone" if isinstance(answer, NotDone) else "Unknown"


def answered(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Inbox:
    """The thread's `SimpleQueue`."""

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
    """The real one; its thread is a task."""

    def __init__(self, factory: Callable[[], Any] | None, machine: Machine) -> None:
        super().__init__(factory)
        self._box = _Inbox()
        self._inbox = cast("Any", self._box)
        self._machine = machine

    async def open(self) -> None:
        if self._thread is None:
            self._thread = cast("Any", self)
            self._machine.nursery.start_soon(self._live)
        await super().open()

    async def _live(self) -> None:
        while (work := await self._box.get()) is not None:
            result = outcome.capture(work)
            await self._pass_time()
            self._returned(result)
            if self._abandoned:
                break
        outcome.capture(self._leave)
        await self._pass_time()

    async def _pass_time(self) -> None:
        """What was called takes its time; then it has happened."""
        machine = self._machine
        script, machine.script = machine.script, []
        for seconds, then in script:
            await machine.sleep(seconds)
            if machine.alive:
                then()
