"""What a `Service` has been given, for the packages that open it in their own way: the test kit and the simulator."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from trio_jobs._engine.handlers import Handler, SdkKind
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import InvalidHandler, UsageError
from trio_jobs._executors.custom import ExecutorFactory, check_executor_factory, make_custom_executor
from trio_jobs._runtime.hook_names import HookName
from trio_jobs._runtime.settings import Settings
from trio_jobs._validation import check_factory, check_number, check_sdk_function

if TYPE_CHECKING:  # a service that is only declared does not need them
    from trio_jobs._ports import SdkExecutor

__all__ = [
    "ProcessOptions",
    "ServiceParts",
    "check_sdk",
    "check_sdk_functions",
    "process_options",
    "use_executor",
]

MIN_MEMORY: Final = 1024 * 1024  #: bytes


@attrs.define(eq=False)
class ServiceParts:
    """The SDK, the handlers and the hooks of a service."""

    sdk: Callable[..., AbstractContextManager[Any]] | None
    """Opens the session of plain handlers."""
    async_sdk: Callable[..., AbstractAsyncContextManager[Any]] | None
    """Opens the session of async handlers."""
    executor: ExecutorFactory | None
    """Makes an executor that is not ours; None for the one that fits the SDK."""
    process: ProcessOptions | None = None
    """How the SDK lives in a process of its own; None for a thread."""
    takes_opening: bool = False
    """Whether the factory of the SDK takes an `Opening`."""
    origin: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    """The globals of the module in which the service was made."""
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

    def add_handler(self, made: Handler) -> None:
        """Add a handler. Raises `InvalidHandler` if its kind or its function is registered already."""
        if made.kind in self.handlers:
            raise InvalidHandler(f"a handler for kind {made.kind!r} is registered already; give this one another kind")
        if any(other.fn is made.fn for other in self.handlers.values()):
            raise InvalidHandler(f"{made.kind!r}: this function is registered already, under another kind")
        self.handlers[made.kind] = made

    def fixed_hooks(self) -> dict[HookName, tuple[Callable[[Any], Any], ...]]:
        """The hooks as a queue takes them: those that are added later are not called."""
        return {hook: tuple(functions) for hook, functions in self.hooks.items()}

    def in_process(self) -> ServiceParts:
        """These parts with the SDK in this process, for the test kit."""
        return attrs.evolve(self, process=None)

    def make_executor(self, nursery: trio.Nursery) -> SdkExecutor:
        """A new executor, of which a service imports the kind that it needs when a queue is opened.

        Args:
            nursery: What an executor in Trio's thread runs its session in.
        """
        if self.executor is not None:
            return make_custom_executor(self.executor, nursery)
        if self.process is not None:
            return self._make_process_executor(self.process, nursery)
        if self.async_sdk is not None:
            from trio_jobs._executors.trio_task import TrioExecutor

            return TrioExecutor(self.async_sdk, nursery, takes_opening=self.takes_opening)
        from trio_jobs._executors.thread import ThreadExecutor

        return ThreadExecutor(self.sdk, takes_opening=self.takes_opening)

    def _make_process_executor(self, options: ProcessOptions, nursery: trio.Nursery) -> SdkExecutor:
        if sys.platform == "win32":
            raise UsageError("executor='process' does not work on Windows yet; use executor='thread'")
        from trio_jobs._executors.process import ProcessExecutor  # other services do not need them
        from trio_jobs._executors.process_home import make_setup

        setup = make_setup(options.service(), options.module, options.locate, list(self.handlers), options.memory_limit)
        return ProcessExecutor(setup, nursery, options.on_killed)


@attrs.frozen
class ProcessOptions:
    """How the SDK of a service lives in a process of its own."""

    service: Callable[[], object]
    """Returns the service."""
    module: str
    """The module in which it was made."""
    locate: str | None
    """See `Service`."""
    memory_limit: int | None
    """See `Service`."""
    on_killed: Callable[[int, Opening], object] | None
    """See `Service`."""


def check_sdk(sdk: object, async_sdk: object, executor: object) -> bool:
    """Check the arguments of a service that say where its SDK is.

    Returns:
        Whether the factory of the SDK takes an `Opening`.

    Raises:
        UsageError: One of them is not valid, or they do not go together.
    """
    if sdk is not None and async_sdk is not None:
        raise UsageError("give sdk or async_sdk, not both")
    takes_opening = False
    for name, factory in (("sdk", sdk), ("async_sdk", async_sdk)):
        if factory is not None:
            takes_opening = check_factory(name, factory)
    if executor not in ("thread", "process"):
        check_executor_factory(executor)
        if sdk is not None or async_sdk is not None:
            raise UsageError("give executor or an SDK, not both: an executor opens its SDK itself")
    return takes_opening


def check_sdk_functions(
    interrupt: object, save: object, pump: object, alive: object, *, has_sdk: bool, is_async: bool, is_own: bool
) -> None:
    """Check the functions of the SDK that a service is given.

    Args:
        interrupt: The argument of that name.
        save: The argument of that name.
        pump: The argument of that name.
        alive: The argument of that name.
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
    if alive is not None:
        if not has_sdk and not is_async:
            raise UsageError("alive= needs an SDK, about whose session it is asked: give sdk=, or leave alive out")
        check_sdk_function("alive", alive, may_be_async=is_async)


