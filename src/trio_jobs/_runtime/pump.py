"""The pump: calls a function of the service on the SDK's thread every few seconds, between two calls.

The message loop of COM is the reason: events, and calls of other programs, reach a thread only when it takes them out
of its message queue, and a thread that waits for the next job does not. So a pause of the queue does not stop the pump;
the stop does, before the SDK is closed.

A pump that raises has lost the session, which is closed at once if no attempt is under way. A pump that does not return
within `TIMEOUT` is interrupted, if the service has an `interrupt`; it is overdue a second later, and stuck after
`TIMEOUT` again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._call_report import CallReport
from trio_jobs._engine import events as ev
from trio_jobs._log import Log
from trio_jobs._ports import Clock, Discard
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.pumped_executor import PumpedExecutor
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import QueueStatus

__all__ = ["Pump"]

log: Final = Log("trio_jobs.pump")

TIMEOUT: Final = 10.0  #: seconds; a message loop takes milliseconds
GRACE: Final = 1.0  #: seconds in which a pump that was interrupted may end


class Pump:
    """Calls the pump while the SDK is idle, and monitors it.

    Args:
        on_stuck: Called once for a pump that is stuck, with its name.
    """

    def __init__(
        self,
        *,
        executor: PumpedExecutor,
        event_log: EventLog,
        clock: Clock,
        sessions: SdkSessionManager,
        slot: AttemptSlot,
        interrupter: Interrupter,
        status: QueueStatus,
        on_stuck: Callable[[str], None],
    ) -> None:
        self._executor = executor
        self._event_log = event_log
        self._clock = clock
        self._sessions = sessions
        self._slot = slot
        self._interrupter = interrupter
        self._status = status
        self._on_stuck = on_stuck
        self._number: int | None = None
        executor.watch = self._watch
        executor.on_end = self._on_end

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait until the pump is due, and call it.

        Cancelled:
            The pump is not inside.
        """
        await self._executor.wait_until_due()
        await self._executor.pump()
        if self._executor.lost is None or self._slot.current is not None:
            return  # the consumer closes it after the attempt
        if self._sessions.unsaved.pending:
            self._sessions.unsaved.session_lost()
        else:
            await self._sessions.close_discarded()

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        """Report a pump that does not return. Cancelled when it does."""
        self._number = None
        limit_at = trio.current_time() + TIMEOUT
        await trio.sleep_until(limit_at)
        self._number = self._executor.pump_number
        if self._number is not None:
            self._interrupter.interrupt_soon(self._number, "the pump")
        await trio.sleep_until(limit_at + GRACE)
        log.warning("the pump has not returned within %g s", TIMEOUT)
        self._executor.is_overdue = True
        self._status.pump = "overdue"
        await trio.sleep_until(limit_at + TIMEOUT)
        log.error("the pump is stuck; the queue is blocked until it returns")
        self._status.pump = "stuck"
        event_log = self._event_log
        event_log.append([ev.Stuck(seq=event_log.next_seq, at=self._clock.now(), culprit="pump")])
        self._on_stuck("the pump")

    def _on_end(self, report: CallReport) -> None:
        self._status.pump = None
        if report.error is not None and report.error.stuck:
            return  # the stop has abandoned it
        if report.error is not None:
            log.error("the pump raised %s: the SDK session is lost", report.error.info)
            self._sessions.discard(Discard("the pump raised", by_last_call=True, next_opening="lost"))
        elif self._number is not None and self._interrupter.has_interrupted(self._number):
            self._sessions.renew_soon()
