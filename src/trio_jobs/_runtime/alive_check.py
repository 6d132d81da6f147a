"""The question whether an idle session still works: `alive` of the service, asked before a job.

A connection that has been idle may be dead, and no list of errors says so before the first job fails. So `alive` is
called in the SDK before a job is started, if the last call ended `check_after` seconds ago, those of a suspend
included. If it returns a false value or raises, the session is lost, and the next one is opened before the job: that
costs the job no attempt and no retry.

The call is bounded as a verify is: after `TIMEOUT` it is interrupted, if the service has an `interrupt`, and overdue a
second later; it is stuck after `TIMEOUT` again. In Trio it is cancelled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import bare_nursery
from trio_jobs._engine import events as ev
from trio_jobs._interruption import Interrupts, Kills
from trio_jobs._log import Log
from trio_jobs._ports import Clock, Discard, SdkExecutor
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.shared_state import QueueStatus
from trio_jobs._sdk_call import FunctionCall

__all__ = ["AliveCheck"]

log: Final = Log("trio_jobs.queue")

TIMEOUT: Final = 30.0  #: seconds, as of a verify
GRACE: Final = 1.0  #: seconds in which a call that was interrupted may end


class AliveCheck:
    """Asks `alive`.

    Args:
        fn: The function of the service.
        is_async: The SDK is asynchronous, and `fn` may be.
        on_stuck: Called once for a call that is stuck, with its name.
    """

    def __init__(
        self,
        *,
        fn: Callable[[Any], Any],
        is_async: bool,
        executor: SdkExecutor,
        event_log: EventLog,
        clock: Clock,
        interrupter: Interrupter,
        status: QueueStatus,
        on_stuck: Callable[[str], None],
    ) -> None:
        self._fn = fn
        self._is_async = is_async
        self._executor = executor
        self._event_log = event_log
        self._clock = clock
        self._interrupter = interrupter
        self._status = status
        self._on_stuck = on_stuck

    async def ask(self) -> Discard | None:
        """Call `alive` in the session.

        Returns:
            Why the session is lost; None if it is alive.

        Cancelled:
            Only with an asynchronous SDK: it is not known whether the session is alive.
        """
        call = FunctionCall("alive", self._in_trio if self._is_async else self._fn, convert=bool)
        report: CallReport | None = None
        async with bare_nursery() as nursery:
            nursery.start_soon(self._watch)
            try:
                if self._is_async:
                    with trio.move_on_after(TIMEOUT):
                        report = await self._executor.call(call)
                else:
                    report = await self._executor.call(call)
            finally:
                self._status.pump = None
                nursery.cancel_scope.cancel()
        if report is None:
            problem = f"did not answer within {TIMEOUT:g} s"
        elif report.error is not None:
            problem = f"raised {report.error.info}"
        elif report.not_run is not None:
            problem = f"returned {report.not_run}, which has not run"
        elif report.result is not None and bytes(report.result) == b"true":
            return None
        else:
            problem = "returned False"
        log.warning("alive %s: the SDK session is lost, and a new one is opened", problem)
        return Discard(f"alive {problem}", by_last_call=True, next_opening="lost")

    async def _in_trio(self, sdk: Any) -> bool:
        answer = self._fn(sdk)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        """Report a call that does not return. Cancelled when it does."""
        limit_at = trio.current_time() + TIMEOUT
        await trio.sleep_until(limit_at)
        number = self._executor.call_inside if isinstance(self._executor, Interrupts) else None
        if number is not None:
            self._interrupter.interrupt_soon(number, "alive")
        await trio.sleep_until(limit_at + GRACE)
        log.warning("alive has not returned within %g s", TIMEOUT)
        self._status.pump = "overdue"
        if isinstance(self._executor, Kills):
            self._executor.kill()
        await trio.sleep_until(limit_at + TIMEOUT)
        log.error("alive is stuck; the queue is blocked until it returns")
        self._status.pump = "stuck"
        event_log = self._event_log
        event_log.append([ev.Stuck(seq=event_log.next_seq, at=self._clock.now(), culprit="alive")])
        self._on_stuck("alive")
