"""The SDK handle of `async def` handlers, whose calls go to the thread or the process of the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, final

import outcome
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import LoopThread
from trio_jobs._engine.retry import DEFAULT_RETRY
from trio_jobs._errors import SdkCallStuck
from trio_jobs._exception_tree import clear_frames
from trio_jobs._sdk_call import CallEnd, CallHandle, SdkCall

__all__ = ["HandleCall", "SdkHandle"]


class HandleCall(SdkCall):
    """A call of an `SdkHandle`. Its result or exception goes to Trio's thread."""

    __slots__ = ("ended", "outcome")

    def __init__(self) -> None:
        super().__init__(DEFAULT_RETRY, renew=True)
        self.outcome: outcome.Value[Any] | outcome.Error | None = None
        """None until the call has returned."""
        self.ended = False
        """The call was ended, and cannot be cancelled any more: what it raises says how."""


@final
class _LocalCall(HandleCall):
    """A call in this process."""

    __slots__ = ("_args", "_fn")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__()
        self._fn = fn
        self._args = args

    def invoke(self, sdk: Any) -> Any:
        return self._fn(sdk, *self._args)

    def returned(self, value: Any) -> CallReport:
        self.outcome = outcome.Value(value)
        return CallReport()

    def raised(self, error: BaseException) -> CallEnd:
        clear_frames(error)
        self.outcome = outcome.Error(error)
        return CallEnd(CallReport(), error)


class _Calls(Protocol):
    """The part of an `SdkExecutor` that a handle needs."""

    async def call(self, call: SdkCall) -> CallReport: ...


@final
class SdkHandle(CallHandle):
    """The SDK argument of an `async def` handler, if the SDK runs on a thread or in a process. A handle belongs to one
    attempt."""

    def __init__(
        self,
        executor: _Calls,
        enter: Callable[[], Awaitable[None]],
        leave: Callable[[], None],
        make_call: Callable[[Callable[..., Any], tuple[Any, ...]], HandleCall] = _LocalCall,
    ) -> None:
        super().__init__()
        self._executor = executor
        self._make_call = make_call
        self._enter = enter
        self._leave = leave
        self._turn = trio.Lock()
        self._loop_thread = LoopThread()

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run `fn(sdk, *args)` on the SDK's thread, or on the main thread of its process.

        One call runs at a time. Further calls of the same handler wait in order.

        What `fn` returns is used, and destroyed, in Trio's thread. So it should be data. An object of the SDK that may
        be released only on its own thread must not be returned, nor be an attribute of what `fn` raises. The local
        variables of the frames of an exception are cleared on the SDK's thread.

        With `executor="process"`, `fn` is found in the process by its module and name. Its arguments and its result are
        None, bools, numbers of at most 64 bits, texts, bytes, dates with a time zone, and lists and dicts of these; a
        tuple arrives as a list.

        Args:
            fn: A plain function. It can be a method of the SDK's class: `await sdk.call(Ledger.post, invoice)`.
            args: Further arguments of `fn`.

        Returns:
            The result of `fn`.

        Raises:
            SdkCallRefused: The attempt has ended, or is about to end.
            UsageError: It was called in another thread than that of the queue's event loop; or the process of the SDK
                cannot find `fn`, or an argument cannot be sent to it.
            SdkCallError: What `fn` raised in the process of the SDK, apart from `SessionLost` and from `Fail` and its
                like, which arrive as they are; or the process was killed or has died.
            Exception: Whatever `fn` raises. A StopIteration becomes a RuntimeError, since a coroutine cannot raise it.

        Cancelled:
            A call that still waits is not made. A call that has started is **not** interrupted: this method waits until
            the call has returned, discards its result, and is then cancelled.
        """
        self._loop_thread.check("an SDK handle", "use the SDK that the function of a call gets")
        call = self._make_call(fn, args)
        await trio.lowlevel.checkpoint_if_cancelled()
        async with self._turn:
            await self._enter()
            await self._executor.call(call)
            self._leave()
        if not call.ended:
            await trio.lowlevel.checkpoint_if_cancelled()
        result = call.outcome
        if result is None:
            raise SdkCallStuck("the call did not return")
        self.last_error = result.error if isinstance(result, outcome.Error) else None
        if isinstance(self.last_error, StopIteration):
            # a coroutine cannot raise it: Python would replace it with a RuntimeError that does not mention the call
            raise RuntimeError("the SDK call raised StopIteration") from self.last_error
        try:
            return result.unwrap()
        finally:
            del call, result  # no reference cycle through this frame
