"""Hooks: functions of the service's author that are called when a job is in doubt, stuck or failed.

A hook is not part of this package: hooks run in a task of their own, one after another, each for at most `TIMEOUT`
seconds. Whatever a hook raises, SystemExit included, is logged and counted, and ends nothing. A slow hook delays other
hooks, never a job. If more than `WAITING` calls wait, the oldest is dropped.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import trio

from trio_jobs._concurrency import NEVER, WakeUp, raised_by_signal
from trio_jobs._engine.jobs import Job, JobRecord, view
from trio_jobs._exception_tree import is_a
from trio_jobs._log import Log
from trio_jobs._runtime.attempt import call_captured

__all__ = ["HookName", "Hooks"]

log: Final = Log("trio_jobs.hooks")

HookName = Literal["in_doubt", "stuck", "failed"]

WAITING: Final = 1000  #: calls that wait; far more notifications than a person can read
TIMEOUT: Final = 30.0  #: seconds; enough to send a mail


class Hooks:
    """Calls the registered functions, in the order of the events."""

    def __init__(self, hooks: Mapping[HookName, Sequence[Callable[[Job], Any]]]) -> None:
        self._hooks = hooks
        self._waiting: deque[tuple[HookName, Job]] = deque(maxlen=WAITING)
        self._wake = WakeUp()
        self.errors = 0
        """How many calls have raised."""

    def call_soon(self, hook: HookName, record: JobRecord) -> None:
        """Schedule calls of the functions of `hook` with the job as it is now. Returns at once."""
        if self._hooks.get(hook):
            self._waiting.append((hook, view(record)))
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Make all calls that wait.

        Cancelled:
            The remaining calls are not made.
        """
        await self._wake.wait()
        while self._waiting:
            hook, job = self._waiting.popleft()
            for fn in self._hooks[hook]:
                await self._call(fn, job, hook)

    async def _call(self, fn: Callable[[Job], Any], job: Job, hook: HookName) -> None:
        try:
            with trio.move_on_after(TIMEOUT) as scope:
                (await call_captured(_call_hook, fn, job)).unwrap()
            if scope.cancelled_caught:
                log.warning("the hook for %s did not return within %g s", hook, TIMEOUT)
        except BaseException as error:
            if raised_by_signal(error) or (is_a(error, trio.Cancelled) and trio.current_effective_deadline() == -NEVER):
                raise
            self.errors += 1
            log.exception("the hook for %s raised", hook)
            await trio.lowlevel.checkpoint_if_cancelled()  # the error may have replaced Cancelled


async def _call_hook(fn: Callable[[Job], Any], job: Job) -> None:
    answer = fn(job)
    if inspect.isawaitable(answer):
        await answer
