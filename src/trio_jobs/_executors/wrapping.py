"""An executor that passes everything on to another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from trio_jobs._call_report import CallReport
from trio_jobs._engine.openings import Opening
from trio_jobs._executors.handle import SdkHandle
from trio_jobs._interruption import Interruption, Interrupts
from trio_jobs._ports import Discard, RecognizesCallers, SdkExecutor
from trio_jobs._sdk_call import SdkCall

__all__ = ["WrappingExecutor"]


class WrappingExecutor:
    """An `SdkExecutor` around `inner`, as a base class for those that add something to its calls.

    It conforms to `Interrupts` and `RecognizesCallers` whether `inner` does or not. Where it does not, no call is
    interrupted and no caller is inside.
    """

    def __init__(self, inner: SdkExecutor) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r}>"

    @property
    def session(self) -> int:
        return self._inner.session

    @property
    def is_open(self) -> bool:
        return self._inner.is_open

    @property
    def inside(self) -> bool:
        return self._inner.inside

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        return isinstance(self._inner, RecognizesCallers) and self._inner.is_inside(thread, tasks)

    @property
    def call_inside(self) -> int | None:
        return self._inner.call_inside if isinstance(self._inner, Interrupts) else None

    @property
    def interrupted_call(self) -> int:
        return self._inner.interrupted_call if isinstance(self._inner, Interrupts) else 0

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        if not isinstance(self._inner, Interrupts):
            return Interruption(was_inside=False)
        return await self._inner.interrupt(number, fn)

    def take_close_problem(self) -> str | None:
        return self._inner.take_close_problem()

    async def open(self, opening: Opening) -> None:
        await self._inner.open(opening)

    async def call(self, call: SdkCall) -> CallReport:
        return await self._inner.call(call)

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        """What the handlers get: where `inner` makes the calls of an `SdkHandle`, one whose calls come here."""
        handle = self._inner.handle(enter, leave)
        return SdkHandle(self, enter, leave) if isinstance(handle, SdkHandle) else handle

    def abandon(self) -> None:
        self._inner.abandon()

    async def close(self, discard: Discard | None = None) -> bool:
        return await self._inner.close(discard)

    async def stop(self) -> None:
        await self._inner.stop()
