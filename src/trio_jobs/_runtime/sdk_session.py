"""The gate before each attempt: open while the SDK is open and nothing keeps the queue from starting the next one.

It opens the SDK, and opens it anew when the session is used up or lost. It is passed by the consumer alone, between
two attempts, so that a session is never closed under a call.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from trio_jobs._engine import events as ev
from trio_jobs._errors import OutcomeUnknown, SdkCallStuck, SdkOpenFailed
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import as_error
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.settings import Settings

__all__ = ["SdkSessionManager"]

log: Final = logging.getLogger("trio_jobs.queue")


class SdkSessionManager:
    """Lets an attempt pass when the queue is not paused, the store is not in trouble, the SDK is open, and its last
    call ended `min_interval` ago."""

    def __init__(self, *, event_log: EventLog, executor: SdkExecutor, clock: Clock, settings: Settings) -> None:
        self._event_log = event_log
        self._projection = event_log.projection
        self._executor = executor
        self._clock = clock
        self._settings = settings
        self._paces = settings.min_interval > 0 or settings.renew_after_idle is not None
        self._jobs_a_session = settings.renew_after_jobs
        self._stop = trio.Event()
        self._stopped = False
        self._changed = trio.Event()
        self._settled = trio.Event()
        self._settled.set()
        self._stale = False
        self._attempts_in_session = 0
        self._last_end: float | None = None
        self._quiet_since = 0.0

    def is_open(self) -> bool:
        """May an attempt begin now?"""
        return (
            self._executor.is_open
            and self._projection.paused is None
            and not self._stale
            and not self._stopped
            and not (self._paces and (self._must_rest() or self._was_idle()))
            and not self._is_store_in_trouble()
        )

    async def wait(self) -> None:
        """Until an attempt may begin. Raises `SdkOpenFailed`, `SdkCallStuck`. Cancelled: the SDK may be open or not."""
        while not self.is_open():
            self._changed = trio.Event()
            if self._stopped:
                await trio.sleep_forever()
            elif self._event_log.projection.paused is not None:
                await self._changed.wait()
            elif self._is_store_in_trouble():
                # else handlers that do not wait for their start would go on writing into a store that takes nothing
                try:
                    await self._event_log.committed(self._event_log.projection.seq)
                except OutcomeUnknown:  # it has failed for good, and tells the owner so: the queue is about to stop
                    await trio.sleep_forever()
                await trio.lowlevel.checkpoint()
            elif not self._executor.is_open or self._stale or self._was_idle():
                await self._renew()
            else:
                assert self._last_end is not None
                await trio.sleep_until(self._last_end + self._settings.min_interval)

    def _is_store_in_trouble(self) -> bool:
        return self._event_log.durable and self._event_log.store.trouble is not None

    async def make_usable(self) -> bool:
        """Within an attempt: the SDK open, even while the queue is paused. False: it stops, and will not be.

        Raises `SdkOpenFailed`, `SdkCallStuck`. Cancelled: the SDK may be open or not.
        """
        while not self._executor.is_open or self._stale or self._was_idle():
            if self._stopped:
                return False
            await self._renew()
        return True

    async def pace(self) -> None:
        """Before each further call of an attempt: until the last one ended `min_interval` ago. Cancelled: it did
        not."""
        if self._must_rest():
            assert self._last_end is not None
            await trio.sleep_until(self._last_end + self._settings.min_interval)

    def call_ended(self) -> None:
        """A call into the SDK, or an attempt, has ended now."""
        if self._paces:
            self._last_end = self._quiet_since = self._clock.monotonic()

    def attempt_ended(self, *, session_lost: bool) -> None:
        """An attempt has ended. `session_lost`: by its own word the session is of no use any more."""
        if self._paces:
            self.call_ended()
        self._attempts_in_session += 1
        if session_lost or (self._jobs_a_session is not None and self._attempts_in_session >= self._jobs_a_session):
            self._stale = True

    def changed(self) -> None:
        """Paused or resumed: look again."""
        self._changed.set()

    def stop(self) -> None:
        """Nothing passes any more."""
        self._stopped = True
        self._stop.set()
        self._changed.set()

    async def settle(self) -> None:
        """Return when no session is being opened or closed. Cancelled: nothing is changed."""
        await self._settled.wait()

    def _must_rest(self) -> bool:
        rest = self._settings.min_interval
        return rest > 0 and self._last_end is not None and self._clock.monotonic() < self._last_end + rest

    def _was_idle(self) -> bool:
        longest = self._settings.renew_after_idle
        return longest is not None and self._clock.monotonic() >= self._quiet_since + longest

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
        """Open the SDK, trying again after errors. Raises `SdkOpenFailed`. Returns early when the queue is stopped."""
        last: BaseException | None = None
        failures = 0
        retry, timeout = self._settings.open_retry, self._settings.open_timeout
        with trio.move_on_after(timeout):
            while True:
                try:
                    await self._executor.open()
                except (Exception, SystemExit, GeneratorExit) as error:
                    last, failures = error, failures + 1
                    log.warning("opening the SDK failed (%d): %s", failures, as_error(error).type)
                    if failures > retry.max_retries or not retry.retries(error):
                        raise SdkOpenFailed(
                            f"the SDK could not be opened ({failures} tries): {as_error(error)}"
                        ) from error
                    with trio.move_on_after(retry.wait_before(failures, 0.0)):
                        await self._stop.wait()
                        return
                else:
                    self._stale = False
                    self._attempts_in_session = 0
                    self._quiet_since = self._clock.monotonic()
                    self._record(
                        ev.SessionOpened(
                            seq=self._event_log.next_seq, at=self._clock.now(), session=self._executor.session
                        )
                    )
                    return
        why = "its opening has not returned" if self._executor.inside else f"the last error was {last!r}"
        raise SdkOpenFailed(f"the SDK could not be opened within {timeout:g} s: {why}") from last

    async def close_sdk(self) -> tuple[bool, str | None]:
        """Close the SDK within `close_timeout`. Was it closed; and if not so, or not well, why."""
        executor, event_log = self._executor, self._event_log
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
        problem_ = executor.take_close_problem()
        if was_open or problem_ is not None:
            self._record(
                ev.SessionClosed(
                    seq=event_log.next_seq, at=self._clock.now(), session=executor.session, problem=problem_
                )
            )
        return True, problem_

    def _record(self, event: ev.QueueEvent) -> None:
        self._event_log.append((event,))
