"""What the factory of an SDK is given: why a session is opened, and what is known of the last one."""

from __future__ import annotations

from typing import Literal, final

import attrs

__all__ = ["Opening", "OpeningReason"]

OpeningReason = Literal["start", "renew", "lost", "error", "killed"]


@final
@attrs.frozen
class Opening:
    """An opening of the SDK. The factory of `sdk=` and `async_sdk=` can take it as its one argument.

    An opening that fails is repeated with the same reason and number.
    """

    reason: OpeningReason
    """Why the session is opened. "start": it is the first since the queue was opened. "renew": the last one has reached
    `renew_after_jobs` or `renew_after_idle`. "lost": the last one could not be used any more (`SessionLost`), or it has
    ended by itself. "error": the last one was discarded because an attempt or `verify` has gone wrong in it. "killed":
    the process of the last one was killed or has died."""

    number: int
    """The number of the session, from 1 since the queue was opened; in events it is `session`."""

    unclean: bool | None
    """The last session of this seat is not known to have closed: its process has crashed or was killed, its close
    raised or was abandoned, or it ended while it was being opened. What it has left behind, such as a lock of the SDK,
    can then be removed: the lock of the seat proves that nobody else is in the SDK. None with `seat_lock=None`."""
