"""The openings of sessions, with their retries: the first within a limit, further ones for as long as it takes.

Only at the start is an SDK that does not open an error of the owner.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._concurrency import must_propagate
from trio_jobs._engine.error_info import describe
from trio_jobs._engine.jobs import escape
from trio_jobs._engine.openings import OpeningReason
from trio_jobs._errors import OutcomeUnknown, SdkOpenFailed, UsageError
from trio_jobs._exception_tree import holding, is_a
from trio_jobs._log import Log
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.opening_waits import OpeningWaits
from trio_jobs._runtime.session_opening import SessionOpener
from trio_jobs._runtime.settings import Settings

__all__ = ["OpeningRetries"]

log: Final = Log("trio_jobs.queue")


class OpeningRetries:
    """Opens sessions, each with as many tries as it needs.

    Args:
        opener: Makes one try.
        executor: Has the session.
        waits: When the next try of a further session is due.
        settings: Has the retries and limits.
    """

    def __init__(
        self, *, opener: SessionOpener, executor: SdkExecutor, waits: OpeningWaits, settings: Settings
    ) -> None:
        self._opener = opener
        self._executor = executor
        self._waits = waits
        self._settings = settings
        self._stop = trio.Event()

    def __repr__(self) -> str:
        return f"<OpeningRetries {'stopped' if self._stop.is_set() else f'{self._executor.session} sessions'}>"

    def stop(self) -> None:
        """Begin no further try."""
        self._opener.stop()
        self._stop.set()

    async def open_first(self) -> bool:
        """Open the first session, with retries according to `open_retry`.

        Returns:
            False if the queue stops first.

        Raises:
            SdkOpenFailed: It was not opened within `open_retry` and `open_timeout`.
            SdkInUse: Another queue has had it for so long.

        Cancelled:
            The SDK is not open, or will be closed as soon as its opening returns.
        """
        last: BaseException | None = None
        failures = 0
        retry, timeout = self._settings.open_retry, self._settings.open_timeout
        with trio.move_on_after(timeout) as limit:
            if not await self._opener.take_seat():
                return False
            while True:
                opened = await self._try_to_open("start", failures, limit)
                if opened is True or opened is False:
                    return opened
                last = opened
                failures += 1
                if failures > retry.max_retries or not retry.retries(last):
                    raise SdkOpenFailed(f"the SDK could not be opened (tries: {failures}): {describe(last)}") from last
                if await self._stopped_within(retry.wait_before(failures, 0.0)):
                    return False
        if self._opener.in_use is not None:
            raise self._opener.in_use
        why = "its opening has not returned"
        if last is not None and not self._executor.inside:
            why = f"the last error was {describe(last)}"
        raise SdkOpenFailed(f"the SDK could not be opened within {timeout:g} s: {why}") from last

    async def open_again(self, reason: OpeningReason) -> bool:
        """Open a further session, however long it takes.

        Args:
            reason: Why the session before it has ended. Before the first session it is "start".

        Returns:
            False if the queue stops first.

        Raises:
            SdkOpenFailed: `on_open_failed` is "stop", and the retries of `open_retry` are used.

        Cancelled:
            The SDK is not open, or will be closed as soon as its opening returns.
        """
        retry = self._settings.open_retry
        failures = 0
        while not await self._stopped_within(self._waits.left):
            opened = await self._try_to_open("start" if self._executor.session == 0 else reason, failures)
            if opened is True or opened is False:
                return opened
            failures += 1
            self._waits.opening_failed(failures)
            if self._settings.on_open_failed == "stop" and (failures > retry.max_retries or not retry.retries(opened)):
                raise SdkOpenFailed(
                    f"the SDK could not be opened again (tries: {failures}): {describe(opened)}"
                ) from opened
        return False

    async def _try_to_open(
        self, reason: OpeningReason, failures: int, limit: trio.CancelScope | None = None
    ) -> BaseException | bool:
        """Open a session. Returns the error, which is logged; otherwise whether it was opened."""
        try:
            return await self._opener.open(reason, limit)
        except BaseException as error:
            passing = holding(error, trio.Cancelled)
            if passing is not None:
                raise passing from None
            # what is no context manager never will be one, and a store that has failed ends the queue
            if must_propagate(error) or is_a(error, UsageError) or is_a(error, OutcomeUnknown):
                raise
            log.warning("opening the SDK failed (%d): %s", failures + 1, escape(str(describe(error))))
            return error

    async def _stopped_within(self, seconds: float) -> bool:
        if seconds > 0:
            with trio.move_on_after(seconds):
                await self._stop.wait()
        return self._stop.is_set()
