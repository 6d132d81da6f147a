"""The gate before each attempt: open while the SDK is open and nothing keeps the queue from starting the next one."""

from __future__ import annotations

import logging
from typing import Final

import trio

from trio_jobs import _events as ev
from trio_jobs._attempts import as_error
from trio_jobs._errors import OpenFailed
from trio_jobs._history import History
from trio_jobs._ports import Clock, Host
from trio_jobs._retry import Retry

__all__ = ["Gate"]

log: Final = logging.getLogger("trio_jobs.queue")


class Gate:
    """Opens the SDK when it is not open, and lets nothing pass until it is. `timeout`: seconds, retries included."""

    def __init__(self, *, history: History, host: Host, clock: Clock, retry: Retry, timeout: float) -> None:
        self._history = history
        self._host = host
        self._clock = clock
        self._retry = retry
        self._timeout = timeout
        self._stopped = False

    def is_open(self) -> bool:
        return self._host.is_open and not self._stopped

    def stop(self) -> None:
        """Nothing passes any more."""
        self._stopped = True

    async def wait(self) -> None:
        """Until an attempt may begin. Raises `OpenFailed`. Cancelled: the SDK may be open or not."""
        if self._stopped:
            await trio.sleep_forever()
        await self.open_sdk()

    async def open_sdk(self) -> None:
        """Open the SDK, trying again after errors. Raises `OpenFailed`."""
        if self._host.is_open:
            return
        last: BaseException | None = None
        failures = 0
        with trio.move_on_after(self._timeout):
            while True:
                try:
                    await self._host.open()
                except (Exception, SystemExit, GeneratorExit) as error:
                    last, failures = error, failures + 1
                    log.warning("opening the SDK failed (%d): %s", failures, as_error(error).type)
                    if failures > self._retry.max_retries or not self._retry.retries(error):
                        raise OpenFailed(
                            f"the SDK could not be opened ({failures} tries): {as_error(error)}"
                        ) from error
                    await trio.sleep(self._retry.wait_before(failures, 0.0))
                else:
                    history = self._history
                    history.record(
                        (ev.HostOpened(seq=history.next_seq, at=self._clock.now(), session=self._host.session),)
                    )
                    return
        why = "its opening has not returned" if self._host.inside else f"the last error was {last!r}"
        raise OpenFailed(f"the SDK could not be opened within {self._timeout:g} s: {why}") from last
