"""The declaration: which SDK, which handlers, which limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

import trio

from trio_jobs._engine.handlers import Handler, SdkKind, make_handler
from trio_jobs._engine.jobs import Job, OnDoubt
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry
from trio_jobs._errors import InvalidHandler, UsageError
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._executors.trio_task import TrioExecutor
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.clock import SystemClock
from trio_jobs._runtime.hooks import HookName
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.settings import Settings
from trio_jobs._runtime.supervisor import open_queue
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore

__all__ = ["Service"]

F = TypeVar("F", bound=Callable[..., Any])


class Service:
    """What a queue is made of. It holds nothing that runs: `open` may be called again, and by several at once.

    sdk: gives a context manager; it is entered, used and left on one thread of its own. async_sdk: gives an async
    context manager instead, which lives in Trio. Neither: handlers get no SDK. The other arguments are those of
    `Settings`.
    """

    def __init__(
        self,
        *,
        sdk: Callable[[], AbstractContextManager[Any]] | None = None,
        async_sdk: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        **settings: Any,
    ) -> None:
        if sdk is not None and async_sdk is not None:
            raise UsageError("say sdk or async_sdk, not both")
        for name, factory in (("sdk", sdk), ("async_sdk", async_sdk)):
            if factory is not None and not callable(factory):
                raise UsageError(f"{name} must be a function that gives a context manager, not {factory!r}")
        try:
            self.settings = Settings(**settings)
        except TypeError:
            unknown = set(settings) - set(Settings.__attrs_attrs__ and [a.name for a in Settings.__attrs_attrs__])
            raise UsageError(f"there is no setting {', '.join(sorted(unknown))}") from None
        self._sdk = sdk
        self._async_sdk = async_sdk
        self._sdk_kind: SdkKind = "thread" if sdk is not None else "trio" if async_sdk is not None else "none"
        self._handlers: dict[str, Handler] = {}
        self._hooks: dict[HookName, list[Callable[[Job], Any]]] = {}

    def __repr__(self) -> str:
        return f"<Service {', '.join(sorted(self._handlers)) or 'without handlers'}>"

    @overload
    def handler(self, fn: F, /) -> F: ...

    @overload
    def handler(
        self,
        /,
        *,
        kind: str | None = None,
        payload_type: Any = None,
        attempt_timeout: float | None = None,
        stuck_after: float | None = None,
        retry: Retry = DEFAULT_RETRY,
        idempotent: bool = False,
        verify: Callable[..., Any] | None = None,
        verify_timeout: float = 30.0,
        verify_delay: float = 0.0,
        verify_first: bool = False,
        on_doubt: OnDoubt = "hold",
    ) -> Callable[[F], F]: ...

    def handler(
        self,
        fn: Any = None,
        /,
        *,
        kind: str | None = None,
        payload_type: Any = None,
        attempt_timeout: float | None = None,
        stuck_after: float | None = None,
        retry: Retry = DEFAULT_RETRY,
        idempotent: bool = False,
        verify: Callable[..., Any] | None = None,
        verify_timeout: float = 30.0,
        verify_delay: float = 0.0,
        verify_first: bool = False,
        on_doubt: OnDoubt = "hold",
    ) -> Any:
        """Register a handler: `(sdk, payload)` or `(sdk, payload, job)`, without `sdk` where the service has none.

        A plain function runs on the SDK's thread, an `async def` in Trio. The annotation of `payload` (or payload_type)
        is the type that payloads are checked against.

        kind: its name on the wire, by default the function's. attempt_timeout: seconds an attempt may take, None for no
        limit. stuck_after: seconds past that after which a call that cannot be ended is stuck, by default the limit
        again. retry: what is tried again, when. idempotent: doing it twice does no harm, so nothing of it is ever in
        doubt. verify: `(sdk, job)`, asked whether an attempt that entered the SDK did its work, before it is tried
        again; answers `Done(result)`, `NotDone()` or `Unknown()`. verify_timeout: seconds. verify_delay: seconds to let
        pass before verify is asked. verify_first: ask it before
        the first attempt too, for callers who submit again what an earlier process may have done. on_doubt: what
        becomes of a job when nobody can tell: "hold" it for a person, "retry" or "fail".

        Raises `InvalidHandler`, `UsageError`.
        """

        def register(fn: F) -> F:
            made = make_handler(
                fn,
                self._sdk_kind,
                kind=kind,
                payload_type=payload_type,
                attempt_timeout=attempt_timeout,
                stuck_after=stuck_after,
                retry=retry,
                idempotent=idempotent,
                verify=verify,
                verify_timeout=verify_timeout,
                verify_delay=verify_delay,
                verify_first=verify_first,
                on_doubt=on_doubt,
            )
            if made.kind in self._handlers:
                raise InvalidHandler(
                    f"a handler for kind {made.kind!r} is registered already; give this one another kind"
                )
            if any(other.fn is fn for other in self._handlers.values()):
                raise InvalidHandler(f"{made.kind!r}: this function is registered already, under another kind")
            self._handlers[made.kind] = made
            return fn

        return register if fn is None else register(fn)

    def on(self, hook: HookName, /, fn: Callable[[Job], Any]) -> None:
        """Have `fn(job)` called when a job comes into doubt (and verify cannot settle it), is stuck, or has failed.

        A plain function must return at once; an async one may take 30 seconds. What it raises is logged; the job is
        not touched by it. Raises `UsageError` for an unknown hook.
        """
        if hook not in get_args(HookName):
            raise UsageError(f"there is no hook {hook!r}; there are {', '.join(get_args(HookName))}")
        self._hooks.setdefault(hook, []).append(fn)

    def open(
        self,
        *,
        journal: str | Path | None = None,
        allow_data_loss: bool = False,
        store: Store | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> AbstractAsyncContextManager[Queue]:
        """Open the SDK and run a queue: `async with service.open() as queue`.

        journal: the file that jobs are kept in; without one they live in memory. allow_data_loss: go on with what is
        left of a damaged journal. store: where jobs are kept instead. clock, seed: for tests; where times and chance
        come from.

        Raises `SdkOpenFailed`, `StoreError` (`JournalInUse`, `JournalDamaged`), `UnhandledJobs` before the block
        begins. Out of the block comes the block's own exception; or `SdkCallStuck`, `StoreError`, or `QueueBroken` if a
        part of the queue died. Cancelled: the running attempt is cancelled, the SDK is closed, `queue.report` tells
        what is left.
        """
        if journal is not None and store is not None:
            raise UsageError("say journal or store, not both")
        if store is None:
            store = (
                MemoryStore(reopens=False) if journal is None else SqliteStore(journal, allow_data_loss=allow_data_loss)
            )
        return open_queue(
            handlers=dict(self._handlers),
            settings=self.settings,
            store=store,
            make_executor=self._make_executor,
            clock=SystemClock() if clock is None else clock,
            chance=random.Random(seed),
            hooks={hook: tuple(hooks) for hook, hooks in self._hooks.items()},
        )

    def _make_executor(self, nursery: trio.Nursery) -> SdkExecutor:
        if self._async_sdk is not None:
            return TrioExecutor(self._async_sdk, nursery)
        return ThreadExecutor(self._sdk)
