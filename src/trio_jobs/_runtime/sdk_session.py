"""The SDK session: opened at the start, renewed after an error or its limit, closed at the stop.

The consumer waits in `SdkSessionManager.wait` before each attempt. A session is closed only between two attempts, never
during a call.

The hard part is a session in which something went wrong. It may hold half of the work of an attempt, which the work of
the next attempt would make durable; and a `verify` in it would find what only its memory holds. So it is *discarded*:
closed at once, with the exception thrown into its context manager, and replaced before the next attempt or verify. A
new session is opened when a job needs it. That can fail for a long time without ending the queue: only at the start is
an SDK that does not open an error of the owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_jobs._call_report import Renew
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import MAX_MESSAGE, JobRecord, escape
from trio_jobs._engine.openings import OpeningReason
from trio_jobs._errors import OutcomeUnknown, SdkCallStuck
from trio_jobs._interruption import Kills
from trio_jobs._log import Log
from trio_jobs._ports import Clock, Discard, SdkExecutor
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.opening_retries import OpeningRetries
from trio_jobs._runtime.opening_waits import OpeningWaits
from trio_jobs._runtime.seat_lock import SeatLock
from trio_jobs._runtime.session_opening import SessionOpener
from trio_jobs._runtime.session_work import SessionWork
from trio_jobs._runtime.settings import Settings
from trio_jobs._runtime.unsaved_work import NothingUnsaved, UnsavedWork
from trio_jobs._runtime.waits import sleep_until
from trio_jobs._validation import plain_int, plain_text

__all__ = ["SdkSessionManager"]

log: Final = Log("trio_jobs.queue")


class SdkSessionManager:
    """Opens and closes sessions, and determines when an attempt may start.

    An attempt may start if the queue is not paused, the store commits, the SDK is open, and its last call ended
    `min_interval` ago or earlier.
    """

    def __init__(
        self, *, event_log: EventLog, executor: SdkExecutor, clock: Clock, settings: Settings, seat: SeatLock | None
    ) -> None:
        self._event_log = event_log
        self._durable = event_log.durable
        self._projection = event_log.projection
        self._executor = executor
        # asked once: the check of a protocol takes as long as an eighth of a job in memory
        self._kills = executor if isinstance(executor, Kills) else None
        self._clock = clock
        self._settings = settings
        self._measures_time = (
            settings.min_interval > 0 or settings.renew_after_idle is not None or settings.alive is not None
        )
        self._jobs_a_session = settings.renew_after_jobs
        self.stopped = False
        """No further attempt may start."""
        self._changed = WakeUp()
        self._settled = trio.Event()
        self._settled.set()
        self._used_up = False
        self._discard: Discard | None = None
        self.opener = SessionOpener(
            event_log=event_log,
            executor=executor,
            clock=clock,
            seat=seat,
            knows_unclean=settings.seat_lock is not None,
        )
        """Opens the sessions, and has the seat."""
        self._opening_reason: OpeningReason | None = None
        self._attempts_in_session = 0
        self._completed_in_session = 0
        self.waits = OpeningWaits(settings.open_retry)
        """Counts the openings and the sessions that fail in a row."""
        self._openings = OpeningRetries(opener=self.opener, executor=executor, waits=self.waits, settings=settings)
        self.work = SessionWork()
        """The jobs whose work a close that fails may lose."""
        self.unsaved: UnsavedWork = NothingUnsaved()
        """The work that only the memory of the session holds."""
        self._last_end: float | None = None
        self._idle_since = 0.0
        self.renew_after_error: Renew = settings.renew_after_error
        """After which errors a session is discarded. Asked where the error was raised."""
        self._alive_at: float | None = None
        # when the session was opened or `alive` was asked; None if an attempt has ended since
        self.ask_alive: Callable[[], Awaitable[Discard | None]] | None = None
        """Asks `alive`, and returns why the session is lost; None if the service has no `alive`."""
        self.opening = False
        """A session is being opened, or its next opening is waited for."""

    def __repr__(self) -> str:
        return f"<SdkSessionManager session {self._executor.session}, {'ready' if self.ready() else 'not ready'}>"

    def ready(self) -> bool:
        """Whether an attempt may start now."""
        return (
            self._executor.is_open
            and self._projection.paused is None
            and not self._used_up
            and self._discard is None
            and not self.stopped
            and not (self._measures_time and (self._must_rest() or self._was_idle() or self._must_ask_alive()))
            and not (self._durable and self._store_fails())
        )

    @property
    def is_clean(self) -> bool:
        """Whether the session can be saved: it is open, and nothing has gone wrong in it."""
        return self._executor.is_open and self._discard is None and not self._executor.inside

    def is_permitted(self) -> bool:
        """Whether the queue is not paused, does not stop, and its store commits."""
        return not (self.stopped or self._projection.paused is not None or (self._durable and self._store_fails()))

    def must_renew(self) -> bool:
        """Whether the session cannot be used for the next attempt."""
        return not self._executor.is_open or self._used_up or self._discard is not None or self._was_idle()

    async def wait_permitted(self) -> None:
        """Return when the queue is not paused and the store commits. The rest needs a job: the SDK is opened for one.

        Cancelled:
            Nothing has changed.
        """
        while not self.is_permitted():
            await self._wait_for_permission()

    async def wait(self) -> None:
        """Return when an attempt may start. Opens the SDK or renews its session if necessary.

        Raises:
            SdkOpenFailed: The SDK cannot be opened.
            SdkCallStuck: The session cannot be closed.

        Cancelled:
            The SDK may be open or not.
        """
        while not self.ready():
            if not self.is_permitted():
                await self._wait_for_permission()
            elif self.must_renew():
                if self.unsaved.pending and self.is_clean:
                    await self.unsaved.save()
                else:
                    await self._unsettled(self._close_and_open)
            elif self._must_rest():
                await self.pace()
            else:
                await self.ask_alive_if_due()

    async def ask_alive_if_due(self) -> None:
        """Ask `alive` if the session was idle for `check_after`.

        Cancelled:
            Only with an asynchronous SDK: it is not known whether the session is alive.
        """
        if self._must_ask_alive():
            await self._unsettled(self._check_alive)

    def _must_ask_alive(self) -> bool:
        asks = self.ask_alive is not None and self._executor.is_open
        wait = self._settings.check_after
        known_at = self._idle_since + wait if self._alive_at is None else self._alive_at + max(wait, 1.0)
        return asks and self._clock.elapsed() >= known_at

    async def _check_alive(self) -> None:
        assert self.ask_alive is not None
        try:
            lost = await self.ask_alive()
        except (
            BaseException
        ):  # an asynchronous call that was cancelled may have left the session in the middle of something
            self.discard(Discard("alive was cancelled"))
            raise
        self.call_ended()
        self._alive_at = self._clock.elapsed()
        if lost is not None:
            self.discard(lost)
            if self.unsaved.pending:
                self.unsaved.session_lost()

    async def _wait_for_permission(self) -> None:
        self._changed.clear()
        if self.stopped:
            await trio.sleep_forever()
        elif self._projection.paused is not None:
            await self._changed.wait()
        else:
            # without this wait, handlers that do not await the commit of their start would append more and more
            try:
                await self._event_log.committed(self._projection.seq)
            except OutcomeUnknown:  # the store has failed permanently, and the queue is about to stop
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()

    async def make_usable(self) -> bool:
        """Within an attempt: open the SDK or renew its session if necessary, also while the queue is paused.

        Returns:
            False if the queue stops and the SDK will not be opened.

        Raises and Cancelled: as `wait`.
        """
        while self.must_renew():
            if self.unsaved.pending and self.is_clean:
                return True  # it is saved and renewed before the next attempt
            if self.stopped:
                return False
            await self._unsettled(self._close_and_open)
        return True

    async def pace(self) -> None:
        """Return when the last call ended at least `min_interval` ago. Awaited before each further call of an attempt.

        Cancelled:
            Less time has passed.
        """
        if self._last_end is not None and self._must_rest():
            await sleep_until(self._clock, self._last_end + self._settings.min_interval)

    def call_ended(self) -> None:
        """A call into the SDK, or an attempt, has just ended."""
        if self._measures_time:
            self._last_end = self._idle_since = self._clock.elapsed()

    def attempt_ended(self, discard: Discard | None, completed: JobRecord | None) -> None:
        """An attempt has ended.

        Args:
            discard: Why the session cannot be used any more; None if it can.
            completed: The job, if its handler has the SDK and returned.
        """
        if self._measures_time:
            self.call_ended()
            self._alive_at = None
        self._attempts_in_session += 1
        if completed is not None and self._settings.save is None:
            self._completed_in_session += 1
            self.work.add(completed)
        if self._jobs_a_session is not None and self._attempts_in_session >= self._jobs_a_session:
            self._used_up = True
        if discard is not None:
            self.discard(discard)

    def saved(self, jobs: int) -> None:
        """A save has completed so many jobs."""
        self._completed_in_session += jobs
        self.work.saved()

    def discard(self, discard: Discard) -> None:
        """Discard the session before the next call."""
        if self._discard is None:
            self._discard = discard

    def renew_soon(self) -> None:
        """Renew the session before the next attempt or verify: the interruption of a call may be felt by the next."""
        self._used_up = True

    async def close_discarded(self) -> None:
        """Close the session if it is discarded, so that what it holds is rolled back now and not at the next job.

        Raises and Cancelled: as `wait`.
        """
        if self.must_close():
            await self._unsettled(self._close_for_renewal)

    def must_close(self) -> bool:
        """Whether a session is open that is discarded, or lost."""
        if self._discard is None and self._kills is None:  # asked after each attempt
            return False
        return (self._discard is not None and self._executor.is_open) or self._is_lost()

    def resumed(self) -> None:
        """The queue was resumed."""
        self._changed.set()

    def stop(self) -> None:
        """No further attempt may start."""
        self.stopped = True
        self._openings.stop()
        self._changed.set()

    async def wait_settled(self) -> None:
        """Return when no session is being opened or closed.

        Cancelled:
            Nothing has changed.
        """
        await self._settled.wait()

    def _is_lost(self) -> bool:
        """Whether the process of the session has ended before it was closed, and this is not recorded yet."""
        return self._kills is not None and self._kills.has_lost_session

    def _store_fails(self) -> bool:
        return self._event_log.store.trouble is not None

    def _must_rest(self) -> bool:
        rest = self._settings.min_interval
        return rest > 0 and self._last_end is not None and self._clock.elapsed() < self._last_end + rest

    def _was_idle(self) -> bool:
        longest = self._settings.renew_after_idle
        return longest is not None and self._clock.elapsed() >= self._idle_since + longest

    async def _unsettled(self, do: Callable[[], Awaitable[None]]) -> None:
        """Open or close a session. The stop of the queue waits until this has returned."""
        while not self._settled.is_set():  # the pump has lost the session, and closes it
            await self._settled.wait()
        self._settled = trio.Event()
        try:
            await do()
        finally:
            self._settled.set()

    async def _close_and_open(self) -> None:
        if self._executor.is_open or self._is_lost():
            await self._close_for_renewal()
        else:
            self.unsaved.session_ends(self._discard)
        self.opening = True
        try:
            if await self._openings.open_again(self._opening_reason or "lost"):
                self._session_opened()
        finally:
            self.opening = False

    async def _close_for_renewal(self) -> None:
        closed, problem = await self.close_sdk()
        if not closed:
            raise SdkCallStuck(f"the SDK session was to be renewed, but {problem}")

    async def open_sdk(self) -> None:
        """Open the first session. Returns early when the queue stops. Raises and Cancelled: as `open_first`."""
        if await self._openings.open_first():
            self._session_opened()

    def _session_opened(self) -> None:
        self._used_up = False
        self._discard = self._opening_reason = None
        self._attempts_in_session = self._completed_in_session = 0
        self._idle_since = self._alive_at = self._clock.elapsed()

    async def close_sdk(self) -> tuple[bool, str | None]:
        """Close the SDK within `close_timeout`.

        Returns:
            Whether no session is open any more; and why it is still open, or what its close raised.

        Cancelled:
            It is not known whether the session is closed.
        """
        executor = self._executor
        self.unsaved.session_ends(self._discard)
        if executor.session == 0 and not executor.inside:
            return True, None
        was_open = executor.is_open
        if self._is_lost():
            self._opening_reason = "killed"
        elif was_open:
            self._opening_reason = "renew" if self._discard is None else self._discard.next_opening
        if self._discard is not None and self._settings.save is None:
            self.work.discarded(self._completed_in_session)
        closed = False
        with trio.move_on_after(self._settings.close_timeout):
            closed = await executor.close(self._discard)
        if not closed:
            problem = "a call has not returned" if executor.inside and not was_open else "it did not close in time"
            executor.abandon()
            return False, problem
        close_problem = executor.take_close_problem()
        if close_problem is not None:
            close_problem = escape(plain_text(close_problem)[:MAX_MESSAGE])
        self.waits.session_closed(failed=self._discard is not None and not self._completed_in_session)
        if self.waits.failing:
            log.warning(
                "%d SDK sessions in a row ended because of an error, and no attempt completed in them; the next one is "
                "opened after %.3g s",
                self.waits.failed_sessions,
                max(self.waits.left, 0.0),
            )
        self._discard = None
        if was_open or close_problem is not None:
            session, seq, now = plain_int(executor.session), self._event_log.next_seq, self._clock.now()
            self.work.closed(session, close_problem)
            self._event_log.append((ev.SessionClosed(seq=seq, at=now, session=session, problem=close_problem),))
        return True, close_problem
