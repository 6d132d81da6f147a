"""The overrun monitor: notices that an attempt continues after its limit.

A cancel scope ends what can be cancelled. It cannot end a call inside a thread, nor a handler behind a shield; then the
consumer waits, and this task records it: overdue at once, stuck after `stuck_after`.

It costs an attempt one comparison: the task sleeps until the earliest limit that it knows, then looks whether the
attempt of that moment has exceeded its own limit, and sleeps again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._concurrency import NEVER, Alarm
from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import AttemptSlot, RunningAttempt, log_fields
from trio_jobs._runtime.event_log import EventLog

__all__ = ["GRACE", "OverrunMonitor"]

log: Final = logging.getLogger("trio_jobs.overrun_monitor")

#: Seconds in which a cancelled async handler may clean up before it is overdue. A call inside a thread gets none, since
#: a cancellation cannot reach it
GRACE: Final = 1.0


class OverrunMonitor:
    """Watches the attempt in the slot."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        executor: SdkExecutor,
        clock: Clock,
        slot: AttemptSlot,
        on_stuck: Callable[[RunningAttempt], None],
    ) -> None:
        self._event_log = event_log
        self._executor = executor
        self._clock = clock
        self._slot = slot
        self._on_stuck = on_stuck
        self._alarm = Alarm()
        self.overdue: RunningAttempt | None = None
        """The last attempt that was overdue."""
        self.stuck: RunningAttempt | None = None
        """The last attempt that was stuck."""

    def watch(self, running: RunningAttempt) -> None:
        """The attempt has a limit from now on."""
        self._alarm.set(running.limit_at)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the next limit, then look.

        Cancelled:
            Nothing was recorded.
        """
        await self._alarm.wait()
        running = self._slot.current
        if running is not None and running.limit_at != NEVER:
            self._alarm.set(self._check(running))

    def _check(self, running: RunningAttempt) -> float:
        """Record what has become of the attempt; return when to look next."""
        now = self._clock.monotonic()
        overdue_at = running.limit_at if self._executor.inside else running.limit_at + GRACE
        if now < overdue_at:
            return overdue_at
        record, event_log = running.record, self._event_log
        if self.overdue is not running:
            self.overdue = running
            log.warning(
                "job %s (%s): its %s has passed and it continues",
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
                "job %s (%s): its call is stuck; the queue is blocked until the call returns",
                record.id,
                record.kind,
                extra=log_fields(record),
            )
            wall = self._clock.now()
            event_log.append([ev.Stuck(seq=event_log.next_seq, at=wall, culprit=record.id)])
            events = decide.stuck(record, running.limit, wall, event_log.next_seq)
            event_log.append(events)
            self._on_stuck(running)
        return NEVER
