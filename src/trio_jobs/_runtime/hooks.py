"""The hooks: tell whoever asked to be told that a job is in doubt, stuck, or failed.

A hook is other people's code: it runs in a task of its own, one after another, each for at most `TIMEOUT` seconds, and
what it raises is logged. A slow hook delays other hooks, never a job; beyond `WAITING` words the oldest is dropped.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import trio

from trio_jobs._engine.jobs import Job, JobRecord, view

__all__ = ["HookName", "Hooks"]

log: Final = logging.getLogger("trio_jobs.hooks")

HookName = Literal["in_doubt", "stuck", "failed"]

WAITING: Final = 1000  #: words kept for hooks: far more than a person can be told of
TIMEOUT: Final = 30.0  #: seconds, enough for a mail to be handed over


class Hooks:
    """hooks: what is registered, by occasion."""

    def __init__(self, hooks: Mapping[HookName, Sequence[Callable[[Job], Any]]]) -> None:
        self._hooks = hooks
        self._waiting: deque[tuple[HookName, Job]] = deque(maxlen=WAITING)
        self._wake = trio.Event()

    def tell(self, hook: HookName, record: JobRecord) -> None:
        """Let the hooks of `hook` know, when it is their turn, of the job as it stands now."""
        if self._hooks.get(hook):
            self._waiting.append((hook, view(record)))
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Tell all that waits. Cancelled: what was not told is not told."""
        await self._wake.wait()
        self._wake = trio.Event()
        while self._waiting:
            hook, job = self._waiting.popleft()
            for fn in self._hooks[hook]:
                await self._call(fn, job, hook)

    async def _call(self, fn: Callable[[Job], Any], job: Job, hook: HookName) -> None:
        try:
            with trio.move_on_after(TIMEOUT) as scope:
                answer = fn(job)
                if inspect.isawaitable(answer):
                    await answer
            if scope.cancelled_caught:
                log.warning("the hook for %s did not return within %g s", hook, TIMEOUT)
        except Exception:
            log.exception("the hook for %s raised", hook)
