"""Waits with a deadline that says what did not happen.

A deadline is in seconds of real time, also under a virtual clock, which may not move at all. It is only there so that a
wrong test ends: a wait ends by its event, and no test depends on how long that takes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import trio

__all__ = ["DEADLINE", "deadline", "wait_until"]

T = TypeVar("T")

DEADLINE: Final = 60.0  #: seconds: a machine under load starts a process in ten


@contextmanager
def deadline(what: str | Callable[[], str], seconds: float = DEADLINE) -> Iterator[None]:
    """Raise `AssertionError` when the block, in Trio, has not ended after `seconds` of real time.

    Args:
        what: What the block waits for, or a function that returns it.
    """
    token = trio.lowlevel.current_trio_token()
    scope = trio.CancelScope()

    def expire() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(scope.cancel)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        with scope:
            yield
    finally:
        timer.cancel()
    if scope.cancelled_caught:
        raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {seconds:g} s")


def wait_until(holds: Callable[[], T], what: str, *, seconds: float = DEADLINE) -> T:
    """Ask `holds` until it returns something true, and return that; outside Trio, where no event can be awaited.

    Raises:
        AssertionError: It was not true within `seconds`; the message is `what` and the last answer.
    """
    until = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s, it is {answer!r}"
        time.sleep(0.005)
    return answer
