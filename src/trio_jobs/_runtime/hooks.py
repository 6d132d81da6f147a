"""Hooks: functions of the service's author that are called when something happens to a job or to a session.

A hook is not part of this package: hooks run in a task of their own, one after another, each for at most `TIMEOUT`
seconds. Whatever a hook raises, SystemExit included, is logged and counted, and ends nothing. A slow hook delays other
hooks, never a job. Of each hook at most `WAITING` calls wait; then the oldest one is dropped, which is logged. So many
completed jobs cannot displace the call for a job in doubt.

A call is made after the event is committed, and at most once: an event that was committed before this start is not
reported again. A stop makes the calls that still wait, for at most `STOP_TIMEOUT` seconds together.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import outcome
import trio

from trio_jobs._concurrency import NEVER, WakeUp, raised_by_signal
from trio_jobs._engine.jobs import Job, JobRecord, view
from trio_jobs._exception_tree import is_a
from trio_jobs._log import Log
from trio_jobs._runtime.attempt import captured, log_fields
from trio_jobs._runtime.hook_names import HookName, JobHook
from trio_jobs._runtime.session_work import CloseFailure

__all__ = ["Hooks"]

log: Final = Log("trio_jobs.hooks")

WAITING: Final = 1000  #: calls of one hook that wait; far more notifications than a person can read
TIMEOUT: Final = 30.0  #: seconds; enough to send a mail
STOP_TIMEOUT: Final = 2.0  #: seconds; most supervisors kill a process 10 seconds after they have asked it to stop


class Hooks:
    """Calls the registered functions, in the order of the events."""

    def __init__(self, hooks: Mapping[HookName, Sequence[Callable[[Any], Any]]]) -> None:
        self._hooks = hooks
        self._waiting: dict[HookName, deque[tuple[int, Job | CloseFailure]]] = {
            hook: deque(maxlen=WAITING) for hook, functions in hooks.items() if functions
        }
        self.are_used = bool(self._waiting)
        """Whether any function is registered."""
        self._calls = 0
        self._wake = WakeUp()
        self._idle = trio.Event()
        self._idle.set()
        self._has_started = False
        self.errors = 0
        """How many calls have raised."""
        self.dropped = 0
        """How many calls were not made, since too many waited."""

    def call_soon(self, hook: JobHook, record: JobRecord) -> None:
        """Schedule calls of the functions of `hook` with the job as it is now. Returns at once."""
        if hook in self._waiting:
            self._schedule(hook, view(record))

    def close_failed(self, failure: CloseFailure) -> None:
        """Schedule calls of the functions of "close_failed". Returns at once."""
        if "close_failed" in self._waiting:
            self._schedule("close_failed", failure)

    def _schedule(self, hook: HookName, argument: Job | CloseFailure) -> None:
        waiting = self._waiting[hook]
        if len(waiting) == WAITING:
            if not self.dropped:
                log.error("the hook for %s is too slow: more than %d calls wait, the oldest are dropped", hook, WAITING)
            self.dropped += 1
        self._calls += 1
        waiting.append((self._calls, argument))
        if self._idle.is_set():
            self._idle = trio.Event()
        self._wake.set()

    async def run(self) -> None:
        self._has_started = True
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Make all calls that wait.

        Cancelled:
            The remaining calls are not made.
        """
        await self._wake.wait()
        while (hook := self._next()) is not None:
            _, argument = self._waiting[hook].popleft()
            for fn in self._hooks[hook]:
                await self._call(fn, argument, hook)
        self._idle.set()

    async def finish(self) -> None:
        """Return when no call waits, or after `STOP_TIMEOUT` seconds. The stop of the queue calls this.

        Cancelled:
            Calls may wait.
        """
        if self._idle.is_set():
            return
        with trio.move_on_after(STOP_TIMEOUT):
            if not self._has_started:  # the queue stops before its loops were started
                await self.run_once()
            await self._idle.wait()
        if not self._idle.is_set():
            left = sum(map(len, self._waiting.values()))
            log.warning("a hook has not returned, and the stop does not wait for it; calls that wait: %d", left)

    def _next(self) -> HookName | None:
        """Return the hook whose call has waited longest; None if no call waits."""
        waiting = [(calls[0][0], hook) for hook, calls in self._waiting.items() if calls]
        return min(waiting)[1] if waiting else None

    async def _call(self, fn: Callable[[Any], Any], argument: Job | CloseFailure, hook: HookName) -> None:
        raised: outcome.Error | None = None
        if isinstance(argument, Job):
            about, fields = f"job {argument.id}", log_fields(argument)
        else:
            about, fields = f"session {argument.session}", None
        try:
            with trio.move_on_after(TIMEOUT) as scope:
                try:
                    await _call_hook(fn, argument)
                except BaseException as error:
                    raised = captured(error)
            if raised is not None:
                raise raised.error
            if scope.cancelled_caught:
                log.warning("the hook for %s did not return within %g s (%s)", hook, TIMEOUT, about, extra=fields)
        except BaseException as error:
            if raised_by_signal(error) or (is_a(error, trio.Cancelled) and trio.current_effective_deadline() == -NEVER):
                raise
            self.errors += 1
            log.exception("the hook for %s raised (%s)", hook, about, extra=fields)
            await trio.lowlevel.checkpoint_if_cancelled()  # the error may have replaced Cancelled


async def _call_hook(fn: Callable[[Any], Any], argument: Job | CloseFailure) -> None:
    answer = fn(argument)
    if inspect.isawaitable(answer):
        await answer
