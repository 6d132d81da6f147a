"""The metrics for Prometheus. prometheus-client is an extra: `pip install trio-jobs[metrics]`.

Gauges are read at the time of a scrape. Waits, runs and ends of attempts are counted from the queue's stream of events
by one reader of the feed, so that a queue without metrics has no cost.

prometheus-client only formats the page. Its own counters would write to the directory of `PROMETHEUS_MULTIPROC_DIR`,
which other parts of a program need; a directory that is missing, or a full disk, would end the server.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import trio

from trio_jobs._backend import Backend
from trio_jobs._engine import events as ev
from trio_jobs._engine.job_filter import JobFilter
from trio_jobs._engine.jobs import State
from trio_jobs._engine.status import PROBLEMS
from trio_jobs._errors import Lagged
from trio_jobs._event_stream import EventStream
from trio_jobs._server.methods import ConnectionStats

__all__ = ["Metrics", "is_available"]

WALL_TOLERANCE: Final = 5.0  #: seconds; if the times of an event and of its reading differ more, the clock was set

_WAITS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
_RUNS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


def is_available() -> bool:
    """Whether prometheus-client is installed."""
    try:
        import prometheus_client  # noqa: F401 - only to test whether the extra is installed
    except ImportError:
        return False
    return True


class Metrics:
    """The metrics of one queue. `run` counts until it is cancelled; `text` returns the page for a scrape."""

    def __init__(self, backend: Backend, connection_stats: ConnectionStats) -> None:
        import prometheus_client as prom

        self._backend = backend
        self._connection_stats = connection_stats
        self._events = EventStream(backend.events, backend.events.seq)
        self._generate = prom.generate_latest
        self.content_type: str = prom.CONTENT_TYPE_LATEST
        self._registry = prom.CollectorRegistry()
        self._registry.register(_Collector(self))
        self.wait: dict[str, Histogram] = {}
        """Seconds from pending to the start of an attempt, by kind."""
        self.run_time: dict[str, Histogram] = {}
        """Seconds from start to end of an attempt, by kind."""
        self.ended: Counter[tuple[str, str]] = Counter()
        """Attempts that have ended, by kind and outcome."""
        self.retries = 0
        """Attempts that are followed by a retry."""
        self._busy = 0.0  # seconds in attempts that have ended
        self._busy_told = 0.0
        # pending and processing jobs: their number is limited by max_waiting and the capacity of the channel
        self._pending: dict[str, _Moment] = {}
        self._started: dict[str, _Moment] = {}

    def text(self) -> bytes:
        return self._generate(self._registry)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Count until cancelled. Events that the reader missed, since the feed does not retain them, are not counted.

        Cancelled:
            Some events are not counted.
        """
        while True:
            try:
                async for event in self._events:
                    self._count(event)
                return
            except Lagged:
                self._pending.clear()
                self._started.clear()

    def _count(self, event: ev.Event) -> None:
        if isinstance(event, ev.Submitted | ev.Due | ev.DoubtResolved | ev.Interrupted | ev.RunRestarted):
            self._end(event)
            if not isinstance(event, ev.Scheduled):
                self._pending[event.job] = _Moment(event.at)
        elif isinstance(event, ev.Started):
            pending_since = self._pending.pop(event.job, None)
            if pending_since is not None:
                waited = pending_since.seconds_until(event.at)
                self.wait.setdefault(self._kind_of(event), Histogram(_WAITS)).observe(waited)
            self._started[event.job] = _Moment(event.at)
        elif isinstance(event, ev.Ended):
            self._pending.pop(event.job, None)
            self._end(event)
            if isinstance(event, ev.RetryScheduled):
                self.retries += 1

    def _end(self, event: ev.JobEvent) -> None:
        if not isinstance(event, ev.Ended) or event.outcome is None:
            return
        started = self._started.pop(event.job, None)
        if started is not None:
            ran = started.seconds_until(event.at)
            self.run_time.setdefault(self._kind_of(event), Histogram(_RUNS)).observe(ran)
            self._busy += ran
        self.ended[self._kind_of(event), str(event.outcome)] += 1

    def _kind_of(self, event: ev.JobEvent) -> str:
        kind, _ = self._backend.events.identity_of(event.job) or ("?", None)
        return kind

    def busy(self) -> float:
        """Seconds in attempts, including the running one, so that a call that does not return is visible.

        The value never decreases, although the end of an attempt is counted later than it happens.
        """
        now = self._backend.now()
        under_way = sum(started.seconds_until(now) for started in self._started.values())
        self._busy_told = max(self._busy_told, self._busy + under_way)
        return self._busy_told

    def hook_errors(self) -> int:
        return self._backend.hook_errors

    def interrupt_errors(self) -> int:
        return self._backend.interrupt_errors

    def gauges(self) -> Iterator[tuple[str, str, float, dict[str, str]]]:
        """The name, description, value and labels of each gauge."""
        now, health, backend = self._backend.statistics(), self._backend.health(), self._backend
        for state, kinds in self._by_kind(now.jobs):
            for kind, count in kinds:
                yield "trio_jobs_jobs", "Jobs by state and kind.", count, {"state": str(state), "kind": kind}
        yield "trio_jobs_places", "Slots of the channel.", now.capacity, {}
        yield "trio_jobs_places_free", "Free slots of the channel.", now.free, {}
        yield "trio_jobs_waiting_callers", "Submits that wait for a slot.", now.waiting_callers, {}
        yield "trio_jobs_oldest_waiting_seconds", "Age of the oldest pending job.", self._oldest(), {}
        yield "trio_jobs_in_doubt", "Jobs in doubt.", now.jobs[State.IN_DOUBT], {}
        yield "trio_jobs_healthy", "1 if health() reports no problem.", float(health.ok), {}
        for problem in PROBLEMS:
            present = float(problem in health.problems)
            yield "trio_jobs_problem", "1 if health() reports this problem.", present, {"problem": problem}
        doubt = 0.0 if health.in_doubt_since is None else backend.now() - health.in_doubt_since.timestamp()
        yield "trio_jobs_oldest_doubt_seconds", "Age of the oldest doubt.", max(doubt, 0.0), {}
        yield "trio_jobs_failed_sessions", "SDK sessions in a row that ended in errors.", health.failed_sessions, {}
        yield "trio_jobs_sdk_sessions", "SDK sessions opened.", now.session, {}
        yield "trio_jobs_seq", "Sequence number of the last event.", now.seq, {}
        yield "trio_jobs_connections", "WebSocket clients.", self._connection_stats.connections, {}
        yield "trio_jobs_subscriptions", "Subscriptions of WebSocket clients.", self._connection_stats.subscriptions, {}
        not_after = self._connection_stats.certificate_not_after
        if not_after is not None:
            yield "trio_jobs_certificate_not_after_seconds", "End of the TLS certificate.", not_after.timestamp(), {}

    def _by_kind(self, jobs: Mapping[State, int]) -> Iterator[tuple[State, Iterable[tuple[str, int]]]]:
        """The numbers of jobs of each state by kind, of the kinds that have such jobs or had attempts."""
        kinds = {kind for kind, _ in self.ended}
        for state, total in jobs.items():
            counts: Counter[str] = Counter()
            if total:
                for _ in self._backend.count_steps(JobFilter(states=frozenset({state})), ("kind", ""), counts):
                    pass
            yield state, [(kind, counts[kind]) for kind in sorted(kinds | counts.keys())]

    def refusals(self) -> Mapping[str, int]:
        """The number of refused clients and requests by reason."""
        return self._connection_stats.refusals

    def _oldest(self) -> float:
        return self._backend.oldest_pending_age() or 0.0


