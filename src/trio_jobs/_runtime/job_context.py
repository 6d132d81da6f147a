"""Floor 6: what a handler is told about its job, and may ask of it.

Plain handlers run on the SDK's thread and get a `JobContext`, whose methods may block that thread; `async def` handlers
get an `AsyncJobContext`. What both share is safe on any thread: it only reads, and `progress` is handed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Protocol, final

import msgspec
import trio

from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.jobs import escape, open_step, to_datetime
from trio_jobs._engine.status import Progress
from trio_jobs._errors import SdkCallRefused, UsageError
from trio_jobs._runtime.attempt import RunningAttempt
from trio_jobs._validation import is_text

__all__ = ["AsyncJobContext", "JobContext", "Progress", "Recorder"]

MAX_PROGRESS_MESSAGE: Final = 200
MAX_STEPS: Final = 1000
MAX_STEP_NAME: Final = 200


class Recorder(Protocol):
    """Where a handler's wishes arrive, in Trio's thread. Each step's events are kept before it returns."""

    async def start_step(self, running: RunningAttempt, step: str) -> None: ...

    async def finish_step(self, running: RunningAttempt, step: str, result: msgspec.Raw) -> None: ...

    def progress(self, running: RunningAttempt, progress: Progress) -> None: ...


class _Context:
    """id, kind, key: the job's. attempt: this attempt's number, from 1, over all runs. run: from 1."""

    __slots__ = ("_recorder", "_running", "_token", "attempt", "id", "key", "kind", "run")

    def __init__(self, running: RunningAttempt, recorder: Recorder, token: trio.lowlevel.TrioToken) -> None:
        record = running.record
        self._running = running
        self._recorder = recorder
        self._token = token
        self.id = record.id
        self.kind = record.kind
        self.key = record.key
        self.attempt = len(record.attempts)
        self.run = record.run

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.id} attempt {self.attempt}>"

    @property
    def deadline(self) -> datetime | None:
        """When the job expires, UTC; None for never."""
        return to_datetime(self._running.record.deadline_at)

    @property
    def cancel_requested(self) -> bool:
        """A person asked for cancel, or a limit or the stop wants the attempt to end: a long call may look and stop."""
        running = self._running
        return running.record.cancel_requested or running.why is not None

    @property
    def open_step(self) -> str | None:
        """The step that an earlier attempt began without an end: what `verify` has to look for."""
        return open_step(self._running.record)

    @property
    def steps(self) -> dict[str, Any]:
        """The results of the steps that are done, by name."""
        done = self._running.record.steps
        return {name: msgspec.json.decode(result) for name, result in done.items() if result is not None}

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell those who follow the job how far it is: at most five times a second, the newest wins; 200 characters.

        It is told, not recorded, and nothing waits for it.
        """
        message = escape(str(message))[:MAX_PROGRESS_MESSAGE]
        news = Progress(self.id, float(done), None if total is None else float(total), message)
        with contextlib.suppress(trio.RunFinishedError):  # then nobody is left to be told
            self._token.run_sync_soon(self._recorder.progress, self._running, news)

    def _finished(self, name: str) -> msgspec.Raw | None:
        """The result of a step that is done; None: it may be done now. Raises for what cannot be a step."""
        if not is_text(name, MAX_STEP_NAME):
            raise UsageError(f"a step's name is a text of 1 to {MAX_STEP_NAME} characters, not {name!r:.100}")
        steps = self._running.record.steps
        if name not in steps and len(steps) >= MAX_STEPS:
            raise UsageError(f"a job has at most {MAX_STEPS} steps")
        return steps.get(name)


def _result(name: str, value: Any) -> msgspec.Raw:
    body, problem = encode_result(value)
    if body is None:
        raise UsageError(f"the result of step {name!r} cannot be kept: {problem}")
    return body


@final
class JobContext(_Context):
    """One attempt of a job, as its plain handler and its plain `verify` see it."""

    __slots__ = ()

    def step(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Do `fn(*args)` once in the life of the job, and give back its result as JSON gives it back.

        A later attempt gets the result that was kept, and `fn` is not called. If the attempt ends while the step is
        being done, the job is in doubt, and `verify` finds the step's name in `open_step`. With a journal, its start is
        on disk before `fn` is called, its result before this returns.

        Raises what `fn` raises; `UsageError` where the result is not JSON (the step is then open); `SdkCallRefused`
        where the attempt is over.
        """
        done = self._finished(name)
        if done is None:
            self._wait(self._recorder.start_step, name)
            done = _result(name, fn(*args))
            self._wait(self._recorder.finish_step, name, done)
        return msgspec.json.decode(done)

    def _wait(self, ask: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            trio.from_thread.run(ask, self._running, *args, trio_token=self._token)
        except trio.RunFinishedError:
            raise SdkCallRefused("the queue has gone; no step can be kept") from None


@final
class AsyncJobContext(_Context):
    """One attempt of a job, as its `async def` handler and its `async def verify` see it."""

    __slots__ = ()

    async def step(self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Do `await fn(*args)` once in the life of the job; see `JobContext.step`. `fn` may be `sdk.call`.

        Cancelled while the step is being done: it is open.
        """
        done = self._finished(name)
        if done is None:
            await self._recorder.start_step(self._running, name)
            done = _result(name, await fn(*args))
            await self._recorder.finish_step(self._running, name, done)
        else:
            await trio.lowlevel.checkpoint()
        return msgspec.json.decode(done)
