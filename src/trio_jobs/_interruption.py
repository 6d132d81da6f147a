"""The interfaces of executors whose calls can be interrupted or killed. `trio_jobs.ports` exports them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final, runtime_checkable

import attrs

__all__ = ["Interruption", "Interrupts", "Kills", "StartsProcesses"]


@final
@attrs.frozen
class Interruption:
    """What came of interrupting a call."""

    was_inside: bool
    """Whether the call was still inside, so that the function was called."""

    problem: str | None = None
    """What the function raised, as text; None if it raised nothing. An exception would have objects of the SDK."""


@runtime_checkable
class Interrupts(Protocol):
    """An `SdkExecutor` whose calls can be interrupted. The executor of `sdk=` conforms.

    `Service(interrupt=...)` needs one. Calls are numbered from 1; an open, a close and what `handle` returns are not
    calls by themselves. `check_executor` tests the rules of an executor that conforms.
    """

    @property
    def call_inside(self) -> int | None:
        """The number of the call that was passed to the SDK and has not returned; None without one, and while a
        session is opened or closed."""
        ...

    @property
    def interrupted_call(self) -> int:
        """The number of the last call during which the function of `interrupt` was called; 0 before the first.

        It is final as soon as `call` has returned.
        """
        ...

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        """Call `fn(sdk)` while this call is inside, on another thread than the SDK's.

        The executor guarantees that the call cannot return, and so nothing else can enter the SDK, until `fn` has
        returned: `fn` never hits another call or a close. A call that has not begun yet is waited for.

        Args:
            number: A former value of `call_inside`.
            fn: Frees the call.

        Cancelled:
            Only the wait ends: `fn` may still be called, and the call cannot return before it has returned.
        """
        ...


@runtime_checkable
class Kills(Protocol):
    """An `SdkExecutor` that can end a call that does not return. The executor of `executor="process"` conforms."""

    @property
    def has_lost_session(self) -> bool:
        """Whether the process of a session has ended before the session was closed, until `take_close_problem` says
        so."""
        ...

    @property
    def waits_for_queue(self) -> bool:
        """Whether the call that is inside waits until the queue has recorded a step."""
        ...

    def kill(self) -> None:
        """End the call that is inside, and the session. Returns at once; without a call inside this does nothing.

        The call returns a report that is `killed`, as soon as nothing is inside any more.
        """
        ...


@runtime_checkable
class StartsProcesses(Protocol):
    """An `SdkExecutor` that has the SDK in another process. The executor of `executor="process"` conforms."""

    on_started: Callable[[int], None]
    """Called with the id of each process before it gets the first message."""
