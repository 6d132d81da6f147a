"""A handler whose every call into the SDK is seen, and may go wrong by plan.

The SDK is wrapped, not patched: many are objects of C or COM that take no attribute of ours. What a handler reaches
through it (`sdk.vouchers.create(...)`) is wrapped on the way; what calls give back is not. Each call is a *point*, by
its number in the attempt; a plan says at which point, before or after the call is made, what goes wrong.

A planned death is that of the process: nothing that this handler, a later attempt or a verify does after it reaches
the SDK, although tasks and threads need a moment to be cleared away.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import types
import uuid
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Literal

import attrs
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._executors.thread import SdkHandle
from trio_jobs.testing._virtual import at_work
from trio_jobs.testing.fakes import Blocker

__all__ = ["LAST", "Died", "Plan", "Point", "Watch", "watched"]

Fault = Literal["raise", "die", "slow", "hang", "cancel", "stop"]
Side = Literal["before", "after"]

#: What is looked at and not called: values
_VALUES: Final = (
    str, bytes, int, float, complex, bool, type(None), tuple, list, dict, set, frozenset, enum.Enum, decimal.Decimal,
    dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, type, types.ModuleType,
)  # fmt: skip


#: The name of the point behind all calls: the handler has returned, and nothing of it is recorded
LAST: Final = "the last"


class Died(BaseException):
    """The process is dead; nothing it does counts."""


@attrs.frozen
class Point:
    """number: of the call in its attempt, from 1. side: before or after it was made. name: of what was called."""

    number: int
    side: Side
    name: str

    def __str__(self) -> str:
        return f"{self.side} call {self.number}, {self.name}"


@attrs.frozen
class Plan:
    """One thing that goes wrong, once. at: where; or `checkpoint`, from 1, in the handler's own task."""

    fault: Fault
    at: Point | None = None
    checkpoint: int | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    hold: Blocker | None = None

    def __str__(self) -> str:
        where = f"at checkpoint {self.checkpoint}" if self.at is None else str(self.at)
        return f"{self.fault} {where}"


@attrs.define(eq=False)
class Watch:
    """One life of a process: what it has seen, and what is planned for it.

    returned: the attempts that did, as (job id, number of the attempt). points, checkpoints: of the first attempt.
    attempts: how often the handler began. verdicts: what verify answered, and what was there. on_death, on_cancel,
    on_stop: called when that is planned; the last two in Trio's thread.
    """

    plan: Plan | None = None
    on_death: Callable[[], None] = lambda: None
    on_cancel: Callable[[], None] = lambda: None
    on_stop: Callable[[], None] = lambda: None
    look: Callable[[], Any] = lambda: None
    returned: list[tuple[str, int]] = attrs.field(factory=list)
    points: list[Point] = attrs.field(factory=list)
    checkpoints: int = 0
    attempts: int = 0
    verdicts: list[tuple[Any, Any]] = attrs.field(factory=list)
    happened: bool = False
    dead: bool = False
    _number: int = 0

    def begin(self) -> None:
        self._refuse_if_dead()
        self.attempts += 1
        self._number = 0

    def call(self, name: str) -> Point:
        """A call begins: its point."""
        self._refuse_if_dead()
        self._number += 1
        return self.point(self._number, "before", name)

    def point(self, number: int, side: Side, name: str) -> Point:
        point = Point(number, side, name)
        if self.attempts == 1:
            self.points.append(point)
        return point

    def due(self, point: Point) -> Plan | None:
        """What goes wrong here."""
        plan = self.plan
        if self.happened or plan is None or plan.at is None:
            return None
        if (plan.at.number, plan.at.side) != (point.number, point.side):
            return None
        self.happened = True
        return plan

    def pass_in_call(self, point: Point) -> None:
        """Let go wrong what is planned for `point`, in a plain call: on the SDK's thread, or in Trio's."""
        plan = self.due(point)
        if plan is None:
            return
        work = at_work()
        if plan.fault == "slow":
            if work is not None:  # a plain call in Trio's thread holds up time itself
                work.nap(plan.seconds)
        elif plan.fault == "hang":
            if work is not None and plan.hold is not None:
                plan.hold.stand()
                self._refuse_if_dead()
        elif plan.fault in ("cancel", "stop"):
            ask = self.on_cancel if plan.fault == "cancel" else self.on_stop
            if work is None:
                ask()
            else:
                trio.from_thread.run_sync(ask, trio_token=work.token)
        else:
            self._raise(plan)

    async def pass_in_trio(self, point: Point) -> None:
        """The same in an asynchronous call."""
        plan = self.plan
        if plan is not None and plan.fault == "slow":
            if self.due(point) is not None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(plan.seconds)
        elif plan is not None and plan.fault == "hang":
            if self.due(point) is not None and plan.hold is not None:
                await plan.hold.astand()
                self._refuse_if_dead()
        else:
            self.pass_in_call(point)

    def _raise(self, plan: Plan) -> None:
        if plan.fault == "die":
            self.dead = True
            self.on_death()
            raise Died
        assert plan.error is not None
        raise plan.error

    def _refuse_if_dead(self) -> None:
        if self.dead:
            raise Died


