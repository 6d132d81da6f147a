"""A call into the SDK: what is called, as data, and the function that calls it where the SDK lives.

The queue makes an `SdkCall`, the executor gets it to the thread or process of the SDK, and there `run` calls the user's
function and makes the report of it. Only the report comes back. What the function was given and what it returned or
raised is destroyed where the SDK lives; the exception is kept there for as long as it may have to be thrown into the
context manager of the session.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, final

import msgspec
import trio

from trio_jobs._call_report import CallReport, RaisedError, Renew, report_answer, report_error, report_result
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.lazy_values import close_lazy, lazy_noun
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry
from trio_jobs._exception_tree import clear_frames, is_a, leaves

__all__ = ["NO_SDK", "CallEnd", "CallHandle", "FunctionCall", "HandlerCall", "SaveCall", "SdkCall", "VerifyCall"]


NO_SDK: Final = object()  #: no call is inside, or its handler is asynchronous and the SDK is not


class CallEnd(NamedTuple):
    """What `SdkCall.run` returns."""

    report: CallReport
    """The data that the queue gets."""

    error: BaseException | None
    """What the executor keeps where the SDK lives until the next call or close: the exception because of which the
    session may be discarded. None if it will not be."""


class SdkCall:
    """A call into the SDK. Executors call `run`; asynchronous ones call the three functions that it consists of."""

    __slots__ = ("_renew", "_retry", "running")

    def __init__(self, retry: Retry, renew: Renew, running: Any = None) -> None:
        self._retry = retry
        self._renew = renew
        self.running = running
        """The attempt of the call; None without one. An executor in another process sends facts of its `record`, sets
        `on_end_requested`, and passes steps and progress to its `recorder`, all in Trio's thread."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @final
    def run(self, sdk: Any) -> CallEnd:
        """Make the call, where the SDK lives. Never raises."""
        try:
            value = self.invoke(sdk)
        except BaseException as error:
            return self.raised(error)
        return CallEnd(self.returned(value), None)

    def invoke(self, sdk: Any) -> Any:
        """Call the user's function, and return what it returns. For an asynchronous SDK that is awaitable.

        Raises:
            BaseException: Whatever the function raises.
        """
        raise NotImplementedError

    def returned(self, value: Any) -> CallReport:
        """Return the report of a call that returned. Never raises."""
        return report_result(value)

    def raised(self, error: BaseException) -> CallEnd:
        """Return the report of a call that raised. Called in the except clause of `invoke`. Never raises."""
        report = self.report_error(error)
        if report.error is not None and self._may_discard(report.error):
            return CallEnd(report, error)
        clear_frames(error)
        return CallEnd(report, None)

    def _may_discard(self, error: RaisedError) -> bool:
        """Whether the session may be discarded because of this error."""
        return error.renews or error.lost

    def report_error(self, error: BaseException) -> CallReport:
        """Return an exception as data. Never raises."""
        return report_error(error, self._retry, self._renew)


@final
class HandlerCall(SdkCall):
    """A call of a handler.

    Args:
        handler: The handler.
        payload: The payload of the job. It is decoded where the SDK lives, and is destroyed there.
        context: The job context; None if the handler takes none.
        renew: `renew_after_error` of the service.
        running: See `SdkCall`.
        bind: Called with the SDK before the call; what it returns is called after it. None if the context does not need
            the SDK.
    """

    __slots__ = ("_bind", "_entered", "context", "handler", "payload")

    def __init__(
        self,
        handler: Handler,
        payload: msgspec.Raw,
        context: Any,
        renew: Renew,
        running: Any = None,
        bind: Callable[[Any], Callable[[], None]] | None = None,
    ) -> None:
        super().__init__(handler.rules.retry, renew, running)
        self.handler = handler
        self.payload = payload
        self.context = context
        self._entered = False
        self._bind = bind

    def invoke(self, sdk: Any) -> Any:
        if self._bind is None:
            return self._call(sdk)
        unbind = self._bind(sdk)
        try:
            return self._call(sdk)
        finally:
            if not self.handler.is_async:  # else the call has not been awaited yet, and the SDK is not of a thread
                unbind()

    def _call(self, sdk: Any) -> Any:
        handler = self.handler
        payload = handler.decode(self.payload)  # may raise: then the SDK is not entered
        self._entered = True
        if handler.takes_sdk:
            return handler.fn(sdk, payload, self.context) if handler.takes_job else handler.fn(sdk, payload)
        return handler.fn(payload, self.context) if handler.takes_job else handler.fn(payload)

    def report_error(self, error: BaseException) -> CallReport:
        return report_error(error, self._retry, self._renew, entered=self._entered)

    def _may_discard(self, error: RaisedError) -> bool:
        return error.directive is None and (error.renews or error.lost)


