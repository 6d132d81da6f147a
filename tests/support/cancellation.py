"""Cancelling a task at each of its checkpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import attrs
import trio

__all__ = ["cut_at"]

T = TypeVar("T")


@attrs.define(eq=False)
class _Cut:
    """A trio instrument that cancels `scope` when `task` has gone to sleep (or is about to wake) for the n-th time."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope
    left: int
    when: Literal["asleep", "waking"]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "waking")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "asleep")

    def _count(self, task: trio.lowlevel.Task, when: str) -> None:
        if task is self.task and when == self.when:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def cut_at(n: int, when: Literal["asleep", "waking"], fn: Callable[[], Awaitable[T]]) -> tuple[T | None, bool]:
    """`await fn()`, cancelled at its n-th checkpoint, from 1: while it sleeps there, or just when it wakes.

    What it returned, None if Cancelled came out of it; and whether it has so many checkpoints.
    """
    result = None
    cut: Any = _Cut(trio.lowlevel.current_task(), trio.CancelScope(), n, when)
    with cut.scope:
        trio.lowlevel.add_instrument(cut)
        try:
            result = await fn()
        finally:
            trio.lowlevel.remove_instrument(cut)
    return result, cut.left <= 0
