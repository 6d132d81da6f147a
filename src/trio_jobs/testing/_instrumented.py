"""A handler whose calls into the SDK are recorded, and one of which can fail by plan.

The SDK is wrapped in a proxy, not patched: many SDKs are C or COM objects that accept no attributes. Attributes that a
handler reads on the way to a call (`sdk.vouchers.create(...)`) are wrapped too; results of calls are not. A call site
is the number of a call in its attempt, and a side: before or after the call. A fault plan names a call site and a
fault.

A planned death is the death of the process: after it no call of this handler, of a later attempt or of a verify reaches
the SDK, although tasks and threads still need some time to end.
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

from trio_jobs._engine.error_info import describe
from trio_jobs._engine.handlers import Handler
from trio_jobs._executors.handle import SdkHandle
from trio_jobs.testing._virtual_time import current_activity
from trio_jobs.testing.fake_sdk import Blocker

__all__ = ["HANDLER_RETURN", "CallRecorder", "CallSite", "FaultPlan", "ProcessDied", "VerifyRaised", "instrument"]

Fault = Literal["raise", "die", "slow", "hang", "cancel", "stop"]
Side = Literal["before", "after"]

#: Types of attributes that are returned as they are, without a proxy
_VALUES: Final = (
    str, bytes, int, float, complex, bool, type(None), tuple, list, dict, set, frozenset, enum.Enum, decimal.Decimal,
    dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, type, types.ModuleType,
)  # fmt: skip


#: The name of the call site behind all calls: the handler has returned, and its return is not yet recorded
HANDLER_RETURN: Final = "return of the handler"


class ProcessDied(BaseException):
    """Raised in calls of a process that has died."""


@attrs.frozen
class CallSite:
    """A point at which a fault can happen."""

    number: int
    """The number of the call in its attempt, from 1."""
    side: Side
    """Before or after the call."""
    name: str
    """The name of the function called."""

    def __str__(self) -> str:
        return f"{self.side} call {self.number}, {self.name}"


@attrs.frozen
class FaultPlan:
    """One fault that happens once."""

    fault: Fault
    at: CallSite | None = None
    """Where; None if `checkpoint` says where."""
    checkpoint: int | None = None
    """The number of a checkpoint in the handler's task, from 1."""
    error: BaseException | None = None
    """What "raise" raises."""
    seconds: float = 0.0
    """How long "slow" takes, in virtual seconds."""
    blocker: Blocker | None = None
    """What blocks a "hang"."""

    def __str__(self) -> str:
        where = f"at checkpoint {self.checkpoint}" if self.at is None else str(self.at)
        return f"{self.fault} {where}"


@attrs.frozen
class VerifyRaised:
    """Stands for an answer of verify where it raised."""

    error: str
    """Its type and its message."""


