"""When a session is opened: at once, or after a wait because the last openings or sessions have failed."""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._concurrency import NEVER
from trio_jobs._engine.retry import Retry

__all__ = ["OpeningWaits"]

#: Seconds between two tries to open the SDK, at most
MAX_OPEN_WAIT: Final = 60.0
#: After this number of sessions in a row in which no attempt completed and that were discarded, opening waits
MAX_FAILED_SESSIONS: Final = 2


class OpeningWaits:
    """Counts what fails in a row. The waits are those of `open_retry`, of which the last one is repeated."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._failed_sessions = 0
        self._open_at = -NEVER
        self.failing = False
        """Whether the last sessions were discarded, one after the other, without a completed attempt."""

    @property
    def failed_sessions(self) -> int:
        """How many of the last sessions were."""
        return self._failed_sessions

    @property
    def left(self) -> float:
        """The seconds until a session may be opened, 0 or less if it may be now."""
        return self._open_at - trio.current_time()

    def opening_failed(self, failures: int) -> None:
        """The opening of a session has failed, so many times in a row."""
        self._wait(max(self._failed_sessions - MAX_FAILED_SESSIONS, 0) + failures)

    def session_closed(self, *, failed: bool) -> None:
        """A session was closed. failed: it was discarded, and no attempt completed in it."""
        self._failed_sessions = self._failed_sessions + 1 if failed else 0
        self.failing = self._failed_sessions > MAX_FAILED_SESSIONS
        if self.failing:
            self._wait(self._failed_sessions - MAX_FAILED_SESSIONS)

    def _wait(self, failures: int) -> None:
        wait = self._retry.wait_before(min(failures, max(self._retry.max_retries, 1)), 0.0)
        self._open_at = trio.current_time() + min(wait, MAX_OPEN_WAIT)
