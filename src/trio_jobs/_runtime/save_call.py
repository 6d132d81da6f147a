"""The call of `save`: where it runs, its limit, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import outcome
import trio

from trio_jobs._call_report import CallReport, report_error
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._engine.openings import OpeningReason
from trio_jobs._engine.retry import DEFAULT_RETRY
from trio_jobs._ports import Discard
from trio_jobs._runtime.attempt import RunningAttempt
from trio_jobs._runtime.call_parts import CallParts
from trio_jobs._runtime.saver import SaveReport
from trio_jobs._sdk_call import SaveCall

__all__ = ["SaveCalls"]


class SaveCalls:
    """Calls `save`, and describes what came of it.

    Args:
        parts: Of the session, which is renewed after an error or an interruption; and of the handlers, whose retry
            policies are asked about what `save` raises.
        save: A function of the SDK; it may be asynchronous if the SDK is.
        timeout: The limit in seconds.
    """

    def __init__(
        self,
        parts: CallParts,
        *,
        save: Callable[[Any], Any],
        timeout: float,
    ) -> None:
        self._save = save
        self._executor = parts.executor
        self._clock = parts.clock
        self._overruns = parts.overruns
        self._interrupter = parts.interrupter
        self._sessions = parts.sessions
        self._timeout = timeout
        self._renew = parts.sessions.renew_after_error
        # all handlers of an asynchronous SDK are asynchronous, and enter it at their start
        self._has_async_sdk = any(handler.is_async and handler.enters_at_start for handler in parts.handlers.values())
        self._retries = {kind: handler.rules.retry for kind, handler in parts.handlers.items()}

    def new(self) -> SaveCall:
        """Return a call of `save`."""
        return SaveCall(self._save, self._retries, self._renew, has_async_sdk=self._has_async_sdk)

    async def make(self, running: RunningAttempt) -> SaveReport:
        """Call `save` within its limit. Never raises.

        Args:
            running: Stands for the save in the slot of the attempts.
        """
        scope = trio.CancelScope() if self._has_async_sdk else None
        running.limit_in_seconds(self._clock, self._timeout, scope)
        self._overruns.watch(running)
        ended: CallReport | outcome.Error | None = None
        try:
            if scope is None:
                ended = await self._executor.call(self.new())
            else:
                with scope:
                    ended = await self._executor.call(self.new())
        except BaseException as error:  # the executor has failed, or Cancelled or Ctrl-C was raised in Trio's thread
            ended = outcome.Error(error)
        running.clear_limits()
        if self._interrupter.was_interrupted(running):
            self._sessions.renew_soon()
            if not isinstance(ended, CallReport) or (ended.error is not None and not ended.error.stuck):
                ended = None  # its limit has ended it
        if isinstance(ended, outcome.Error):
            return self.describe(report_error(ended.error, DEFAULT_RETRY, self._renew), ended.error)
        if ended is None:
            discard = None if self._renew is False else Discard("save_timeout")
            return SaveReport(f"it did not return within {self._timeout:g} s", interrupted=True, discard=discard)
        return self.describe(ended)

    def describe(self, report: CallReport, raised: BaseException | None = None, *, in_step: bool = False) -> SaveReport:
        """Return what follows from the report of a call.

        Args:
            report: The report.
            raised: What was raised in Trio's thread, if the report is of that.
            in_step: The call was part of another one, whose exception it is, if anything is kept of it.
        """
        error = report.error
        if error is None:
            if report.not_run is None:
                return SaveReport()
            info = ErrorInfo("InvalidHandler", f"save returned {report.not_run}, which has not run")
            return SaveReport(str(info), info, discard=Discard("save has not run"))
        discard = None
        if error.lost or error.renews:
            reason: OpeningReason = "lost" if error.lost else "error"
            own = raised is None and not in_step
            discard = Discard("save raised", by_last_call=own, next_opening=reason)
        if error.killed or error.died:
            return SaveReport(str(error.info), interrupted=True, discard=Discard("save", next_opening="killed"))
        if error.stuck or error.by_signal or error.cancelled:
            passing = None if error.stuck or in_step else raised or KeyboardInterrupt()
            problem = f"it was interrupted ({error.info.type})"
            return SaveReport(problem, interrupted=True, discard=discard, passing=passing)
        return SaveReport(str(error.info), error.info, frozenset(report.retryable_kinds), discard=discard)
