"""Discarded sessions: which exception is thrown into the context manager, and what counts as a close problem."""

from __future__ import annotations

from trio_jobs._engine.error_info import describe
from trio_jobs._errors import SessionDiscarded
from trio_jobs._exception_tree import is_a, leaves
from trio_jobs._ports import Discard

__all__ = ["close_problem", "exception_to_throw"]


def exception_to_throw(discard: Discard, last: BaseException | None) -> BaseException:
    """Return the exception to throw into the manager of a discarded session.

    Args:
        discard: Why the session is discarded.
        last: The exception of the last call; None if it has returned, or its exception was not kept. One that is no
            `Exception` means something else to a context manager, and is replaced.
    """
    if discard.by_last_call and last is not None and is_a(last, Exception):
        return last
    return SessionDiscarded(discard.reason)


def close_problem(raised: BaseException, thrown: BaseException | None) -> str | None:
    """Return in words what closing a session raised; None if that is the exception that was thrown into it.

    A group whose only error it is, as a nursery makes one, counts as the exception itself.
    """
    if thrown is None:
        return str(describe(raised))
    if raised is thrown or [*leaves(raised)] == [thrown]:
        return None
    return f"{describe(raised)} (when the session was discarded because of {describe(thrown)})"
