"""The call of `save`: where it runs, its limit, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import outcome
import trio

from trio_jobs._call_report import CallReport, report_error
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._engine.openings import OpeningReason
from trio_jobs._engine.retry import DEFAULT_RETRY
from trio_jobs._ports import Clock, Discard, SdkExecutor
from trio_jobs._runtime.attempt import RunningAttempt
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.saver import CallSave, SaveReport
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._sdk_call import SaveCall

__all__ = ["make_call_save"]


def make_call_save(
    *,
    save: Callable[[Any], Any],
    executor: SdkExecutor,
    clock: Clock,
    overruns: OverrunMonitor,
    interrupter: Interrupter,
    sessions: SdkSessionManager,
    handlers: Mapping[str, Handler],
    save_timeout: float,
) -> CallSave:
    """Return the function that calls `save`. It never raises.

    Args:
        save: A function of the SDK; it may be asynchronous if the SDK is.
        executor: Has the session.
        clock: The source of times.
        overruns: Watches the limit.
        interrupter: Has interrupted the call if it exceeded its limit.
        sessions: Renews the session after that.
        handlers: By kind. Their retry policies are asked about what `save` raises.
        save_timeout: The limit in seconds.
    """
    renew = sessions.renew_after_error
    # all handlers of an asynchronous SDK are asynchronous, and enter it at their start
    has_async_sdk = any(handler.is_async and handler.enters_at_start for handler in handlers.values())
    retries = {kind: handler.rules.retry for kind, handler in handlers.items()}

    async def call_save(running: RunningAttempt) -> SaveReport:
        scope = trio.CancelScope() if has_async_sdk else None
        running.limit_in_seconds(clock, save_timeout, scope)
        overruns.watch(running)
        call = SaveCall(save, retries, renew, has_async_sdk=has_async_sdk)
        ended: CallReport | outcome.Error | None = None
        try:
            if scope is None:
                ended = await executor.call(call)
            else:
                with scope:
                    ended = await executor.call(call)
        except BaseException as error:  # the executor has failed, or Cancelled or Ctrl-C was raised in Trio's thread
            ended = outcome.Error(error)
        running.clear_limits()
        if interrupter.was_interrupted(running):
            sessions.renew_soon()
            if not isinstance(ended, CallReport) or (ended.error is not None and not ended.error.stuck):
                ended = None  # its limit has ended it
        return _report(ended)

    def _report(ended: CallReport | outcome.Error | None) -> SaveReport:
        if ended is None:
            discard = None if renew is False else Discard("save_timeout")
            return SaveReport(f"it did not return within {save_timeout:g} s", interrupted=True, discard=discard)
        raised = ended.error if isinstance(ended, outcome.Error) else None
        report = ended if isinstance(ended, CallReport) else report_error(ended.error, DEFAULT_RETRY, renew)
        error = report.error
        if error is None:
            if report.not_run is None:
                return SaveReport()
            info = ErrorInfo("InvalidHandler", f"save returned {report.not_run}, which has not run")
            return SaveReport(str(info), info, discard=Discard("save has not run"))
        discard = None
        if error.lost or error.renews:
            reason: OpeningReason = "lost" if error.lost else "error"
            discard = Discard("save raised", by_last_call=raised is None, next_opening=reason)
        if error.stuck or error.by_signal or error.cancelled:
            passing = None if error.stuck else raised or KeyboardInterrupt()
            problem = f"it was interrupted ({error.info.type})"
            return SaveReport(problem, interrupted=True, discard=discard, passing=passing)
        return SaveReport(str(error.info), error.info, frozenset(report.retryable_kinds), discard=discard)

    return call_save