@attrs.define(eq=False)
class CallRecorder:
    """Records the SDK calls of one process and triggers its planned fault."""

    plan: FaultPlan | None = None
    on_death: Callable[[], None] = lambda: None
    """Called when the process dies by plan."""
    on_cancel: Callable[[], None] = lambda: None
    """Called in Trio's thread when the job is cancelled by plan."""
    on_stop: Callable[[], None] = lambda: None
    """Called in Trio's thread when the queue is stopped by plan."""
    read_effects: Callable[[], Any] = lambda: None
    """Returns what the handler did outside the process."""
    returned: list[tuple[str, int]] = attrs.field(factory=list)
    """The attempts whose handler returned, as (job id, attempt)."""
    call_sites: list[CallSite] = attrs.field(factory=list)
    """The call sites of the first attempt."""
    checkpoints: int = 0
    """The number of checkpoints of the first attempt."""
    attempts: int = 0
    """How often the handler was called."""
    verdicts: list[tuple[Any, Any]] = attrs.field(factory=list)
    """The answers of verify, each with the effects at that time; a `VerifyRaised` where it raised."""
    triggered: bool = False
    """The planned fault has happened."""
    dead: bool = False
    """The process has died."""
    _number: int = 0

    def begin_attempt(self) -> None:
        self._refuse_if_dead()
        self.attempts += 1
        self._number = 0

    def begin_call(self, name: str) -> CallSite:
        """Record the start of a call and return its call site."""
        self._refuse_if_dead()
        self._number += 1
        return self.add_site(self._number, "before", name)

    def add_site(self, number: int, side: Side, name: str) -> CallSite:
        site = CallSite(number, side, name)
        if self.attempts == 1:
            self.call_sites.append(site)
        return site

    def take_fault(self, site: CallSite) -> FaultPlan | None:
        """The fault that happens at this call site; it then counts as triggered."""
        plan = self.plan
        if self.triggered or plan is None or plan.at is None:
            return None
        if (plan.at.number, plan.at.side) != (site.number, site.side):
            return None
        if plan.fault == "raise" and site.name == HANDLER_RETURN:
            return None  # a handler that has returned cannot raise any more
        self.triggered = True
        return plan

    def apply(self, site: CallSite) -> None:
        """Trigger the fault planned for a call site of a plain call, on the SDK's thread or in Trio's."""
        plan = self.take_fault(site)
        if plan is None:
            return
        activity = current_activity()
        if plan.fault == "slow":
            if activity is not None:  # virtual time cannot pass during a plain call in Trio's thread
                activity.sleep(plan.seconds)
                self._refuse_if_dead()
        elif plan.fault == "hang":
            if activity is not None and plan.blocker is not None:
                plan.blocker.block()
                self._refuse_if_dead()
        elif plan.fault in ("cancel", "stop"):
            callback = self.on_cancel if plan.fault == "cancel" else self.on_stop
            if activity is None:
                callback()
            else:
                trio.from_thread.run_sync(callback, trio_token=activity.token)
        else:
            self._raise(plan)

    async def apply_async(self, site: CallSite) -> None:
        """Trigger the fault planned for a call site of an asynchronous call."""
        plan = self.plan
        if plan is not None and plan.fault == "slow":
            if self.take_fault(site) is not None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(plan.seconds)
                self._refuse_if_dead()
        elif plan is not None and plan.fault == "hang":
            if self.take_fault(site) is not None and plan.blocker is not None:
                await plan.blocker.ablock()
                self._refuse_if_dead()
        else:
            self.apply(site)

    def _raise(self, plan: FaultPlan) -> None:
        if plan.fault == "die":
            self.dead = True
            self.on_death()
            raise ProcessDied
        assert plan.error is not None
        raise plan.error

    def _refuse_if_dead(self) -> None:
        if self.dead:
            raise ProcessDied


class _SdkProxy:
    """Forwards attributes of the SDK, and records calls."""

    def __init__(self, inner: Any, recorder: CallRecorder, path: str = "") -> None:
        object.__setattr__(self, "_trio_jobs_proxy", (inner, recorder, path))

    @property  # type: ignore[misc] # for isinstance, as unittest.mock does it
    def __class__(self) -> Any:
        return type(object.__getattribute__(self, "_trio_jobs_proxy")[0])

    def __getattr__(self, name: str) -> Any:
        inner, recorder, path = object.__getattribute__(self, "_trio_jobs_proxy")
        value = getattr(inner, name)
        full = f"{path}.{name}" if path else name
        if callable(value) and not isinstance(value, type):
            return _call(recorder, full, value)
        return value if isinstance(value, _VALUES) else _SdkProxy(value, recorder, full)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_trio_jobs_proxy")[0], name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inner, recorder, path = object.__getattribute__(self, "_trio_jobs_proxy")
        return _call(recorder, path or "the SDK itself", inner)(*args, **kwargs)


def _forward(name: str) -> Any:
    def method(self: Any, *args: Any) -> Any:
        inner, recorder, path = object.__getattribute__(self, "_trio_jobs_proxy")
        return _call(recorder, f"{path}.{name}" if path else name, getattr(inner, name))(*args)

    return method


# Python looks these up on the class, not through __getattr__
for _name in ("getitem", "setitem", "delitem", "contains", "iter", "len", "enter", "exit", "aenter", "aexit"):
    setattr(_SdkProxy, f"__{_name}__", _forward(f"__{_name}__"))


