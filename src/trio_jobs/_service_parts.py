"""What a `Service` has been given, for the packages that open it in their own way: the test kit and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import attrs
import trio

from trio_jobs._engine.handlers import Handler, SdkKind
from trio_jobs._errors import UsageError
from trio_jobs._executors.custom import ExecutorFactory, make_custom_executor
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._executors.trio_task import TrioExecutor
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.hooks import HookName
from trio_jobs._validation import check_sdk_function

__all__ = ["ServiceParts", "check_sdk_functions"]


@attrs.frozen
class ServiceParts:
    """The SDK, the handlers and the hooks of a service."""

    sdk: Callable[..., AbstractContextManager[Any]] | None
    """Opens the session of plain handlers."""
    async_sdk: Callable[..., AbstractAsyncContextManager[Any]] | None
    """Opens the session of async handlers."""
    executor: ExecutorFactory | None
    """Makes an executor that is not ours; None for the one that fits the SDK."""
    takes_opening: bool = False
    """Whether the factory of the SDK takes an `Opening`."""
    handlers: dict[str, Handler] = attrs.field(factory=dict)
    """The handlers, by kind."""
    hooks: dict[HookName, list[Callable[[Any], Any]]] = attrs.field(factory=dict)
    """The functions to call, in their order, by hook."""

    @property
    def sdk_kind(self) -> SdkKind:
        """Which handlers get the SDK: plain ones ("thread"), async ones ("trio"), or, without an SDK, "none"."""
        if self.async_sdk is not None:
            return "trio"
        return "none" if self.sdk is None and self.executor is None else "thread"

    def fixed_hooks(self) -> dict[HookName, tuple[Callable[[Any], Any], ...]]:
        """The hooks as a queue takes them: those that are added later are not called."""
        return {hook: tuple(functions) for hook, functions in self.hooks.items()}

    def make_executor(self, nursery: trio.Nursery) -> SdkExecutor:
        """A new executor. nursery: what an executor in Trio's thread runs its session in."""
        if self.executor is not None:
            return make_custom_executor(self.executor, nursery)
        if self.async_sdk is not None:
            return TrioExecutor(self.async_sdk, nursery, takes_opening=self.takes_opening)
        return ThreadExecutor(self.sdk, takes_opening=self.takes_opening)


def check_sdk_functions(
    interrupt: object, save: object, pump: object, *, has_sdk: bool, is_async: bool, is_own: bool
) -> None:
    """Check the functions of the SDK that a service is given.

    Args:
        interrupt: The argument of that name.
        save: The argument of that name.
        pump: The argument of that name.
        has_sdk: The service has `sdk` or `executor`.
        is_async: It has `async_sdk`.
        is_own: It has `executor`.

    Raises:
        UsageError: One is no plain function of the SDK, or there is no SDK on a thread for it.
    """
    if save is not None:
        if not has_sdk and not is_async:
            raise UsageError("save= needs an SDK, whose work it makes durable: give sdk=, or leave save out")
        check_sdk_function("save", save, may_be_async=is_async)
    if interrupt is not None:
        if is_async:
            raise UsageError("interrupt= is for an SDK on a thread: calls of async_sdk= end when they are cancelled")
        if not has_sdk:
            raise UsageError("interrupt= needs sdk= or executor=: without an SDK there is nothing to interrupt")
        check_sdk_function("interrupt", interrupt)
    if pump is not None:
        if is_async:
            raise UsageError("pump= is for an SDK on a thread; with async_sdk= start a task where the SDK is opened")
        if is_own or not has_sdk:
            raise UsageError("pump= needs sdk=; an executor of your own makes such calls itself")
        check_sdk_function("pump", pump)
