"""The overrun monitor: detects an attempt that continues after its limit.

A cancel scope cannot end a call on a thread, nor a handler behind a shield. The consumer then waits, and this task
records the overrun: the attempt is overdue at once, and stuck after `stuck_after`. If the service has an `interrupt`,
the call is interrupted first, and overdue if it has not returned after a second.

The cost for an attempt is one comparison: the task sleeps until the earliest limit that was set, then checks whether
the current attempt has exceeded its limit, and sleeps again. It sleeps for at most `LOOK_EVERY` seconds, since the
machine may have been suspended and the wall clock, which a deadline follows, may have been set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._concurrency import NEVER, Alarm
from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._interruption import Kills
from trio_jobs._log import Log
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import AttemptSlot, RunningAttempt, log_fields
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.waits import LOOK_EVERY

__all__ = ["GRACE", "KILL_GRACE", "OverrunMonitor"]

log: Final = Log("trio_jobs.overrun_monitor")

#: Seconds in which a cancelled async handler, or a call on a thread that was interrupted, may clean up before it is
#: overdue. A call that cannot be interrupted has none.
GRACE: Final = 1.0
#: Seconds after its limit in which a call in a process can end, by an interruption or since it reads `cancel_requested`
KILL_GRACE: Final = 1.0
#: Seconds in which a process that is killed ends
KILL_WAIT: Final = 10.0


class OverrunMonitor:
    """Monitors the attempt in the slot.

    Args:
        cancel_timeout: Seconds after its limit in which a call can end that waits for the commit of a step.
        on_overdue: Called for a verify that is overdue, of which there is no event.
        on_stuck: Called once for each attempt that is stuck.
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        executor: SdkExecutor,
        clock: Clock,
        slot: AttemptSlot,
        interrupter: Interrupter,
        cancel_timeout: float,
        on_overdue: Callable[[RunningAttempt], None],
        on_stuck: Callable[[RunningAttempt], None],
    ) -> None:
        self._event_log = event_log
        self._executor = executor
        self._clock = clock
        self._slot = slot
        self._interrupter = interrupter
        self._on_overdue = on_overdue
        self._on_stuck = on_stuck
        self._kills: Kills | None = executor if isinstance(executor, Kills) else None
        self._cancel_timeout = cancel_timeout
        self._alarm = Alarm()
        self.overdue: RunningAttempt | None = None
        """The last attempt that was overdue."""
        self.stuck: RunningAttempt | None = None
        """The last attempt that was stuck."""

    def watch(self, running: RunningAttempt) -> None:
        """Monitor the limit of this attempt. Called after `limit_at` was set."""
        self._alarm.set(min(running.limit_at, self._clock.monotonic() + LOOK_EVERY))

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the next limit, then check the current attempt.

        Cancelled:
            Nothing was recorded.
        """
        await self._alarm.wait()
        running = self._slot.current
        if running is not None and running.limit_at != NEVER:
            self._alarm.set(self._check(running))

    def _check(self, running: RunningAttempt) -> float:
        """Record an overrun of the attempt. Returns the time of the next check, on Trio's clock."""
        running.adjust_limits(self._clock)
        now = self._clock.monotonic()
        if now >= running.limit_at and not running.limit_passed:
            running.limit_passed = True
            running.request_end()
        overdue_at = running.limit_at if self._executor.inside else running.limit_at + GRACE
        if self._interrupter.is_used:
            if now < running.limit_at:
                return min(running.limit_at, now + LOOK_EVERY)
            self._interrupter.request(running)
            overdue_at = running.limit_at + GRACE
        if now < overdue_at:
            return min(overdue_at, now + LOOK_EVERY)
        record, event_log = running.record, self._event_log
        if self.overdue is not running:
            self.overdue = running
            log.warning(
                "%s: its %s has passed and it continues",
                running,
                "save_timeout" if running.group else running.limit,
                extra=log_fields(record),
            )
            events = decide.overdue(record, running.limit, self._clock.now(), event_log.next_seq)
            if events:
                event_log.append(events)
            else:
                self._on_overdue(running)
        stuck_at = running.limit_at + running.stuck_after
        if self._kills is not None:
            kill_at = running.limit_at + (self._cancel_timeout if self._kills.waits_for_queue else KILL_GRACE)
            if now < kill_at:
                return min(kill_at, now + LOOK_EVERY)
            self._kills.kill()
            stuck_at = max(stuck_at, kill_at + KILL_WAIT)
        if now < stuck_at:
            return stuck_at
        if self.stuck is not running:
            self.stuck = running
            log.error(
                "%s: its call is stuck; the queue is blocked until the call returns",
                running,
                extra=log_fields(record),
            )
            wall, seq = self._clock.now(), event_log.next_seq
            stuck = ev.Stuck(seq=seq, at=wall, culprit="save" if running.group else record.id)
            # together, so that a hook for "stuck" gets the job as it is then
            event_log.append([stuck, *decide.stuck(record, running.limit, wall, seq + 1)])
            self._on_stuck(running)
        return NEVER
