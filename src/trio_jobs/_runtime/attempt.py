"""Floor 6: one attempt while it is under way, and what its end is called.

The hard part is to tell apart, after the fact, who ended an attempt. A handler may swallow Cancelled, raise something
else while it is cancelled, raise a Cancelled that belongs to another scope, overrun its deadline behind a shield, or
return just then. So nothing is concluded from the exception alone: `RunningAttempt` remembers who asked for the end
first, and `classify` looks at that, at the exception, and at whether the handler returned.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

import msgspec
import outcome
import trio

from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.jobs import MAX_MESSAGE, MAX_TRACEBACK, EndedBy, ErrorInfo, JobRecord, Outcome, escape
from trio_jobs._errors import SdkCallRefused, SdkCallStuck

__all__ = ["NEVER", "RunningAttempt", "as_error", "classify", "describe", "log_fields"]

NEVER: Final = float("inf")  #: a time that does not come

_BY_LIMIT: Final = {
    EndedBy.ATTEMPT_TIMEOUT: Outcome.TIMED_OUT,
    EndedBy.DEADLINE: Outcome.EXPIRED,
    EndedBy.CANCEL: Outcome.CANCELLED,
    EndedBy.STOP: Outcome.STOPPED,
}


class RunningAttempt(msgspec.Struct, eq=False):
    """An attempt under way.

    scope: bounds it by attempt_timeout, a person's cancel and the stop; deadline_scope around it by the job's deadline,
    None without one. limit_at: when it is overdue, on Trio's clock, by which limit. why: who asked for its end before
    any deadline did. entered: a call into the SDK has begun. session_lost: the handler says that the session is of no
    use any more. aside: bounds what comes before and after the handler (a doubt that settles, a verify), which only the
    stop ends: a person's cancel asks for no retry, not for the doubt to stay. stopped: the queue stops.
    """

    record: JobRecord
    handler: Handler
    scope: trio.CancelScope
    deadline_scope: trio.CancelScope | None = None
    limit_at: float = NEVER
    limit: EndedBy = EndedBy.ATTEMPT_TIMEOUT
    entered: bool = False
    why: EndedBy | None = None
    session_lost: bool = False
    aside: trio.CancelScope | None = None
    stopped: bool = False

    def step_aside(self, timeout: float = NEVER) -> trio.CancelScope:
        """A new `aside`, of `timeout` seconds; a scope can be entered once."""
        self.aside = trio.CancelScope(deadline=trio.current_time() + timeout)
        if self.stopped:
            self.aside.cancel()
        return self.aside

    def cancel(self, why: EndedBy) -> None:
        """End it, unless something else does already."""
        if why is EndedBy.STOP:
            self.stopped = True
            if self.aside is not None:
                self.aside.cancel()
        if self.ended_by() is None:
            self.why = why
            self.scope.cancel()

    def ended_by(self) -> EndedBy | None:
        """Who ended it, or is about to; None while nobody did."""
        if self.why is not None:
            return self.why
        inner = self.scope.cancel_called
        outer = self.deadline_scope is not None and self.deadline_scope.cancel_called
        if inner and outer:
            assert self.deadline_scope is not None
            outer = self.deadline_scope.deadline <= self.scope.deadline
        if outer:
            return EndedBy.DEADLINE
        return EndedBy.ATTEMPT_TIMEOUT if inner else None


def classify(
    running: RunningAttempt, result: outcome.Value[Any] | outcome.Error | None, late: bool
) -> tuple[AttemptResult, BaseException | None]:
    """What the attempt's end is called; and an exception that must go on, if there is one.

    `result` is what the handler returned or raised, None when its scope caught the Cancelled that ended it.
    """
    entered = running.entered
    if isinstance(result, outcome.Value):
        body, problem = encode_result(result.value)
        return AttemptResult(Outcome.COMPLETED, body, problem, entered=entered, late=late), None
    ended_by = running.ended_by()
    if result is None:
        assert ended_by is not None
        return AttemptResult(_BY_LIMIT[ended_by], ended_by=ended_by, entered=entered, late=late), None
    error = _leaf(result.error)
    running.session_lost = _holds(error, SessionLost)
    if isinstance(error, Fail | Cancel | Snooze | RetryAfter):
        return _as_asked(error, entered, late), None
    info = describe(error)
    if isinstance(error, SdkCallStuck):
        return AttemptResult(Outcome.INSIDE, error=info, ended_by=EndedBy.STOP, entered=True), None
    if _holds(error, KeyboardInterrupt):
        return AttemptResult(Outcome.STOPPED, error=info, ended_by=EndedBy.STOP, entered=entered), error
    if isinstance(error, trio.Cancelled) and trio.current_effective_deadline() == -NEVER:
        return AttemptResult(Outcome.STOPPED, ended_by=EndedBy.STOP, entered=entered), error
    refused = isinstance(error, SdkCallRefused)
    if ended_by is not None and (running.handler.is_async or refused):
        # cancelled, and its cleanup raised, or its call or step was refused for that: the bound ended it, not the error
        outcome_ = _BY_LIMIT[ended_by]
        kept = None if refused else info
        return AttemptResult(outcome_, error=kept, ended_by=ended_by, entered=entered, late=late), None
    retryable = running.handler.rules.retry.retries(error)
    return AttemptResult(Outcome.ERROR, error=info, retryable=retryable, entered=entered, late=late), None


def _as_asked(error: Fail | Cancel | Snooze | RetryAfter, entered: bool, late: bool) -> AttemptResult:
    match error:
        case Snooze():
            return AttemptResult(Outcome.SNOOZE, wait=error.seconds, entered=entered, late=late)
        case RetryAfter():
            info = as_error(error)
            return AttemptResult(Outcome.RETRY_AFTER, error=info, wait=error.seconds, entered=entered, late=late)
        case Fail():
            return AttemptResult(Outcome.FAIL, error=as_error(error), entered=entered, late=late)
        case _:
            return AttemptResult(Outcome.CANCEL, error=as_error(error), entered=entered, late=late)


def _leaf(error: BaseException) -> BaseException:
    """The one error in nested groups of one; a Cancelled beside real errors does not count as one of them."""
    while isinstance(error, BaseExceptionGroup):
        _, others = error.split(trio.Cancelled)
        group = others if others is not None else error
        if len(group.exceptions) > 1:
            return group
        error = group.exceptions[0]
    return error


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


def describe(error: BaseException) -> ErrorInfo:
    """`error` as data, its traceback with it."""
    lines = "".join(traceback.format_exception(error))
    info = as_error(error)
    return ErrorInfo(info.type, info.message, info.code, _clean(lines)[-MAX_TRACEBACK:])


def as_error(error: BaseException) -> ErrorInfo:
    """`error` as data, for one raised on purpose: where it was raised is of no interest."""
    if isinstance(error, trio.Cancelled):
        return ErrorInfo("Cancelled", "the handler raised a Cancelled that belongs to none of its scopes")
    try:
        message = str(error)
    except Exception as worse:
        message = f"(its __str__ raised {type(worse).__name__})"
    for name in ("code", "hresult", "errno"):
        code = getattr(error, name, None)
        if isinstance(code, int | str) and not isinstance(code, bool):
            return ErrorInfo(type(error).__name__, _clean(message)[:MAX_MESSAGE], _fitting(code))
    return ErrorInfo(type(error).__name__, _clean(message)[:MAX_MESSAGE])


def log_fields(record: JobRecord) -> dict[str, object]:
    """What a log record about a job carries, for structured formatters (docs/logging.md). Never a payload."""
    return {
        "job_id": record.id,
        "kind": record.kind,
        "key": None if record.key is None else escape(record.key),
        "attempt": len(record.attempts),
        "reason": record.reason,
    }


def _fitting(code: int | str) -> int | str:
    if isinstance(code, str):
        return _clean(code)[:100]
    return code if -(2**63) <= code < 2**63 else _clean(str(code)[:100])


def _clean(text: str) -> str:
    """Without the lone surrogates that UTF-8, and so JSON, cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
