"""Finds a job by its key, and makes streams of events, from what callers name: functions, kinds and ends of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.job_filter import parse_state
from trio_jobs._engine.jobs import Job, State
from trio_jobs._event_stream import EventStream
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.queries import Queries
from trio_jobs._runtime.submission import SubmissionFactory

__all__ = ["Lookups"]


class Lookups:
    """The methods are documented in `Queue`."""

    def __init__(self, *, event_log: EventLog, submissions: SubmissionFactory, queries: Queries, feed: Feed) -> None:
        self._event_log = event_log
        self._submissions = submissions
        self._queries = queries
        self._feed = feed

    def find(self, kind: str | Callable[..., Any] | None, key: str) -> Job:
        if kind is not None and not isinstance(kind, str):
            kind = self._submissions.handler(kind).kind
        return self._queries.live(self._queries.find(kind, key))

    def events(
        self,
        after: int | None,
        jobs: Iterable[str] | None,
        kinds: Iterable[str] | None,
        states: Iterable[State | str] | None,
    ) -> EventStream:
        if jobs is not None:
            jobs = [*jobs]
            if len(jobs) == 1:  # one job can be named by the end of its id
                jobs = [self._queries.id_of(jobs[0])]
        wanted = Filter(jobs, kinds, None if states is None else frozenset(map(parse_state, states)))
        return EventStream(self._feed, self._event_log.committed_seq if after is None else after, wanted)
