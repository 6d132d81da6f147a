"""The cancel scope that one attempt after the other runs in.

Every attempt runs inside a cancel scope, through which an operator's cancel and the stop of the queue end it. To make,
enter and leave one takes as long as a fifth of a job in memory. A scope that was not cancelled is not used up, so the
consumer stays in it, and the next attempt has it. It is left when the attempt was ended by it or raised, and when the
consumer ends. An attempt with a limit has scopes of its own, which end with it.

The hard part is a handler that enters a scope of its own and returns without leaving it. That scope would then contain
the consumer: its deadline would cancel the consumer's next wait, and end the queue. Trio notices it only when the
outer scope is left, with a RuntimeError, which must be the error of this attempt. So after each attempt the scope that
the task is in is compared with the one that the attempt began in. If Trio does not say in which scope a task is and
whether it is cancelled, which is not part of its documented interface, each attempt has a scope of its own.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import trio

__all__ = ["AttemptScope"]


_PLACE: Final = "_cancel_status"  #: the attribute of a task


class AttemptScope:
    """A context manager for one attempt after the other, in the same task.

    `leave` must be called in that task before a scope is left that was entered earlier.
    """

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
        self._task: trio.lowlevel.Task | None = None
        self._place: Any = None
        """Where in Trio's tree of scopes the task is while it is in `_scope`; None if Trio does not say."""

    def __repr__(self) -> str:
        return f"<AttemptScope {'left' if self._scope is None else 'entered'}>"

    def __enter__(self) -> trio.CancelScope:
        scope = self._scope
        if scope is None:
            scope = self._scope = trio.CancelScope()
            scope.__enter__()
            self._task = trio.lowlevel.current_task()
            self._place = _place(self._task)
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        scope = self._scope
        assert scope is not None
        place = self._place
        stayed = getattr(self._task, _PLACE, self) is place
        # not `scope.cancel_called`, which reads the clock: this scope has no deadline
        if error is None and stayed and not place.effectively_cancelled:
            return None
        self._scope = self._task = self._place = None
        return scope.__exit__(kind, error, traceback)

    def leave(self) -> None:
        """Leave the scope, if it is entered. Leaving it twice is harmless."""
        scope, self._scope, self._task, self._place = self._scope, None, None, None
        if scope is not None:
            scope.__exit__(None, None, None)


def _place(task: trio.lowlevel.Task) -> object:
    place = getattr(task, _PLACE, None)
    return place if hasattr(place, "effectively_cancelled") else None