class Histogram:
    """Counts values by ranges.

    Args:
        bounds: The upper bounds of the ranges, in order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """How many values are at most each bound, the last one infinite, as Prometheus writes them."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class _Moment:
    """The time of an event, and when it was read."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._read_at = trio.current_time()

    def seconds_until(self, at: float) -> float:
        """The seconds from the event to a time (UTC) that is read now.

        An event is read a moment after it has happened, so its own time is better, unless the wall clock was set.
        """
        passed = trio.current_time() - self._read_at
        return max(at - self._at, 0.0) if abs(at - self._at - passed) < WALL_TOLERANCE else passed


class _Collector:
    """The collector that prometheus-client calls at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        metrics = self._metrics
        for name, meaning, histograms in (
            ("trio_jobs_wait_seconds", "From pending to the start of an attempt.", metrics.wait),
            ("trio_jobs_run_seconds", "From start to end of an attempt.", metrics.run_time),
        ):
            family = HistogramMetricFamily(name, meaning, labels=["kind"])
            for kind, histogram in histograms.items():
                family.add_metric([kind], histogram.buckets(), histogram.total)
            yield family
        ended = CounterMetricFamily("trio_jobs_ended", "Attempts by outcome.", labels=["kind", "outcome"])
        for labels_of_end, count in metrics.ended.items():
            ended.add_metric(labels_of_end, count)
        yield ended
        yield CounterMetricFamily("trio_jobs_retries", "Attempts that are followed by a retry.", metrics.retries)
        families: dict[str, Any] = {}
        for name, meaning, value, labels in self._metrics.gauges():
            gauge = families.get(name)
            if gauge is None:
                gauge = families[name] = GaugeMetricFamily(name, meaning, labels=[*labels])
            gauge.add_metric([*labels.values()], value)
        yield from families.values()
        yield CounterMetricFamily("trio_jobs_sdk_busy_seconds", "Seconds in attempts.", self._metrics.busy())
        yield CounterMetricFamily("trio_jobs_hook_errors", "Calls of hooks that raised.", self._metrics.hook_errors())
        errors = self._metrics.interrupt_errors()
        yield CounterMetricFamily("trio_jobs_interrupt_errors", "Calls of interrupt that failed.", errors)
        refused = CounterMetricFamily("trio_jobs_refused", "Refused clients and requests by reason.", labels=["reason"])
        for reason, count in self._metrics.refusals().items():
            refused.add_metric([reason], count)
        yield refused

    def describe(self) -> list[Any]:
        return []
