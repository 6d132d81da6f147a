"""Errors of looking a job up: by its id, by its key, or in a list."""

from __future__ import annotations

from typing import Final

from trio_jobs._errors import UsageError

__all__ = ["SHORTEST_END", "AmbiguousJob", "InvalidCursor", "JobNotFound"]

SHORTEST_END: Final = 6
"""The lowest number of characters at the end of an id by which a job is found."""

MAX_CANDIDATES: Final = 20
"""The highest number of jobs that `AmbiguousJob` names."""


class JobNotFound(UsageError):
    """No job has this id or this key: it was never submitted to this queue, or it was removed at the end of its
    retention."""

    job_id: Final[str]
    """The requested id. Where a key was requested: the id of the job that had the key and was removed, or "" if there
    never was one."""

    key: Final[str | None]
    """The requested key; None if an id was requested."""

    def __init__(self, job_id: str, key: str | None = None) -> None:
        self.job_id = job_id
        self.key = key
        if key is None:
            short = isinstance(job_id, str) and len(job_id) < SHORTEST_END
            hint = f"; give the whole id, or at least its last {SHORTEST_END} characters" if short else ""
            message = f"no job {job_id!r} is known (never submitted here, or pruned since){hint}"
        elif job_id:
            message = f"key {key!r} belongs to job {job_id}, which is pruned"
        else:
            message = f"no job with key {key!r} is known"
        super().__init__(message)


class AmbiguousJob(UsageError):
    """Several jobs have an id that ends with the given text, or are of different kinds and have the given key.

    Give more characters of the id, or the kind of the job.
    """

    given: Final[str]
    """The given text."""

    job_ids: Final[tuple[str, ...]]
    """The ids of these jobs, at most 20, in the order of their submits."""

    def __init__(self, given: str, job_ids: tuple[str, ...]) -> None:
        self.given = given
        self.job_ids = job_ids[:MAX_CANDIDATES]
        candidates = ", ".join(self.job_ids)
        super().__init__(f"{given!r} can be each of the jobs {candidates}; give more of the id, or the kind of the job")


class InvalidCursor(UsageError):
    """The cursor is not one of this list: it was cut or changed, or it belongs to other conditions, to another order or
    to another history of events. List from the beginning."""

    cursor: Final[str]
    """The given cursor."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        super().__init__(
            f"{cursor!r:.100} is not a cursor of this list: pass `next` of a page with the same conditions and order, "
            "or list from the beginning"
        )
