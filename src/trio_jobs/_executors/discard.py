"""Discarded sessions: which exception is thrown into the context manager, and what counts as a close problem."""

from __future__ import annotations

from trio_jobs._engine.error_info import describe
from trio_jobs._errors import SessionDiscarded
from trio_jobs._exception_tree import is_a, leaves
from trio_jobs._ports import Discard

__all__ = ["close_problem", "exception_to_throw"]


def exception_to_throw(discard: Discard, *, made_here: bool) -> BaseException:
    """Return the exception to throw into the manager of a discarded session.

    Args:
        discard: Why the session is discarded.
        made_here: Its exception was raised where the session lives. Objects of the SDK in the frames of an exception
            must not get to another thread, so any other exception is replaced. So are those that are no `Exception`,
            which mean something else to a context manager.
    """
    if made_here and discard.error is not None and is_a(discard.error, Exception):
        return discard.error
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
