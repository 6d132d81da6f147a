"""The work that a session may still hold, and what follows if closing the session fails.

An SDK may write its work only when it is closed. If that close raises, jobs that are completed may have left nothing
behind. They cannot be taken back, so the failure must be noticed: it is logged with the names of these jobs, the queue
is degraded until a session has closed well, the hook "close_failed" is called, and the report of the stop says so.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

import attrs
import msgspec

from trio_jobs._engine.jobs import JobRecord, escape
from trio_jobs._log import Log

__all__ = ["CloseFailure", "CompletedJob", "SessionWork"]

log: Final = Log("trio_jobs.queue")

MAX_NAMED: Final = 1000  #: jobs whose names are kept; more are counted
MAX_FAILURES: Final = 100  #: failed closes whose events are not committed yet; a close takes longer than a commit


@final
class CompletedJob(msgspec.Struct, frozen=True, gc=False):
    """A job that is completed. `str` of it is its name in the log: its key, or its id if it has none."""

    job_id: str
    """The job's id."""
    kind: str
    """The job's kind."""
    key: str | None
    """The job's key; None without one."""

    def __str__(self) -> str:
        return escape(self.key or self.job_id)


@final
@attrs.frozen
class CloseFailure:
    """A close of the SDK that raised. The work of completed jobs may be lost."""

    session: int
    """The number of the session."""
    problem: str
    """What the close raised."""
    jobs: tuple[CompletedJob, ...]
    """The jobs that were completed since a session last closed well, in the order of their ends; the last 1,000."""
    omitted: int
    """How many earlier jobs `jobs` does not name."""


class SessionWork:
    """The jobs that were completed since a session has last closed well, or since the last save."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """What the last close raised; None if it raised nothing, and before the first."""
        self._has_warned = False
        self._completed = 0
        self._jobs: deque[CompletedJob] = deque(maxlen=MAX_NAMED)
        self._failures: deque[CloseFailure] = deque(maxlen=MAX_FAILURES)

    def __repr__(self) -> str:
        return f"<SessionWork {self._completed} jobs{'' if self.problem is None else ', the last close failed'}>"

    def add(self, record: JobRecord) -> None:
        """The handler of this job has returned."""
        self._completed += 1
        self._jobs.append(CompletedJob(record.id, record.kind, record.key))

    def saved(self) -> None:
        """A save has returned, so the work of all these jobs is durable."""
        self._completed = 0
        self._jobs.clear()

    def discarded(self, jobs: int) -> None:
        """A session is closed with an exception, in a service without `save`.

        Args:
            jobs: The number of jobs that were completed in it.
        """
        if not jobs or self._has_warned:
            return
        self._has_warned = True
        named = [*self._jobs][-jobs:]
        log.warning(
            "an SDK session in which %d jobs were completed is closed with an exception: %s. If the SDK rolls back "
            "then, or keeps work in memory until it saves, give the service save=; without it, what a handler has "
            "done must be durable when it returns. This is said once",
            jobs,
            ", ".join(map(str, named)),
        )

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
            jobs = tuple(self._jobs)
            self._failures.append(CloseFailure(session, problem, jobs, self._completed - len(jobs)))
        else:
            self.saved()

    def failure_of(self, session: int) -> CloseFailure | None:
        """Return, once, the failed close of this session; None if it closed well."""
        while self._failures and self._failures[0].session <= session:
            failure = self._failures.popleft()
            if failure.session == session:
                return failure
        return None

    def _in_words(self) -> str:
        if not self._completed:
            return ""
        omitted = self._completed - len(self._jobs)
        return f" ({f'{omitted} earlier ones, ' if omitted else ''}{', '.join(map(str, self._jobs))})"