def process_options(
    executor: object, service: Callable[[], object], origin: Mapping[str, Any], given: Mapping[str, Any]
) -> ProcessOptions | None:
    """Check the arguments of a service that are for executor="process". Returns None for another executor.

    Args:
        executor: The argument.
        service: Returns the service.
        origin: The globals of the module in which it is made.
        given: All arguments.

    Raises:
        UsageError: One is given without it or is not valid, or there is no `sdk`.
    """
    locate, memory_limit, on_killed = given["locate"], given["memory_limit"], given["on_killed"]
    if executor != "process":
        for name, value in (("locate", locate), ("memory_limit", memory_limit), ("on_killed", on_killed)):
            if value is not None:
                raise UsageError(f"{name}= is for executor='process'")
        return None
    if given["sdk"] is None:
        raise UsageError("executor='process' needs sdk=..., which is opened in the process; async_sdk is for Trio")
    if given["pump"] is not None:
        raise UsageError(
            "pump= is for the message loop of COM, on Windows, where executor='process' does not work; use "
            "executor='thread'"
        )
    for name in ("alive", "save"):
        if inspect.iscoroutinefunction(given[name]):
            raise UsageError(f"{name} must be a plain function with executor='process'")
    if locate is not None and (not isinstance(locate, str) or not all(locate.partition(":"))):
        raise UsageError(f"locate must be 'module:callable', not {locate!r:.100}")
    if memory_limit is not None:
        check_number("memory_limit", memory_limit, MIN_MEMORY)
    if on_killed is not None and not callable(on_killed):
        raise UsageError(f"on_killed must be a function of a process id and an Opening, not {on_killed!r:.100}")
    return ProcessOptions(service, str(origin.get("__name__", "")), locate, memory_limit, on_killed)


def use_executor(service: object, parts: ServiceParts, settings: Settings, executor: str) -> None:
    """Let the SDK of a service live where the command line says, "thread" or "process".

    Raises:
        UsageError: The service has no `sdk`, or has something that does not go together with a process.
    """
    if parts.sdk is None:
        raise UsageError("--executor is for a service with sdk=")
    if executor == "process" and parts.process is not None:
        return  # with its other arguments
    given = {"sdk": parts.sdk, "locate": None, "memory_limit": None, "on_killed": None}
    given |= {name: getattr(settings, name) for name in ("alive", "pump", "save")}
    parts.process = process_options(executor, lambda: service, parts.origin, given)
