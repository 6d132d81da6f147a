"""The metrics for Prometheus. prometheus-client is an extra: `pip install trio-jobs[metrics]`.

Gauges are read at the time of a scrape. Waits, runs and ends of attempts are counted from the queue's stream of events
by one reader of the feed, so that a queue without metrics has no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trio_jobs._backend import Backend
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._errors import Lagged
from trio_jobs._event_stream import EventStream
from trio_jobs._server.methods import ConnectionStats

__all__ = ["Metrics", "is_available"]

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
        self._generate = prom.generate_latest
        self.content_type: str = prom.CONTENT_TYPE_LATEST
        self._registry = registry = prom.CollectorRegistry()
        registry.register(_Gauges(self))
        self._wait = prom.Histogram(
            "trio_jobs_wait_seconds", "From pending to the start of an attempt.", buckets=_WAITS, registry=registry
        )
        self._run = prom.Histogram(
            "trio_jobs_run_seconds", "From start to end of an attempt.", buckets=_RUNS, registry=registry
        )
        self._ended = prom.Counter("trio_jobs_ended", "Attempts by outcome.", ["kind", "outcome"], registry=registry)
        self._retries = prom.Counter("trio_jobs_retries", "Attempts that are followed by a retry.", registry=registry)
        self._busy = 0.0  # seconds in attempts that have ended
        self._busy_told = 0.0
        # pending and processing jobs: their number is limited by max_waiting and the capacity of the channel
        self._pending: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def text(self) -> bytes:
        return self._generate(self._registry)

    async def run(self) -> None:
        """Count until cancelled. Events that the reader missed, since the feed does not retain them, are not counted.

        Cancelled:
            Some events are not counted.
        """
        source = self._backend.events
        events = EventStream(source, source.seq)
        while True:
            try:
                async for event in events:
                    self._count(event)
                return
            except Lagged:
                self._pending.clear()
                self._started.clear()

    def _count(self, event: ev.Event) -> None:
        if isinstance(event, ev.Submitted | ev.Due | ev.DoubtResolved | ev.Interrupted | ev.RunRestarted):
            self._end(event)
            if not isinstance(event, ev.Scheduled):
                self._pending[event.job] = event.at
        elif isinstance(event, ev.Started):
            pending_at = self._pending.pop(event.job, None)
            if pending_at is not None:
                self._wait.observe(max(event.at - pending_at, 0.0))
            self._started[event.job] = event.at
        elif isinstance(event, ev.Ended):
            self._pending.pop(event.job, None)
            self._end(event)
            if isinstance(event, ev.RetryScheduled):
                self._retries.inc()

    def _end(self, event: ev.JobEvent) -> None:
        if not isinstance(event, ev.Ended) or event.outcome is None:
            return
        started_at = self._started.pop(event.job, None)
        if started_at is not None:
            ran = max(event.at - started_at, 0.0)
            self._run.observe(ran)
            self._busy += ran
        kind = self._backend.events.kind_of(event.job) or "?"
        self._ended.labels(kind, str(event.outcome)).inc()

    def busy(self) -> float:
        """Seconds in attempts, including the running one, so that a call that does not return is visible.

        The value never decreases, although the end of an attempt is counted later than it happens, and the wall clock
        may be set back.
        """
        now = self._backend.now()
        under_way = sum(max(now - started_at, 0.0) for started_at in self._started.values())
        self._busy_told = max(self._busy_told, self._busy + under_way)
        return self._busy_told

    def hook_errors(self) -> int:
        return self._backend.hook_errors

    def gauges(self) -> Iterator[tuple[str, str, float, dict[str, str]]]:
        """The name, description, value and labels of each gauge."""
        now, backend = self._backend.statistics(), self._backend
        for state, count in now.jobs.items():
            yield "trio_jobs_jobs", "Jobs by state.", count, {"state": str(state)}
        yield "trio_jobs_places", "Slots of the channel.", now.capacity, {}
        yield "trio_jobs_places_free", "Free slots of the channel.", now.free, {}
        yield "trio_jobs_waiting_callers", "Submits that wait for a slot.", now.waiting_callers, {}
        yield "trio_jobs_oldest_waiting_seconds", "Age of the oldest pending job.", self._oldest(), {}
        yield "trio_jobs_in_doubt", "Jobs in doubt.", now.jobs[State.IN_DOUBT], {}
        yield "trio_jobs_healthy", "1 if health() reports no problem.", float(backend.health().ok), {}
        yield "trio_jobs_sdk_sessions", "SDK sessions opened.", now.session, {}
        yield "trio_jobs_seq", "Sequence number of the last event.", now.seq, {}
        yield "trio_jobs_connections", "WebSocket clients.", self._connection_stats.connections, {}
        yield "trio_jobs_subscriptions", "Subscriptions of WebSocket clients.", self._connection_stats.subscriptions, {}
        not_after = self._connection_stats.certificate_not_after
        if not_after is not None:
            yield "trio_jobs_certificate_not_after_seconds", "End of the TLS certificate.", not_after.timestamp(), {}

    def refusals(self) -> Mapping[str, int]:
        """The number of refused clients and requests by reason."""
        return self._connection_stats.refusals

    def _oldest(self) -> float:
        since = self._backend.oldest_pending()
        return 0.0 if since is None else max(self._backend.now() - since, 0.0)


class _Gauges:
    """The collector that prometheus-client calls at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for name, meaning, value, labels in self._metrics.gauges():
            family = families.get(name)
            if family is None:
                family = families[name] = GaugeMetricFamily(name, meaning, labels=[*labels])
            family.add_metric([*labels.values()], value)
        yield from families.values()
        yield CounterMetricFamily("trio_jobs_sdk_busy_seconds", "Seconds in attempts.", self._metrics.busy())
        yield CounterMetricFamily("trio_jobs_hook_errors", "Calls of hooks that raised.", self._metrics.hook_errors())
        refused = CounterMetricFamily("trio_jobs_refused", "Refused clients and requests by reason.", labels=["reason"])
        for reason, count in self._metrics.refusals().items():
            refused.add_metric([reason], count)
        yield refused

    def describe(self) -> list[Any]:
        return []
