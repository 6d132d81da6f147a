"""Pages of jobs, encoded job by job, so that a page has a limit of bytes as well as of jobs.

The size of a job differs by a factor of thirty: a long error, reason and key, or none of them. WebSocket libraries
refuse messages above 1 MiB by default, and a page that a client refuses would be sent again and again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from trio_jobs._engine.jobs import Job
from trio_jobs._wire.codes import MAX_PAGE_BYTES, Scope
from trio_jobs._wire.conversion import job_to_wire
from trio_jobs._wire.field_scopes import limit_to

__all__ = ["JobPage", "ListOut", "SnapshotOut"]

_encode: Final = msgspec.json.Encoder().encode


class ListOut(Struct, frozen=True, omit_defaults=True):
    """`methods.ListResult` with encoded jobs."""

    seq: int
    jobs: list[Raw]
    more: bool
    next: str | None = None


class SnapshotOut(Struct, frozen=True):
    """`methods.Snapshot` with encoded jobs."""

    subscription: str
    seq: int
    jobs: list[Raw]
    last: bool


class JobPage:
    """A page that is being made.

    Args:
        most: The number of jobs at most.
        scope: Of the token to which it is sent.
    """

    def __init__(self, most: int, scope: Scope = "control") -> None:
        self._scope: Final = scope
        self.jobs: list[Raw] = []
        self.room = most
        """The number of jobs that may still be added; 0 once a job did not fit."""
        self._bytes = 0

    def take(self, job: Job) -> bool:
        """Add a job, unless the page would exceed `MAX_PAGE_BYTES`. The first job always fits.

        Returns:
            False if the job was not added.
        """
        body = _encode(limit_to(job_to_wire(job), self._scope))
        if self.jobs and self._bytes + len(body) > MAX_PAGE_BYTES:
            self.room = 0
            return False
        self.jobs.append(Raw(body))
        self._bytes += len(body) + 1  # with the comma
        self.room -= 1
        return True
