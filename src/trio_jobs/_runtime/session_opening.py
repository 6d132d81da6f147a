"""The opening of a session: recorded and committed before the factory of the SDK is called.

A process that is killed while the SDK opens, or later, has then left the record. So the next opening of this seat knows
that the session before it may not have closed, and can remove what that one has left behind.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._concurrency import NEVER
from trio_jobs._engine import events as ev
from trio_jobs._engine.error_info import describe
from trio_jobs._engine.jobs import MAX_MESSAGE, escape
from trio_jobs._engine.openings import Opening, OpeningReason
from trio_jobs._interruption import Kills, StartsProcesses
from trio_jobs._log import Log
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.seat_lock import FIRST_WAIT, LONGEST_WAIT, SdkInUse, SeatLock
from trio_jobs._validation import plain_int, plain_text

__all__ = ["SessionOpener"]

log: Final = Log("trio_jobs.queue")


class SessionOpener:
    """Opens sessions, one at a time, and records how that ended."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        executor: SdkExecutor,
        clock: Clock,
        seat: SeatLock | None = None,
        knows_unclean: bool = True,
    ) -> None:
        self.in_use: SdkInUse | None = None
        """Why the seat could not be taken at the last try."""
        self._event_log = event_log
        self._executor = executor
        self._kills = executor if isinstance(executor, Kills) else None
        self._clock = clock
        self._seat = seat
        self._left_alive: list[int] = []
        if seat is not None and isinstance(executor, StartsProcesses):
            executor.on_started = seat.name_process
        self._knows_unclean = knows_unclean
        self._has_begun = False
        self._stop_scope = trio.CancelScope()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<SessionOpener {'stopped' if self._stopped else f'{self._executor.session} sessions'}>"

    def stop(self) -> None:
        """Begin no further opening. One that waits for the seat or for its record is not begun either."""
        self._stopped = True
        self._stop_scope.cancel()

    async def take_seat(self) -> bool:
        """Wait until no other queue has the SDK. Returns False if the queue stops first.

        Raises:
            SdkOpenFailed: The lock file of the seat cannot be used.

        Cancelled:
            The seat is not taken, and `in_use` says who has it.
        """
        wait = FIRST_WAIT
        while not self._stopped:
            try:
                if self._seat is not None and not self._seat.is_held:
                    self._seat.acquire()
            except SdkInUse as error:
                if self.in_use is None:
                    log.warning("waiting: %s", error)
                self.in_use = error
            else:
                if self._has_ended_left_process():
                    self.in_use = None
                    return True
            with trio.CancelScope() as self._stop_scope:
                await trio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        return False

    def _has_ended_left_process(self) -> bool:
        """Kill what is left of the process of the SDK whose queue was killed. Returns whether it has ended."""
        if self._seat is None or self._seat.left is None:
            return True
        alive = self._seat.left.kill()
        if alive:
            if alive != self._left_alive:
                log.warning("ending what is left of an earlier process of the SDK: %s", alive)
            self._left_alive = alive
            self.in_use = SdkInUse(self._seat.path, alive[0], None)
            return False
        self._seat.clear_left()
        return True

    def leave_seat(self) -> None:
        """Let another queue have the SDK. No session is open, and nothing is inside."""
        if self._seat is not None:
            unclean = self._event_log.projection.is_unclean if self._has_begun else self._seat.left_unclean
            self._seat.release(unclean=unclean)

    async def open(self, reason: OpeningReason, limit: trio.CancelScope | None = None) -> bool:
        """Open a session.

        Args:
            reason: Why.
            limit: The limit for opening the SDK. Its deadline is moved by the time for the commit of the record.

        Returns:
            False if the queue stops, and the SDK was not opened.

        Raises:
            OutcomeUnknown: The store has failed permanently. The SDK was not opened.
            BaseException: What opening the SDK raised.

        Cancelled:
            As `SdkExecutor.open`.
        """
        if self._stopped:
            return False
        number = plain_int(self._executor.session) + 1
        unclean = self._event_log.projection.is_unclean
        if not self._has_begun and self._seat is not None:
            unclean = unclean or self._seat.left_unclean  # of another history
        self._has_begun = True
        self._append(
            ev.SessionOpening(
                seq=self._event_log.next_seq, at=self._clock.now(), session=number, reason=reason, unclean=unclean
            )
        )
        if not await self._is_committed(trio.CancelScope() if limit is None else limit):
            self._failed(number, "the queue stops", unclean=unclean)
            return False
        try:
            await self._executor.open(Opening(reason, number, unclean if self._knows_unclean else None))
        except BaseException as error:
            if self._kills is not None and self._kills.has_lost_session:  # its process has ended in the factory
                self._executor.take_close_problem()
                unclean = True
            self._failed(number, escape(plain_text(str(describe(error)))[:MAX_MESSAGE]), unclean=unclean)
            raise
        self._append(
            ev.SessionOpened(
                seq=self._event_log.next_seq, at=self._clock.now(), session=plain_int(self._executor.session)
            )
        )
        return True

    async def _is_committed(self, limit: trio.CancelScope) -> bool:
        """Wait until the record is committed. Returns False if the queue stops first."""
        deadline, limit.deadline, begun = limit.deadline, NEVER, trio.current_time()
        try:
            with trio.CancelScope() as self._stop_scope:
                await self._event_log.committed(self._event_log.projection.seq)
        finally:
            limit.deadline = deadline + (trio.current_time() - begun)
        return not self._stopped

    def _failed(self, number: int, problem: str, *, unclean: bool) -> None:
        """Record that there is no session, if that is certain: an opening that was abandoned may still be inside."""
        if self._executor.inside:
            return
        self._append(
            ev.SessionOpeningFailed(
                seq=self._event_log.next_seq, at=self._clock.now(), session=number, problem=problem, unclean=unclean
            )
        )

    def _append(self, event: ev.QueueEvent) -> None:
        self._event_log.append((event,))