class _Sdk:
    """Passes on whatever it is asked for. What is callable is a point."""

    def __init__(self, inner: Any, watch: Watch, path: str = "") -> None:
        object.__setattr__(self, "_trio_jobs_seen", (inner, watch, path))

    @property  # type: ignore[misc] # for isinstance, as mocks do it
    def __class__(self) -> Any:
        return type(object.__getattribute__(self, "_trio_jobs_seen")[0])

    def __getattr__(self, name: str) -> Any:
        inner, watch, path = object.__getattribute__(self, "_trio_jobs_seen")
        value = getattr(inner, name)
        full = f"{path}.{name}" if path else name
        if callable(value) and not isinstance(value, type):
            return _call(watch, full, value)
        return value if isinstance(value, _VALUES) else _Sdk(value, watch, full)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_trio_jobs_seen")[0], name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inner, watch, path = object.__getattribute__(self, "_trio_jobs_seen")
        return _call(watch, path or "the SDK itself", inner)(*args, **kwargs)


def _forward(name: str) -> Any:
    def method(self: Any, *args: Any) -> Any:
        inner, watch, path = object.__getattribute__(self, "_trio_jobs_seen")
        return _call(watch, f"{path}.{name}" if path else name, getattr(inner, name))(*args)

    return method


# looked up on the class by Python, so they cannot go through __getattr__
for _name in ("getitem", "setitem", "delitem", "contains", "iter", "len", "enter", "exit", "aenter", "aexit"):
    setattr(_Sdk, f"__{_name}__", _forward(f"__{_name}__"))


def _call(watch: Watch, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(fn):
            return acall(*args, **kwargs)
        point = watch.call(name)
        watch.pass_in_call(point)
        result = fn(*args, **kwargs)
        if inspect.isawaitable(result):
            return finish(point, result)
        watch.pass_in_call(watch.point(point.number, "after", name))
        return result

    async def acall(*args: Any, **kwargs: Any) -> Any:
        point = watch.call(name)
        await watch.pass_in_trio(point)
        return await finish(point, fn(*args, **kwargs))

    async def finish(point: Point, awaitable: Awaitable[Any]) -> Any:
        result = await awaitable
        await watch.pass_in_trio(watch.point(point.number, "after", name))
        return result

    return call


class _Handle:
    """What an async handler gets for an SDK on a thread."""

    def __init__(self, inner: SdkHandle, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self._inner.call(lambda sdk: fn(_Sdk(sdk, self._watch), *args))


def watched(handler: Handler, watch: Watch) -> Handler:
    """The same handler, under `watch`."""
    fn, takes_sdk, takes_job = handler.fn, handler.takes_sdk, handler.takes_job

    def wrap(args: tuple[Any, ...]) -> tuple[Any, ...]:
        sdk, *rest = args if takes_job else args[:-1]
        if not takes_sdk:
            return (sdk, *rest)
        return (_Handle(sdk, watch) if isinstance(sdk, SdkHandle) else _Sdk(sdk, watch), *rest)

    def last() -> Point:
        # without an SDK there are no calls to be seen: the handler itself is the one
        return watch.point(watch._number + takes_sdk, "after", LAST)

    def perform(*args: Any) -> Any:
        watch.begin()
        if not takes_sdk:
            watch.pass_in_call(watch.call(handler.kind))
        result = fn(*wrap(args))
        watch.pass_in_call(last())
        watch.returned.append((args[-1].id, args[-1].attempt))
        return result

    async def aperform(*args: Any) -> Any:
        watch.begin()
        if not takes_sdk:
            await watch.pass_in_trio(watch.call(handler.kind))
        result = await _counted(fn(*wrap(args)), watch)
        await watch.pass_in_trio(last())
        watch.returned.append((args[-1].id, args[-1].attempt))
        return result

    return attrs.evolve(
        handler,
        fn=aperform if handler.is_async else perform,
        takes_job=True,
        verify=_watched_verify(handler, watch),
    )


def _watched_verify(handler: Handler, watch: Watch) -> Callable[..., Any] | None:
    verify = handler.verify
    if verify is None:
        return None

    def ask(*args: Any) -> Any:
        watch._refuse_if_dead()
        there = watch.look()
        answer = verify(*args)
        watch.verdicts.append((answer, there))
        return answer

    async def aask(*args: Any) -> Any:
        watch._refuse_if_dead()
        there = watch.look()
        answer = await verify(*args)
        watch.verdicts.append((answer, there))
        return answer

    return aask if handler.verify_is_async else ask


@types.coroutine
def _counted(coroutine: Any, watch: Watch) -> Generator[Any, Any, Any]:
    """Await `coroutine`, count its checkpoints, and have it cancelled as it goes to sleep at the planned one.

    Nothing may be awaited in between: the task is already written down with whom it waits for.
    """
    first = watch.attempts == 1
    inner = coroutine.__await__()
    send: Callable[[Any], Any] = inner.send
    value: Any = None
    number = 0
    while True:
        try:
            trap = send(value)
        except StopIteration as stop:
            return stop.value
        number += 1
        if first:
            watch.checkpoints = number
        plan = watch.plan
        if plan is not None and plan.checkpoint == number and not watch.happened:
            watch.happened = True
            watch.on_cancel()
        try:
            value = yield trap
            send = inner.send
        except BaseException as error:
            value, send = error, inner.throw