def _call(recorder: CallRecorder, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(fn):
            return acall(*args, **kwargs)
        site = recorder.begin_call(name)
        recorder.apply(site)
        result = fn(*args, **kwargs)
        if inspect.isawaitable(result):
            return finish(site, result)
        recorder.apply(recorder.add_site(site.number, "after", name))
        return result

    async def acall(*args: Any, **kwargs: Any) -> Any:
        site = recorder.begin_call(name)
        await recorder.apply_async(site)
        return await finish(site, fn(*args, **kwargs))

    async def finish(site: CallSite, awaitable: Awaitable[Any]) -> Any:
        result = await awaitable
        await recorder.apply_async(recorder.add_site(site.number, "after", name))
        return result

    return call


class _HandleProxy:
    """Wraps the `SdkHandle` that an async handler receives for an SDK on a thread."""

    def __init__(self, inner: SdkHandle, recorder: CallRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self._inner.call(lambda sdk: fn(_SdkProxy(sdk, self._recorder), *args))


def instrument(handler: Handler, recorder: CallRecorder) -> Handler:
    """Return the handler with `recorder` around its calls."""
    fn, takes_sdk, takes_job = handler.fn, handler.takes_sdk, handler.takes_job

    def wrap(args: tuple[Any, ...]) -> tuple[Any, ...]:
        sdk, *rest = args if takes_job else args[:-1]
        if not takes_sdk:
            return (sdk, *rest)
        return (_HandleProxy(sdk, recorder) if isinstance(sdk, SdkHandle) else _SdkProxy(sdk, recorder), *rest)

    def return_site() -> CallSite:
        # without an SDK the call of the handler counts as the only call, which can fail when its work is done
        if not takes_sdk:
            return recorder.add_site(recorder._number, "after", handler.kind)
        return recorder.add_site(recorder._number + 1, "after", HANDLER_RETURN)

    def perform(*args: Any) -> Any:
        recorder.begin_attempt()
        if not takes_sdk:
            recorder.apply(recorder.begin_call(handler.kind))
        result = fn(*wrap(args))
        recorder.apply(return_site())
        recorder.returned.append((args[-1].id, args[-1].attempt))
        return result

    async def aperform(*args: Any) -> Any:
        recorder.begin_attempt()
        if not takes_sdk:
            await recorder.apply_async(recorder.begin_call(handler.kind))
        result = await _count_checkpoints(fn(*wrap(args)), recorder)
        await recorder.apply_async(return_site())
        recorder.returned.append((args[-1].id, args[-1].attempt))
        return result

    return attrs.evolve(
        handler,
        fn=aperform if handler.is_async else perform,
        takes_job=True,
        verify=_instrumented_verify(handler, recorder),
    )


def _instrumented_verify(handler: Handler, recorder: CallRecorder) -> Callable[..., Any] | None:
    verify = handler.verify
    if verify is None:
        return None

    def recorded(*args: Any) -> Any:
        recorder._refuse_if_dead()
        effects = recorder.read_effects()
        try:
            verdict = verify(*args)
        except Exception as error:
            recorder.verdicts.append((VerifyRaised(str(describe(error))), effects))
            raise
        recorder.verdicts.append((verdict, effects))
        return verdict

    async def arecorded(*args: Any) -> Any:
        recorder._refuse_if_dead()
        effects = recorder.read_effects()
        try:
            verdict = await verify(*args)
        except Exception as error:
            recorder.verdicts.append((VerifyRaised(str(describe(error))), effects))
            raise
        recorder.verdicts.append((verdict, effects))
        return verdict

    return arecorded if handler.verify_is_async else recorded


@types.coroutine
def _count_checkpoints(coroutine: Any, recorder: CallRecorder) -> Generator[Any, Any, Any]:
    """Await `coroutine`, count its checkpoints, and cancel its job when it blocks at the planned one.

    Nothing may be awaited in between: the task is already registered with what it waits for.
    """
    first = recorder.attempts == 1
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
            recorder.checkpoints = number
        plan = recorder.plan
        if plan is not None and plan.checkpoint == number and not recorder.triggered:
            recorder.triggered = True
            recorder.on_cancel()
        try:
            value = yield trap
            send = inner.send
        except BaseException as error:
            value, send = error, inner.throw