@final
class VerifyCall(SdkCall):
    """A call of verify.

    Args:
        handler: The handler.
        context: The job context.
        renew: `renew_after_error` of the service.
        running: See `SdkCall`.
    """

    __slots__ = ("context", "handler")

    def __init__(self, handler: Handler, context: Any, renew: Renew, running: Any = None) -> None:
        super().__init__(handler.rules.retry, renew, running)
        self.handler = handler
        self.context = context

    def invoke(self, sdk: Any) -> Any:
        verify = self.handler.verify
        assert verify is not None
        return verify(sdk, self.context) if self.handler.takes_sdk else verify(self.context)

    def returned(self, value: Any) -> CallReport:
        return report_answer(value)


@final
class FunctionCall(SdkCall):
    """A call of a function of the service that gets only the SDK.

    Args:
        name: The keyword of the service under which the function was given.
        fn: The function.
        renew: `renew_after_error` of the service.
        convert: Called where the SDK lives with what `fn` returned; what it returns is the result.
    """

    __slots__ = ("_convert", "_fn", "name")

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Any],
        renew: Renew = True,
        convert: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        super().__init__(DEFAULT_RETRY, renew)
        self.name = name
        self._fn = fn
        self._convert = convert

    def invoke(self, sdk: Any) -> Any:
        return self._fn(sdk)

    def returned(self, value: Any) -> CallReport:
        try:
            converted = self._convert(value)
        except BaseException as error:  # a method of an object of the SDK, such as `__bool__`
            return self.report_error(error)
        return report_result(converted)


@final
class SaveCall(SdkCall):
    """A call of `save`.

    Args:
        save: The function of the service.
        retries: The retry policies of the handlers, by kind. They are asked about what `save` raises.
        renew: `renew_after_error` of the service.
        has_async_sdk: `invoke` must return an awaitable, and `save` may be asynchronous.
    """

    __slots__ = ("_has_async_sdk", "_retries", "_save")

    def __init__(
        self, save: Callable[[Any], Any], retries: Mapping[str, Retry], renew: Renew, *, has_async_sdk: bool
    ) -> None:
        super().__init__(DEFAULT_RETRY, renew)
        self._save = save
        self._retries = retries
        self._has_async_sdk = has_async_sdk

    def invoke(self, sdk: Any) -> Any:
        return self._invoke_in_trio(sdk) if self._has_async_sdk else self._save(sdk)

    async def _invoke_in_trio(self, sdk: Any) -> Any:
        returned = self._save(sdk)
        return await returned if inspect.isawaitable(returned) else returned

    def returned(self, value: Any) -> CallReport:
        not_run = lazy_noun(value)
        close_lazy(value)
        return CallReport(not_run=not_run)

    def report_error(self, error: BaseException) -> CallReport:
        report = super().report_error(error)
        kinds = tuple(kind for kind, retry in self._retries.items() if retry.retries(error))
        return msgspec.structs.replace(report, retryable_kinds=kinds)


class CallHandle:
    """Base class of the SDK handles of executors that keep the exception of a call, to throw it into the session."""

    def __init__(self) -> None:
        self.last_error: BaseException | None = None
        """What the last call raised; None if it returned."""

    @final
    def has_raised(self, error: BaseException) -> bool:
        """Whether the last call raised this exception, or the only one in this group."""
        own = self.last_error
        others = [leaf for leaf in leaves(error) if not is_a(leaf, trio.Cancelled)]
        return own is not None and (error is own or (len(others) == 1 and others[0] is own))
