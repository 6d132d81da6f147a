"""An executor that makes the calls of another one, and those of the pump between them.

The hard part is that the pump is a call like any other (P1), but not one of the consumer: it comes while no call is
inside, and must not be delayed for ever by a queue in which one call follows the other. So a call, or a close, waits
until the pump has returned; and a pump that is due goes before the next call. The pump is never called while no session
is open, nor after it has raised: then the session is lost, and until it is closed, calls get a SessionLost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import NEVER, WakeUp, bare_nursery
from trio_jobs._engine.directives import SessionLost
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import SdkCallRefused
from trio_jobs._executors.wrapping import WrappingExecutor
from trio_jobs._ports import Discard, SdkExecutor
from trio_jobs._sdk_call import FunctionCall, SdkCall

__all__ = ["PumpedExecutor"]


class PumpedExecutor(WrappingExecutor):
    """An `SdkExecutor` with a pump.

    Args:
        inner: The executor that makes the calls.
        fn: The pump: a function of the SDK.
        every: Seconds from the end of a call of the pump, or from the opening of a session, to the next call of it.
    """

    def __init__(self, inner: SdkExecutor, fn: Callable[[Any], Any], every: float) -> None:
        super().__init__(inner)
        self._fn = fn
        self._every = every
        self._due_at = NEVER
        self._ended = trio.Event()
        self._ended.set()
        self._changed = WakeUp()
        self.lost: str | None = None
        """What the pump has raised in this session, in words; None if it has not."""
        self.is_overdue = False
        """The pump has not returned in time."""
        self.watch: Callable[[], Awaitable[None]] = trio.sleep_forever
        """Called, and cancelled at its end, with each call of the pump."""
        self.on_end: Callable[[CallReport], None] = lambda report: None
        """Called at the end of each call of the pump."""

    # the pump

    @property
    def is_pumping(self) -> bool:
        """Whether the pump is inside."""
        return not self._ended.is_set()

    @property
    def pump_number(self) -> int | None:
        """The number of the call of the pump that is inside; None without one."""
        return self._inner_call_inside if self.is_pumping else None

    def may_pump(self) -> bool:
        """Whether the pump is due, and nothing is inside."""
        due = trio.current_time() >= self._due_at and self.lost is None
        return due and self._inner.is_open and not self._inner.inside

    async def wait_until_due(self) -> None:
        """Return when the pump may be called. One task waits.

        Cancelled:
            Nothing has changed.
        """
        while not self.may_pump():
            # after its time it waits for the end of a call; without a session, for the opening of one
            waits = self._due_at if self._due_at > trio.current_time() else NEVER
            with trio.move_on_at(waits):
                await self._changed.wait()

    async def pump(self) -> CallReport:
        """Call the pump, which may be called.

        Cancelled:
            **Not raised**, as by `call`.
        """
        self._ended = trio.Event()
        self._due_at = NEVER
        try:
            with trio.CancelScope(shield=True):
                async with bare_nursery() as nursery:
                    nursery.start_soon(self.watch)
                    report = await self._inner.call(FunctionCall("pump", self._fn))
                    nursery.cancel_scope.cancel()
        finally:
            self.is_overdue = False
            self._due_at = trio.current_time() + self._every
            self._ended.set()
        if report.error is not None:
            self.lost = f"the pump raised {report.error.info.type}"
        self.on_end(report)
        return report

    # the executor

    @property
    def _inner_call_inside(self) -> int | None:
        return super().call_inside

    @property
    def call_inside(self) -> int | None:
        return None if self.is_pumping else self._inner_call_inside

    async def open(self, opening: Opening) -> None:
        await self._inner.open(opening)
        self.lost = None
        self._due_at = trio.current_time() + self._every
        self._changed.set()

    async def call(self, call: SdkCall) -> CallReport:
        if self.may_pump():
            await self.pump()
        elif self.is_pumping:
            with trio.CancelScope(shield=True):
                await self._ended.wait()
        if self._inner.inside:  # the stop has abandoned the pump
            return _not_made(call, SdkCallRefused("the pump has not returned, so the call was not made"))
        if self.lost is not None:
            return _not_made(call, SessionLost(f"{self.lost}, so the session is lost and the call was not made"))
        try:
            return await self._inner.call(call)
        finally:
            self._changed.set()

    async def close(self, discard: Discard | None = None) -> bool:
        if self.is_overdue:
            return False
        self._due_at = NEVER
        await self._ended.wait()
        self._due_at = NEVER
        if self.lost is not None and discard is None:
            discard = Discard(self.lost, by_last_call=True)
        return await self._inner.close(discard)


def _not_made(call: SdkCall, why: Exception) -> CallReport:
    """Return the report of a call that was not made."""
    try:
        raise why
    except Exception as error:
        return call.raised(error).report
