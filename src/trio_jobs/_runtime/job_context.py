"""The contexts through which a handler reads its job and reports to the queue.

A plain handler runs on the SDK's thread and gets a `JobContext`, whose methods may block that thread; an `async def`
handler gets an `AsyncJobContext`. The common members are thread-safe: they only read, and `progress` passes its report
to Trio's thread.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import msgspec
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.jobs import escape, open_step, to_datetime
from trio_jobs._engine.progress import Progress
from trio_jobs._errors import InvalidHandler, SdkCallRefused, UsageError
from trio_jobs._sdk_call import NO_SDK, CallHandle, SaveCall
from trio_jobs._validation import check_text, plain_text

if TYPE_CHECKING:  # a queue imports the rest of the runtime when it is opened
    from trio_jobs._runtime.attempt import RunningAttempt

__all__ = ["AsyncJobContext", "ContextFactory", "JobContext", "Recorder", "context_factory"]

MAX_PROGRESS_MESSAGE: Final = 200
MAX_STEPS: Final = 1000
MAX_STEP_NAME: Final = 200


class Recorder(Protocol):
    """Records the reports of a running attempt, in Trio's thread.

    The event of a step is committed when the method returns.
    """

    async def start_step(self, running: RunningAttempt, step: str) -> None: ...

    async def finish_step(self, running: RunningAttempt, step: str, result: msgspec.Raw) -> None: ...

    def save_call(self) -> SaveCall | None: ...

    async def before_save(self, running: RunningAttempt) -> None: ...

    async def step_not_saved(self, running: RunningAttempt, report: CallReport) -> None: ...

    def progress(self, running: RunningAttempt, progress: Progress) -> None: ...


class _Context:
    """The common members of both contexts."""

    __slots__ = ("_recorder", "_running", "_step_names", "_token", "attempt", "id", "key", "kind", "run")

    id: str
    """The job's id."""
    kind: str
    """The job's kind."""
    key: str | None
    """The job's key; None without one."""
    attempt: int
    """Number of this attempt, from 1, over all runs of the job."""
    run: int
    """Number of this run of the job, from 1."""

    def __init__(self, running: RunningAttempt, recorder: Recorder, token: trio.lowlevel.TrioToken) -> None:
        record = running.record
        self._running = running
        self._recorder = recorder
        self._token = token
        self._step_names: set[str] = set()
        self.id = record.id
        self.kind = record.kind
        self.key = record.key
        self.attempt = record.attempt_count
        self.run = record.run

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.id} attempt {self.attempt}>"

    @property
    def deadline(self) -> datetime | None:
        """When the job expires, UTC; None if it does not."""
        return to_datetime(self._running.record.deadline_at)

    @property
    def cancel_requested(self) -> bool:
        """Whether the attempt should end: an operator has cancelled the job, or a limit or the stop ends the attempt.

        A long call can poll this and return.
        """
        return self._running.should_end

    @property
    def open_step(self) -> str | None:
        """The step that an earlier attempt started and did not finish, which `verify` must check. None without one."""
        return open_step(self._running.record)

    @property
    def steps(self) -> dict[str, Any]:
        """The results of the finished steps, by name."""
        done = self._running.record.steps
        return {name: msgspec.json.decode(result) for name, result in done.items() if result is not None}

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Publish the progress of the attempt. It is not recorded. Returns at once.

        At most five reports per second are published; a newer report replaces one that waits.

        Args:
            done: A number, in any unit. A report without a finite number is not published.
            total: The total in the same unit; None if it is not known. A total that is not finite counts as None.
            message: A text, of which the first 200 characters are published.

        Raises:
            UsageError: `done` or `total` is not a number.
        """
        message = escape(plain_text(str(message))[:MAX_PROGRESS_MESSAGE])[:MAX_PROGRESS_MESSAGE]
        finished = _finite("done", done)
        if finished is None:
            return
        self._publish(Progress(self.id, finished, None if total is None else _finite("total", total), message))

    def _publish(self, report: Progress) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # there is no reader left
            self._token.run_sync_soon(self._recorder.progress, self._running, report)

    @contextlib.contextmanager
    def _begin(self, name: str) -> Iterator[tuple[str, msgspec.Raw | None]]:
        """Take the name of a step for this attempt. If the block raises, the name can be used again.

        Returns:
            The name, and the result if the step is finished; None if it may be executed now.

        Raises:
            UsageError: The name is not valid or was used already, or the job has too many steps.
        """
        name = check_text("a step's name", name, MAX_STEP_NAME)
        if name in self._step_names:
            raise UsageError(
                f"step {name!r} was executed already in this attempt, so it would be left out here; give each step a "
                "name of its own"
            )
        steps = self._running.record.steps
        if name not in steps and len(steps) >= MAX_STEPS:
            raise UsageError(f"a job has at most {MAX_STEPS} steps")
        self._step_names.add(name)
        try:
            yield name, steps.get(name)
        except BaseException:
            self._step_names.discard(name)
            raise


def _finite(name: str, value: float) -> float | None:
    """A number as an exact float; None if it is not finite, which JSON cannot say."""
    try:
        number = float(value)
    except OverflowError:
        return None
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number, not {value!r:.100}") from None
    return number if math.isfinite(number) else None


def _result(name: str, value: Any) -> msgspec.Raw:
    body, problem, _ = encode_result(value)
    if body is None:
        raise UsageError(f"the result of step {name!r} cannot be kept: {problem}")
    return body


class JobContext(_Context):
    """The running attempt, for a plain handler and a plain `verify`."""

    __slots__ = ()

    def step(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Execute `fn(*args)`, a part of the job that must not be repeated, and record its result.

        A later attempt gets the recorded result, and `fn` is not called. If the attempt ends while the step is being
        executed, the job is in doubt, and `verify` reads the name of the step from `open_step`. With a journal, the
        start of the step is on disk before `fn` is called, and its result before this method returns. In a service with
        `save`, the SDK saves after `fn`, within the same call, since a finished step is not repeated.

        Args:
            name: 1 to 200 characters, unique in the job. A job has at most 1,000 steps. A step that raised can be
                tried again in the same attempt.
            fn: Called with `args`; its result must be JSON, at most 1 MiB and 100 levels deep.

        Returns:
            The result, decoded from JSON.

        Raises:
            UsageError: The name is not valid or was used already in this attempt, or the result cannot be kept (the
                step is then open).
            SdkCallRefused: The attempt has ended, or is about to end.
            Exception: Whatever `fn` raises, or `save`; the step is then open.
        """
        with self._begin(name) as (plain_name, done):
            if done is None:
                self._wait(self._recorder.start_step, plain_name)
                done = _result(plain_name, fn(*args))
                self._save()
                self._wait(self._recorder.finish_step, plain_name, done)
        return msgspec.json.decode(done)

    def _save(self) -> None:
        """Save the work of a step, in the call that has executed it: it must not be skipped unless it is durable."""
        call = self._recorder.save_call()
        if call is None or self._running.sdk is NO_SDK:
            return
        self._wait(self._recorder.before_save)
        try:
            report = call.returned(call.invoke(self._running.sdk))
            _refuse_not_run(report)
        except BaseException as error:
            self._wait(self._recorder.step_not_saved, call.report_error(error))
            raise

    def _wait(self, ask: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            trio.from_thread.run(ask, self._running, *args, trio_token=self._token)
        except trio.RunFinishedError:
            raise SdkCallRefused("the event loop has ended; no step can be recorded") from None


@final
class AsyncJobContext(_Context):
    """The running attempt, for an `async def` handler and an `async def` `verify`."""

    __slots__ = ()

    async def step(self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Execute `await fn(*args)` and record its result; see `JobContext.step`. `fn` may be `sdk.call`.

        Cancelled:
            While the step is being executed: the step is open, and the job is in doubt.
        """
        if trio.lowlevel.current_trio_token() is not self._token:
            raise UsageError("step() was called in another event loop than that of the queue, and has recorded nothing")
        with self._begin(name) as (plain_name, done):
            if done is None:
                await self._recorder.start_step(self._running, plain_name)
                done = _result(plain_name, await fn(*args))
                await self._save()
                await self._recorder.finish_step(self._running, plain_name, done)
            else:
                await trio.lowlevel.checkpoint()
        return msgspec.json.decode(done)

    async def _save(self) -> None:
        """As `JobContext._save`. Cancelled: the step is open."""
        call, handle = self._recorder.save_call(), self._running.handle
        if call is None or (self._running.sdk is NO_SDK and not isinstance(handle, CallHandle)):
            return
        await self._recorder.before_save(self._running)
        try:
            made = call.invoke(self._running.sdk) if self._running.sdk is not NO_SDK else handle.call(call.invoke)
            _refuse_not_run(call.returned(await made))
        except trio.Cancelled:
            raise
        except BaseException as error:
            await self._recorder.step_not_saved(self._running, call.report_error(error))
            raise


def _refuse_not_run(report: CallReport) -> None:
    if report.not_run is not None:
        raise InvalidHandler(f"save returned {report.not_run}, which has not run")


ContextFactory = Callable[["RunningAttempt"], JobContext | AsyncJobContext]


def context_factory(recorder: Recorder, token: trio.lowlevel.TrioToken) -> ContextFactory:
    """Return the function that makes a context for each attempt."""

    def make_context(running: RunningAttempt) -> JobContext | AsyncJobContext:
        kind = AsyncJobContext if running.handler.is_async else JobContext
        return kind(running, recorder, token)

    return make_context
