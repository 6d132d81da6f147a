"""The interrupter: calls the `interrupt` function of a service when a call in the SDK has exceeded its limit.

Each call is interrupted once at most, by the first of its limits: the attempt's or verify's timeout, the deadline of
the job, an operator's cancel, the stop of the queue. The executor guarantees that an interruption hits no other call.
What a call that was interrupted raises is then not an error of its own: its limit has ended it (`was_interrupted`).

`interrupt` is not part of this package. It runs on a thread of its own, which is waited for `TIMEOUT` seconds. Whatever
it raises is logged and counted. If it raises or hangs, the call becomes overdue and stuck like one that cannot be
interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from trio_jobs._concurrency import WakeUp, must_propagate
from trio_jobs._engine.error_info import describe
from trio_jobs._errors import UsageError
from trio_jobs._interruption import Interruption, Interrupts
from trio_jobs._log import Log
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.attempt import RunningAttempt, log_fields

__all__ = ["Interrupter"]

log: Final = Log("trio_jobs.interrupter")

TIMEOUT: Final = 5.0  #: seconds; `interrupt` sets a flag, closes a socket or writes to a pipe
MAX_REQUESTS: Final = 10  #: calls that wait to be interrupted. One call is inside at a time, so there is one


class Interrupter:
    """Interrupts calls, one after another.

    Args:
        fn: The function of the service; None without one.

    Raises:
        UsageError: There is a function, and the executor cannot interrupt calls.
    """

    def __init__(self, executor: SdkExecutor, fn: Callable[[Any], Any] | None) -> None:
        self._executor: Interrupts | None = None
        if fn is not None:
            if not isinstance(executor, Interrupts):
                raise UsageError(
                    "interrupt= needs an executor that conforms to trio_jobs.ports.Interrupts, which "
                    f"{executor!r:.100} does not"
                )
            self._executor = executor
        self._fn = fn
        self._last = 0
        self._requests: deque[tuple[int, str, Mapping[str, object] | None]] = deque(maxlen=MAX_REQUESTS)
        self._wake = WakeUp()
        self.errors = 0
        """How many calls of `interrupt` have raised or have not returned in time."""

    @property
    def is_used(self) -> bool:
        """Whether the service has an `interrupt` function."""
        return self._executor is not None

    def request(self, running: RunningAttempt) -> None:
        """Interrupt the call of this attempt that is inside, if there is one, unless it was interrupted before.

        Returns at once.
        """
        number = None if self._executor is None else self._executor.call_inside
        if number is None or number == self._last:
            return
        running.interrupted_call = number
        record = running.record
        self.interrupt_soon(number, f"the call of job {record.id} ({record.kind})", log_fields(record))

    def was_interrupted(self, running: RunningAttempt) -> bool:
        """Whether a call of this attempt was interrupted. To be called when the call has returned."""
        return running.interrupted_call is not None and self.has_interrupted(running.interrupted_call)

    def interrupt_soon(self, number: int, what: str, fields: Mapping[str, object] | None = None) -> None:
        """Interrupt the call with this number, if the service has an `interrupt`. Returns at once.

        Args:
            number: The number of the call.
            what: What is called, for the log.
            fields: The fields of the log record.
        """
        if self._executor is not None:
            self._last = number
            self._requests.append((number, what, fields))
            self._wake.set()

    def has_interrupted(self, number: int) -> bool:
        """Whether the call with this number, which has returned, was interrupted."""
        return self._executor is not None and self._executor.interrupted_call == number

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait for a request, and interrupt the call.

        Cancelled:
            The call may be interrupted all the same.
        """
        await self._wake.wait()
        while self._requests:
            number, what, fields = self._requests.popleft()
            problem = await self._interrupt(number)
            if problem is not None:
                self.errors += 1
                log.error("%s was to be interrupted, but interrupt %s", what, problem, extra=fields)

    async def _interrupt(self, number: int) -> str | None:
        """Return what went wrong."""
        assert self._executor is not None
        assert self._fn is not None
        result: Interruption | None = None
        try:
            with trio.move_on_after(TIMEOUT):
                result = await self._executor.interrupt(number, self._fn)
        except BaseException as error:
            if must_propagate(error):
                raise
            return f"could not be called: {describe(error)}"  # no thread can be started
        if result is None:
            return f"has not returned within {TIMEOUT:g} s"
        return None if result.problem is None else f"raised {result.problem}"
