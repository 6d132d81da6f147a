"""The work that a session may still hold, and what follows if closing the session fails.

An SDK may write its work only when it is closed. If that close raises, jobs that are completed may have left nothing
behind. They cannot be taken back, so the failure must be noticed: it is logged with the names of these jobs, the queue
is degraded until a session has closed well, and the report of the stop says so.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_jobs._engine.jobs import JobRecord, escape
from trio_jobs._log import Log

__all__ = ["SessionWork"]

log: Final = Log("trio_jobs.queue")

MAX_NAMED: Final = 1000  #: jobs whose names are kept; more are counted


class SessionWork:
    """The jobs that were completed since a session has last closed well."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """What the last close raised; None if it raised nothing, and before the first."""
        self._completed = 0
        self._names: deque[str] = deque(maxlen=MAX_NAMED)

    def __repr__(self) -> str:
        return f"<SessionWork {self._completed} jobs{'' if self.problem is None else ', the last close failed'}>"

    def add(self, record: JobRecord) -> None:
        """The handler of this job has returned."""
        self._completed += 1
        self._names.append(record.id if record.key is None else record.key)

    def closed(self, session: int, problem: str | None) -> None:
        """A session has been closed.

        Args:
            session: Its number.
            problem: What the close raised; None if it raised nothing.
        """
        self.problem = problem
        if problem is not None:
            log.error(
                "closing SDK session %d failed: %s; jobs completed since a session last closed well, whose work may be "
                "lost: %d%s",
                session,
                problem,
                self._completed,
                self._in_words(),
            )
        else:
            self._completed = 0
            self._names.clear()

    def _in_words(self) -> str:
        if not self._completed:
            return ""
        omitted = self._completed - len(self._names)
        return f" ({f'{omitted} earlier ones, ' if omitted else ''}{', '.join(map(escape, self._names))})"
