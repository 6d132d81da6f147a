"""The progress of jobs that waits to be sent: only the newest of each job."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from trio_jobs._engine.progress import Progress

__all__ = ["NewestProgress"]

MAX_JOBS: Final = 100  #: jobs whose progress is kept; one job is processed at a time


class NewestProgress:
    """Keeps the newest progress of at most `MAX_JOBS` jobs."""

    def __init__(self) -> None:
        self._by_job: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._by_job)

    def put(self, news: Progress) -> None:
        """Replace what is kept of the job; drop the oldest if there are too many jobs."""
        self._by_job.pop(news.job_id, None)
        if len(self._by_job) >= MAX_JOBS:
            del self._by_job[next(iter(self._by_job))]
        self._by_job[news.job_id] = news

    def take(self) -> Collection[Progress]:
        """Return what is kept, the oldest first, and keep nothing."""
        taken, self._by_job = self._by_job, {}
        return taken.values()
