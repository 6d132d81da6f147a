"""The SDK session: opened at the start, renewed after its limit or a loss, closed at the stop.

The consumer waits in `SdkSessionManager.wait` before each attempt. A session is closed only between two attempts, never
during a call.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._concurrency import WakeUp, must_propagate
from trio_jobs._engine import events as ev
from trio_jobs._engine.error_info import class_name, describe
from trio_jobs._engine.jobs import MAX_MESSAGE, escape
from trio_jobs._errors import OutcomeUnknown, SdkCallStuck, SdkOpenFailed, UsageError
from trio_jobs._exception_tree import holding, is_a
from trio_jobs._log import Log
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.settings import Settings
from trio_jobs._validation import plain_int, plain_text

__all__ = ["SdkSessionManager"]

log: Final = Log("trio_jobs.queue")


class SdkSessionManager:
    """Opens and closes sessions, and determines when an attempt may start.

    An attempt may start if the queue is not paused, the store commits, the SDK is open, and its last call ended
    `min_interval` ago or earlier.
    """

    def __init__(self, *, event_log: EventLog, executor: SdkExecutor, clock: Clock, settings: Settings) -> None:
        self._event_log = event_log
        self._projection = event_log.projection
        self._executor = executor
        self._clock = clock
        self._settings = settings
        self._measures_time = settings.min_interval > 0 or settings.renew_after_idle is not None
        self._jobs_a_session = settings.renew_after_jobs
        self._stop = trio.Event()
        self._stopped = False
        self._changed = WakeUp()
        self._settled = trio.Event()
        self._settled.set()
        self._used_up = False
        self._attempts_in_session = 0
        self._last_end: float | None = None
        self._idle_since = 0.0

    def __repr__(self) -> str:
        return f"<SdkSessionManager session {self._executor.session}, {'ready' if self.ready() else 'not ready'}>"

    def ready(self) -> bool:
        """Whether an attempt may start now."""
        return (
            self._executor.is_open
            and self._projection.paused is None
            and not self._used_up
            and not self._stopped
            and not (self._measures_time and (self._must_rest() or self._was_idle()))
            and not self._store_fails()
        )

    async def wait(self) -> None:
        """Return when an attempt may start. Opens the SDK or renews its session if necessary.

        Raises:
            SdkOpenFailed: The SDK cannot be opened.
            SdkCallStuck: The session cannot be closed.

        Cancelled:
            The SDK may be open or not.
        """
        while not self.ready():
            self._changed.clear()
            if self._stopped:
                await trio.sleep_forever()
            elif self._projection.paused is not None:
                await self._changed.wait()
            elif self._store_fails():
                # without this wait, handlers that do not await the commit of their start would append more and more
                try:
                    await self._event_log.committed(self._projection.seq)
                except OutcomeUnknown:  # the store has failed permanently, and the queue is about to stop
                    await trio.sleep_forever()
                await trio.lowlevel.checkpoint()
            elif self._must_renew():
                await self._renew()
            else:
                assert self._last_end is not None
                await trio.sleep_until(self._last_end + self._settings.min_interval)

    async def make_usable(self) -> bool:
        """Within an attempt: open the SDK or renew its session if necessary, also while the queue is paused.

        Returns:
            False if the queue stops and the SDK will not be opened.

        Raises and Cancelled: as `wait`.
        """
        while self._must_renew():
            if self._stopped:
                return False
            await self._renew()
        return True

    async def pace(self) -> None:
        """Return when the last call ended at least `min_interval` ago. Awaited before each further call of an attempt.

        Cancelled:
            Less time has passed.
        """
        if self._must_rest():
            assert self._last_end is not None
            await trio.sleep_until(self._last_end + self._settings.min_interval)

    def call_ended(self) -> None:
        """A call into the SDK, or an attempt, has just ended."""
        if self._measures_time:
            self._last_end = self._idle_since = self._clock.monotonic()

    def attempt_ended(self, *, session_lost: bool) -> None:
        """An attempt has ended.

        Args:
            session_lost: The handler reported that the session cannot be used any more.
        """
        if self._measures_time:
            self.call_ended()
        self._attempts_in_session += 1
        if session_lost or (self._jobs_a_session is not None and self._attempts_in_session >= self._jobs_a_session):
            self._used_up = True

    def resumed(self) -> None:
        """The queue was resumed."""
        self._changed.set()

    def stop(self) -> None:
        """No further attempt may start."""
        self._stopped = True
        self._stop.set()
        self._changed.set()

    async def wait_settled(self) -> None:
        """Return when no session is being opened or closed.

        Cancelled:
            Nothing has changed.
        """
        await self._settled.wait()

    def _store_fails(self) -> bool:
        return self._event_log.durable and self._event_log.store.trouble is not None

    def _must_rest(self) -> bool:
        rest = self._settings.min_interval
        return rest > 0 and self._last_end is not None and self._clock.monotonic() < self._last_end + rest

    def _must_renew(self) -> bool:
        return not self._executor.is_open or self._used_up or self._was_idle()

    def _was_idle(self) -> bool:
        longest = self._settings.renew_after_idle
        return longest is not None and self._clock.monotonic() >= self._idle_since + longest

    async def _renew(self) -> None:
        self._settled = trio.Event()
        try:
            if self._executor.is_open:
                closed, problem = await self.close_sdk()
                if not closed:
                    raise SdkCallStuck(f"the SDK session was to be renewed, but {problem}")
            await self.open_sdk()
        finally:
            self._settled.set()

    async def open_sdk(self) -> None:
        """Open the SDK, with retries according to `open_retry`. Returns early when the queue stops.

        Raises:
            SdkOpenFailed: It was not opened within `open_retry` and `open_timeout`.

        Cancelled:
            The SDK is not open, or will be closed as soon as its opening returns.
        """
        last: BaseException | None = None
        failures = 0
        retry, timeout = self._settings.open_retry, self._settings.open_timeout
        with trio.move_on_after(timeout):
            while True:
                try:
                    await self._executor.open()
                except BaseException as error:
                    passing = holding(error, trio.Cancelled)
                    if passing is not None:
                        raise passing from None
                    if must_propagate(error) or is_a(error, UsageError):  # what is no context manager never will be one
                        raise
                    last, failures = error, failures + 1
                    log.warning("opening the SDK failed (%d): %s", failures, class_name(error))
                    if failures > retry.max_retries or not retry.retries(error):
                        raise SdkOpenFailed(
                            f"the SDK could not be opened (tries: {failures}): {describe(error)}"
                        ) from error
                    with trio.move_on_after(retry.wait_before(failures, 0.0)):
                        await self._stop.wait()
                        return
                else:
                    self._session_opened()
                    return
        why = "its opening has not returned"
        if last is not None and not self._executor.inside:
            why = f"the last error was {describe(last)}"
        raise SdkOpenFailed(f"the SDK could not be opened within {timeout:g} s: {why}") from last

    def _session_opened(self) -> None:
        self._used_up = False
        self._attempts_in_session = 0
        self._idle_since = self._clock.monotonic()
        self._append(
            ev.SessionOpened(
                seq=self._event_log.next_seq, at=self._clock.now(), session=plain_int(self._executor.session)
            )
        )

    async def close_sdk(self) -> tuple[bool, str | None]:
        """Close the SDK within `close_timeout`.

        Returns:
            Whether no session is open any more; and why it is still open, or what its close raised.

        Cancelled:
            It is not known whether the session is closed.
        """
        executor = self._executor
        if executor.session == 0 and not executor.inside:
            return True, None
        was_open = executor.is_open
        closed = False
        with trio.move_on_after(self._settings.close_timeout):
            closed = await executor.close()
        if not closed:
            problem = "a call has not returned" if executor.inside and not was_open else "it did not close in time"
            executor.abandon()
            return False, problem
        close_problem = executor.take_close_problem()
        if close_problem is not None:
            close_problem = escape(plain_text(close_problem)[:MAX_MESSAGE])
        if was_open or close_problem is not None:
            self._append(
                ev.SessionClosed(
                    seq=self._event_log.next_seq,
                    at=self._clock.now(),
                    session=plain_int(executor.session),
                    problem=close_problem,
                )
            )
        return True, close_problem

    def _append(self, event: ev.QueueEvent) -> None:
        self._event_log.append((event,))
