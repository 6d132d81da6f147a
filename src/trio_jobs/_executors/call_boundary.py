"""The boundary of the calls on a thread: what makes it safe to interrupt one of them from another thread.

The hard part is that a call can return at any moment. A function that is meant to free it, such as pyserial's
`cancel_read`, would then hit whatever runs next: the next call, or the close of the session. So the SDK's thread takes
a lock to enter and to leave a call. The interrupting thread holds that lock while it checks that the call is still
inside and while it interrupts: until it is done, the call cannot leave. If it hangs, the call does not leave either,
and is stuck: nothing else may enter while an interruption could still hit it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from trio_jobs._engine.error_info import describe
from trio_jobs._interruption import Interruption

__all__ = ["CallBoundary", "interrupt_call"]

ENTER_TIMEOUT: Final = 5.0  #: seconds in which a call that was passed to the SDK's thread begins there


class CallBoundary:
    """Which call is inside. Calls are numbered from 1, and run one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.entered = 0
        """The number of the last call that has begun; 0 before the first."""
        self._left = 0
        self._is_awaited = False
        self.interrupted = 0
        """The number of the last call that was interrupted; 0 before the first. It is final when the call has left."""

    def enter(self, number: int) -> None:
        """The call with this number begins. Called on the SDK's thread."""
        self._lock.acquire()  # at each call twice, in half the time of a `with` statement
        self.entered = number
        if self._is_awaited:
            self._changed.notify_all()
        self._lock.release()

    def leave(self, number: int) -> None:
        """The call ends. Waits for an interruption that is under way. Called on the SDK's thread."""
        self._lock.acquire()
        self._left = number
        self._lock.release()

    def interrupt(self, number: int, interrupt: Callable[[], object]) -> bool:
        """Call `interrupt` while this call, and no other one, is inside. Called on another thread than the SDK's.

        A call that has not begun yet is waited for: an interruption that nothing can feel would be lost.

        Args:
            number: The number of a call that was passed to the SDK's thread.
            interrupt: Frees the call.

        Returns:
            Whether `interrupt` was called. False if the call has left.

        Raises:
            BaseException: What `interrupt` raised.
        """
        with self._lock:
            self._is_awaited = True
            begun = self._changed.wait_for(lambda: self.entered >= number, ENTER_TIMEOUT)
            self._is_awaited = False
            if not begun or self._left >= number:
                return False
            self.interrupted = number
            interrupt()
            return True


def interrupt_call(boundary: CallBoundary, number: int, interrupt: Callable[[], object]) -> Interruption:
    """As `CallBoundary.interrupt`. What `interrupt` raises becomes text here, as its frames have objects of the SDK."""
    try:
        return Interruption(boundary.interrupt(number, interrupt))
    except BaseException as error:
        return Interruption(True, str(describe(error)))
