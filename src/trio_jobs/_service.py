"""The declaration of a queue: its SDK, its handlers and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar, final, overload

from trio_jobs._engine.handlers import make_handler
from trio_jobs._engine.jobs import Job, OnDoubt
from trio_jobs._engine.openings import Opening
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry, Which
from trio_jobs._executors.custom import ExecutorFactory
from trio_jobs._runtime.hook_names import JobHook, add_hook
from trio_jobs._runtime.session_work import CloseFailure
from trio_jobs._runtime.settings import (
    JOB_RETENTION,
    KEY_RETENTION,
    MAX_FINISHED_JOBS,
    OnOpenFailed,
    OnStuck,
    OnUnhandled,
    SeatLockPath,
    Settings,
)
from trio_jobs._service_keywords import SETTINGS, check_handler_keywords, check_service_keywords
from trio_jobs._service_origin import caller_of_constructor
from trio_jobs._service_parts import ServiceParts, check_sdk, check_sdk_functions, process_options

if TYPE_CHECKING:  # a service that is only declared does not need them
    from trio_jobs._ports import Clock, Store
    from trio_jobs._runtime.queue import Queue

__all__ = ["Service", "parts_of"]

F = TypeVar("F", bound=Callable[..., Any])
SdkFactory = Callable[[], AbstractContextManager[Any]] | Callable[[Opening], AbstractContextManager[Any]]
AsyncSdkFactory = Callable[[], AbstractAsyncContextManager[Any]] | Callable[[Opening], AbstractAsyncContextManager[Any]]


@final
class Service:
    """The declaration of a queue: one SDK, its handlers and its settings.

    A service holds nothing that runs. `open` can be called again. Several queues of one service can run at once if
    `seat_lock` permits it; each has an SDK session of its own.

    Times are in seconds. An int or a float is accepted, NaN is not.

    Args:
        sdk: A function, the factory, that returns a context manager. The factory is called, the context manager is
            entered, its value (the SDK) is called, and it is exited on one thread that does nothing else. The factory
            has no parameter, or one for an `Opening`, which says why a session is opened and whether the last one has
            closed. A parameter with a default gets the `Opening` only if it is the first and its name is `opening`.
            Without `sdk`, `async_sdk` and `executor`, handlers get no SDK.
        async_sdk: A factory as for `sdk` that returns an async context manager. The SDK lives in the Trio thread. All
            handlers are then `async def`.
        executor: What owns the SDK session. "thread" (the default) is a thread for `sdk`. "process" is a process for
            `sdk`, killed when a call exceeds its limit. It imports the module in which the service was made and finds
            it among the globals; for `async def` handlers see `SdkHandle.call`. Otherwise a function that takes the
            queue's nursery and returns a new executor that conforms to `trio_jobs.ports.SdkExecutor`, called once for
            each `open`. It opens the SDK itself, so `sdk` and `async_sdk` must be absent. A plain handler runs inside
            `executor.call`, an `async def` handler gets what `executor.handle` returns.
        locate: For "process": "module:callable" of a function that returns the service, where it is no such global.
        memory_limit: For "process": its address space in bytes, 1 MiB or more. None (the default): no limit.
        on_killed: For "process": called in a thread with the id of a process that was killed or has died, and the
            `Opening` of its session, before the next one is opened. Its process group was killed with it.
        interrupt: A function of the SDK that frees a call which has exceeded its limit: a timeout, a deadline, an
            operator's cancel, the stop. It is called once for each call, on another thread than the SDK's, and while
            only that call is inside. What the call then raises counts as the end by its limit. The session is renewed
            after it. It needs `sdk`, or an executor that conforms to `trio_jobs.ports.Interrupts`.
        alive: A function of the SDK, called before a job when the last call ended `check_after` ago. If it returns a
            false value or raises, the session is replaced before the job starts, which costs the job no attempt. It is
            called where the SDK lives; with `async_sdk` it may be async. Its limit is 30 seconds.
        check_after: Time after the end of a call from which on `alive` is asked, those of a suspend included; 0 or
            more.
        pump: A function of the SDK that is called on its thread between two calls, such as the message loop of COM;
            also while the queue is paused. If it raises, the session is lost. After 10 seconds it is overdue. It needs
            `sdk`.
        pump_every: Time from the opening of a session, or the end of a call of `pump`, to the next; more than 0.
        buffer: How many pending jobs the queue accepts, 1 or more. A submit to a full queue waits for a slot, then
            raises `QueueFull`.
        max_waiting: How many jobs can wait outside the buffer (scheduled, retrying, restored), 0 or more. 100,000 jobs
            with payloads of 150 bytes take about 100 MB. Above this number a submit for later raises `QueueFull`.
        open_timeout: Limit for opening the SDK, retries included; more than 0. After it `SdkOpenFailed` is raised.
        open_retry: Which errors of opening the SDK are retried, and after which waits.
        drain_timeout: How long a normal exit waits for work to finish: in memory for all pending jobs, with a journal
            for the running attempt. 0 or more.
        cancel_timeout: How long the stop waits for the running attempt after cancelling it, 0 or more. After it the
            call is abandoned.
        close_timeout: Limit for closing the SDK, more than 0. After it the session is abandoned.
        commit_timeout: Limit for a commit, more than 0. After it the caller gets `OutcomeUnknown`.
        on_stuck: What happens when a call exceeds its limit by `stuck_after`. "wait" (the default): the queue is
            blocked until the call returns. "stop": the queue stops, and its block raises `SdkCallStuck`.
        save: A function of the SDK that makes durable what the SDK keeps in memory; `async def` only with `async_sdk`.
            A job whose handler has returned is completed when a save has returned. A session in which something went
            wrong is not saved. None (the default): what a handler has done is durable when it returns.
        save_after_jobs: A save follows when this number of handlers has returned, 1 to 1,000; 1 by default. It
            completes all their jobs, in one commit.
        save_after: A save follows at the latest this time after the first of these returns, once no call is inside the
            SDK; 0 or more, 1 by default.
        save_timeout: Limit for one save, more than 0; 30 by default. It is overdue after it, and stuck after twice the
            limit.
        strict_order: While the first job is retrying, snoozed or in doubt, no other job starts.
        min_interval: The least time between the end of one SDK call and the start of the next, 0 or more.
        max_crashes: A job fails as poison when the process has died during this number of its attempts, 1 or more; 3 by
            default. A person can retry it.
        renew_after_jobs: After this number of attempts (1 or more) the SDK session is closed and a new one is opened.
            None (the default): never.
        renew_after_idle: After this time without an attempt (more than 0) the session is renewed before the next
            attempt. None (the default): never.
        renew_after_error: Which errors of an attempt that entered the SDK, or of `verify`, discard the session: it is
            closed with the error thrown into it, and a new one is opened for the next job and before `verify` is
            called. True (the default): all, timeouts and cancels included. False: only `SessionLost`; then `verify` may
            find work that only the memory of the session holds. Otherwise as `Retry(on=)`.
        on_open_failed: What happens when the SDK cannot be opened again. "wait" (the default): the queue tries until it
            succeeds, and `health` says so. "stop": the queue stops with `SdkOpenFailed` after `open_retry`.
        seat_lock: The file whose lock keeps other queues out of the SDK, in this process and in others, from before the
            SDK is opened until it is closed, or until the process ends if a call is still inside. True (the default):
            the journal's path with "-seat"; without a journal a file in a folder of the user, named by the service's
            module and variable. None: no lock; then nothing keeps a second process out.
        watchdog: When the event loop is blocked for this time (more than 0), the stack of its thread is logged; 0.3 by
            default. None: no watchdog. The watchdog runs only with the default clock.
        job_retention: Final jobs are removed when they are older than this, 0 or more. One value for all, or a mapping
            by "completed", "failed", "cancelled"; a state that the mapping omits has the default, one week.
        max_finished_jobs: At most this number of jobs is kept in each final state, 0 or more; the oldest are removed
            first. One value for all, or a mapping as for `job_retention`. 100,000 by default.
        key_retention: After its job is removed, a key is kept for this time, 0 or more; 400 days by default. Until then
            a submit with the same key returns the first receipt and starts no second job.
        max_keys: At most this number of keys of removed jobs is kept, 0 or more. None (the default): 100,000 in
            memory, 1,000,000 with a journal.
        unhandled_jobs: What happens when the store has open jobs of an unregistered kind, or with a payload that the
            handler's type no longer accepts. "refuse" (the default): `open` raises `UnhandledJobs`. "hold": these jobs
            stay as they are, take no slot, and are counted in `Health.without_handler`.
        **unknown: Type checkers report any other keyword; at run time it raises `UsageError`, which names the nearest
            keyword.

    Raises:
        UsageError: A value is out of its range, a keyword is unknown, or `sdk`, `async_sdk`, `executor`, `save` and
            `strict_order` do not go together.
    """

    def __init__(
        self,
        *,
        sdk: SdkFactory | None = None,
        async_sdk: AsyncSdkFactory | None = None,
        executor: Literal["thread", "process"] | ExecutorFactory = "thread",
        locate: str | None = None,
        memory_limit: int | None = None,
        on_killed: Callable[[int, Opening], object] | None = None,
        interrupt: Callable[[Any], Any] | None = None,
        alive: Callable[[Any], Any] | None = None,
        check_after: float = 60.0,
        pump: Callable[[Any], Any] | None = None,
        pump_every: float = 1.0,
        buffer: int = 100,
        max_waiting: int = 100_000,
        open_timeout: float = 60.0,
        open_retry: Retry = DEFAULT_RETRY,
        drain_timeout: float = 30.0,
        cancel_timeout: float = 5.0,
        close_timeout: float = 10.0,
        commit_timeout: float = 30.0,
        on_stuck: OnStuck = "wait",
        save: Callable[[Any], Any] | None = None,
        save_after_jobs: int = 1,
        save_after: float = 1.0,
        save_timeout: float = 30.0,
        strict_order: bool = False,
        min_interval: float = 0.0,
        max_crashes: int = 3,
        renew_after_jobs: int | None = None,
        renew_after_idle: float | None = None,
        renew_after_error: bool | Which = True,
        on_open_failed: OnOpenFailed = "wait",
        seat_lock: SeatLockPath = True,
        watchdog: float | None = 0.3,
        job_retention: float | Mapping[str, float] = JOB_RETENTION,
        max_finished_jobs: int | Mapping[str, int] = MAX_FINISHED_JOBS,
        key_retention: float = KEY_RETENTION,
        max_keys: int | None = None,
        unhandled_jobs: OnUnhandled = "refuse",
        **unknown: Never,
    ) -> None:
        given = dict(locals())
        check_service_keywords(unknown)
        self._origin = caller_of_constructor()
        takes_opening = check_sdk(sdk, async_sdk, executor)
        process = process_options(executor, lambda: self, self._origin.globals, given)
        has_sdk = sdk is not None or executor != "thread"
        check_sdk_functions(
            interrupt, save, pump, alive, has_sdk=has_sdk, is_async=async_sdk is not None, is_own=executor != "thread"
        )
        self.settings = Settings(**{name: given[name] for name in SETTINGS})
        own = None if isinstance(executor, str) else executor
        self._parts = ServiceParts(sdk, async_sdk, own, process, takes_opening, self._origin.globals)

    def __repr__(self) -> str:
        return f"<Service {', '.join(sorted(self._parts.handlers)) or 'without handlers'}>"

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
        retry: Retry | None = None,
        idempotent: bool = False,
        verify: Callable[..., Any] | None = None,
        verify_timeout: float = 30.0,
        verify_delay: float = 0.0,
        verify_first: bool = False,
        on_doubt: OnDoubt | None = None,
        **unknown: Never,
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
        retry: Retry | None = None,
        idempotent: bool = False,
        verify: Callable[..., Any] | None = None,
        verify_timeout: float = 30.0,
        verify_delay: float = 0.0,
        verify_first: bool = False,
        on_doubt: OnDoubt | None = None,
        **unknown: Never,
    ) -> Any:
        """Register a handler; a decorator, with or without arguments.

        A handler takes `(sdk, payload)` or `(sdk, payload, job)`, without `sdk` where the service has none. A plain
        function runs where the SDK lives; an `async def` function runs in the Trio thread.

        The annotation of `payload` is the type that payloads are decoded to: attrs classes, dataclasses, msgspec
        structs, `TypedDict`, `NamedTuple`, builtins, `datetime`, `Decimal`, `UUID`, enums, pydantic models, and
        containers and unions of these as far as msgspec reads them. The annotation of the return value is the type of
        `Queue.result`.

        A handler that takes an SDK must declare what follows an attempt that may have done its work: `verify`,
        `idempotent=True`, `retry` or `on_doubt`.

        Args:
            fn: The handler, where the decorator is used without arguments.
            kind: The name of the job's kind, 1 to 200 characters; the function's name by default.
            payload_type: The type of the payload; the annotation of `payload` by default.
            attempt_timeout: Limit for one attempt in seconds, more than 0. None (the default): no limit.
            stuck_after: Seconds after the limit until a call that has not returned counts as stuck, more than 0. None
                (the default): the limit again.
            retry: Which errors are retried, how often, and after which waits. Without `verify` this permits to repeat
                an attempt that entered the SDK and raised, although it may have done its work; after a limit, a crash
                or a stop the job is in doubt nevertheless. None (the default): `Retry()`, 3 retries after 1, 2 and 4
                seconds, of attempts that did not enter the SDK or whose work `verify` has not found; without an SDK, of
                all attempts that raised.
            idempotent: Doing the work twice does no harm. Its jobs are never in doubt.
            verify: A function of `(sdk, job)`, without `sdk` where the service has none. It is called before a retry
                of an attempt that entered the SDK, and returns `Done(result)` if the attempt did its work, `NotDone()`
                if it left nothing behind, else `Unknown()`.
            verify_timeout: Limit for one call of `verify` in seconds, more than 0. After it the answer is `Unknown()`.
            verify_delay: Seconds between the end of the attempt and the call of `verify`, 0 or more.
            verify_first: Call `verify` before the first attempt too, for callers that submit again what an earlier
                process may have done.
            on_doubt: What follows a doubt that `verify` does not settle. "hold": the job stays in doubt until
                `Queue.resolve`. "retry": it is retried. "fail": it fails. None (the default): "hold", but not a
                declaration.
            **unknown: Type checkers report any other keyword; at run time it raises `UsageError`, which names the
                nearest keyword.

        Returns:
            The function itself, unchanged; with arguments, a decorator that returns it.

        Raises:
            InvalidHandler: The function cannot be a handler, its kind is registered already, or it takes an SDK and
                declares none of the four.
            UsageError: A value is out of its range, or a keyword is unknown.
        """
        check_handler_keywords(unknown)

        def register(fn: F) -> F:
            made = make_handler(
                fn,
                self._parts.sdk_kind,
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
            self._parts.add_handler(made)
            return fn

        return register if fn is None else register(fn)

    @overload
    def on(self, hook: JobHook, /, fn: Callable[[Job], Any]) -> None: ...

    @overload
    def on(self, hook: Literal["close_failed"], /, fn: Callable[[CloseFailure], Any]) -> None: ...

    def on(self, hook: Any, /, fn: Callable[[Any], Any]) -> None:
        """Register a function that is called when something happens to a job or to a session: a hook.

        Hooks run one after another, in the order of the events. An exception that one raises, also a SystemExit, is
        logged and changes nothing. Queues that are open already do not call the function.

        Args:
            hook: "completed", "failed", "cancelled": a job has reached this state. "in_doubt": a job is in doubt and
                `verify` cannot settle it. "overdue", "stuck": a call of the job has exceeded its limit, or its limit
                and `stuck_after`. "close_failed": closing the SDK has raised.
            fn: A function of the `Job`; for "close_failed" of a `CloseFailure`. A plain function runs in the Trio
                thread and must return at once; an `async def` function can take 30 seconds.

        Raises:
            UsageError: There is no such hook, or `fn` is no function or is registered for this hook already.
        """
        add_hook(self._parts.hooks, hook, fn)

    def open(
        self,
        *,
        journal: str | Path | None = None,
        allow_data_loss: bool = False,
        store: Store | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> AbstractAsyncContextManager[Queue]:
        """Open the store and the SDK, and run a queue: `async with service.open() as queue`.

        The block's own exception comes out of it unchanged, not in a group.

        Args:
            journal: The file that keeps the jobs; it is created if it does not exist. None: jobs live in memory.
            allow_data_loss: Open a damaged journal with what can still be read.
            store: A store that keeps the jobs instead, see `trio_jobs.ports.Store`. Not together with `journal`.
            clock: The source of times; `SystemClock()` by default. For tests.
            seed: The seed of random numbers (jitter, job ids). None: a different one each time. For tests.

        Returns:
            An async context manager for the running queue.

        Raises:
            UsageError: Both `journal` and `store` are given, the clock is none, or the caller does not run in Trio.
            SdkOpenFailed: The SDK was not open within `open_timeout`, or its error is not retried.
            SdkInUse: Another queue has had the SDK for `open_timeout`; it is an `SdkOpenFailed`.
            StoreError: The store cannot be opened; `JournalInUse` and `JournalDamaged` are such errors.
            UnhandledJobs: The store has open jobs that no handler can process.
            SdkCallStuck: At the end of the block: a call is stuck, and `on_stuck` is "stop".
            QueueBroken: At the end of the block: a part of the queue has failed.

        Cancelled:
            The running attempt is cancelled, the SDK is closed, and `queue.report` names the unfinished jobs.
        """
        from trio_jobs._service_opening import open_service  # a service that is only declared does not need it

        return open_service(
            self, self._parts, self._origin, self.settings,
            journal=journal, allow_data_loss=allow_data_loss, store=store, clock=clock, seed=seed,
        )  # fmt: skip


def parts_of(service: Service) -> ServiceParts:
    """What the service has been given: for the test kit and the simulator, which open a queue in their own way."""
    return service._parts
