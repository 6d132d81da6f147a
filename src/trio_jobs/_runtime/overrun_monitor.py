"""The warden: notices that an attempt goes on after its limit.

A cancel scope ends what can be cancelled. A call inside a thread cannot, nor a handler behind a shield; then the
consumer waits, and this task says so: overdue at once, stuck after `stuck_after`.

It costs an attempt no more than a comparison: it sleeps until the earliest limit it was told of, looks then whether the
attempt of that moment is over its own, and sleeps again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import RunningAttempt, log_fields
from trio_jobs._runtime.event_log import EventLog

__all__ = ["GRACE", "OverrunMonitor"]

log: Final = logging.getLogger("trio_jobs.overrun_monitor")

#: Seconds in which a cancelled async handler may clean up before it is called overdue. A call inside a thread has none:
#: what it was told to do cannot reach it.
GRACE: Final = 1.0


class OverrunMonitor:
    """current: the attempt under way. on_stuck: called once for each stuck attempt, with the attempt."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        executor: SdkExecutor,
        clock: Clock,
        current: Callable[[], RunningAttempt | None],
        on_stuck: Callable[[RunningAttempt], None],
    ) -> None:
        self._event_log = event_log
        self._executor = executor
        self._clock = clock
        self._current = current
        self._on_stuck = on_stuck
        self._alarm = float("inf")
        self._scope = trio.CancelScope()
        self.overdue: RunningAttempt | None = None
        self.stuck: RunningAttempt | None = None

    def watch(self, running: RunningAttempt) -> None:
        """An attempt has a limit now."""
        self._set_alarm(running.limit_at)

    def _set_alarm(self, at: float) -> None:
        if at < self._alarm:
            self._alarm = self._scope.deadline = at

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the alarm, then look. Cancelled: nothing was noticed."""
        self._scope = trio.CancelScope(deadline=self._alarm)
        with self._scope:
            await trio.sleep_forever()
        self._alarm = float("inf")
        running = self._current()
        if running is not None and running.limit_at != float("inf"):
            self._set_alarm(self._look(running))

    def _look(self, running: RunningAttempt) -> float:
        """When to look next."""
        now = self._clock.monotonic()
        overdue_at = running.limit_at if self._executor.inside else running.limit_at + GRACE
        if now < overdue_at:
            return overdue_at
        record, event_log = running.record, self._event_log
        if self.overdue is not running:
            self.overdue = running
            log.warning(
                "job %s (%s): its %s has passed and it goes on",
                record.id,
                record.kind,
                running.limit,
                extra=log_fields(record),
            )
            events = decide.overdue(record, running.limit, self._clock.now(), event_log.next_seq)
            event_log.append(events)
        stuck_at = running.limit_at + running.handler.stuck_after
        if now < stuck_at:
            return stuck_at
        if self.stuck is not running:
            self.stuck = running
            log.error(
                "job %s (%s): its call is stuck; the line stands until it returns",
                record.id,
                record.kind,
                extra=log_fields(record),
            )
            wall = self._clock.now()
            event_log.append([ev.Stuck(seq=event_log.next_seq, at=wall, culprit=record.id)])
            events = decide.stuck(record, running.limit, wall, event_log.next_seq)
            event_log.append(events)
            self._on_stuck(running)
        return float("inf")
