"""What a call into the SDK comes to, as data: the JSON of a result, or the facts of an error.

An exception refers to the frames that it passed, and these to objects of the SDK, such as COM pointers and widgets,
which must be destroyed on the thread of the SDK. So an exception does not leave that thread. Everything that the queue
must know of it is found out there: the retry policy and `renew_after_error` are asked, and the result is a
`CallReport`, which can also be sent by a child process.
"""

from __future__ import annotations

from typing import Any, Final, Literal, final

import msgspec
import trio

from trio_jobs._concurrency import raised_by_signal
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.error_info import describe
from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.jobs import Done, ErrorInfo, NotDone, Outcome, Unknown
from trio_jobs._engine.lazy_values import close_lazy, lazy_noun
from trio_jobs._engine.retry import Retry, Which, matches
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._errors import InvalidHandler, QueueClosed, SdkCallRefused, SdkCallStuck, UnknownKind, UsageError
from trio_jobs._exception_tree import contains, is_a, leaves, members
from trio_jobs._validation import check_wait

__all__ = [
    "RETURNED_NOTHING",
    "Answer",
    "CallReport",
    "RaisedError",
    "Renew",
    "report_answer",
    "report_error",
    "report_result",
    "stuck",
]

Answer = Literal["done", "not_done", "unknown"]

#: `renew_after_error` of a service
Renew = bool | Which

#: What a handler can ask for, the strongest first
_DIRECTIVES: Final[dict[type[BaseException], Outcome]] = {
    Fail: Outcome.FAIL,
    Cancel: Outcome.CANCEL,
    RetryAfter: Outcome.RETRY_AFTER,
    Snooze: Outcome.SNOOZE,
}

#: The other classes of UsageError say what a job, a key or a token is like at this moment
_MISUSES: Final = (UsageError, InvalidHandler, UnknownKind)


@final
class RaisedError(msgspec.Struct, frozen=True, gc=False):
    """The facts of an exception that a call into the SDK raised."""

    info: ErrorInfo
    """Its type, message, code and traceback."""

    directive: Outcome | None = None
    """What the handler asked for with Fail, Cancel, RetryAfter or Snooze; None if it raised something else too."""

    wait: float = 0.0
    """The seconds of a RetryAfter or Snooze."""

    retryable: bool = False
    """Whether the retry policy of the handler retries it."""

    renews: bool = False
    """Whether `renew_after_error` of the service includes it."""

    lost: bool = False
    """Whether it is, or a group contains, a SessionLost."""

    refused: bool = False
    """Whether it is an SdkCallRefused: the attempt was over, or about to be."""

    stuck: bool = False
    """Whether it is an SdkCallStuck: the call was abandoned, and has not returned."""

    misuse: bool = False
    """Whether it is an error of this package that only a change of the program can prevent."""

    queue_closed: bool = False
    """Whether it is a QueueClosed: a queue has refused what the handler asked of it."""

    killed: bool = False
    """Whether the process of the SDK was killed, since the call has exceeded its limit."""

    died: bool = False
    """Whether the process of the SDK has ended by itself."""

    cancelled: bool = False
    """Whether it is a Cancelled of Trio."""

    by_signal: bool = False
    """Whether it is a KeyboardInterrupt that a signal raised."""


@final
class CallReport(msgspec.Struct, frozen=True, gc=False):
    """What a call into the SDK returned or raised."""

    result: msgspec.Raw | None = None
    """The JSON of what it returned; None if it raised, or the result cannot be kept."""

    problem: str | None = None
    """Why the result cannot be kept; None if it is kept."""

    not_run: str | None = None
    """What a handler returned that has not run, such as "a coroutine"; or what verify returned that is no answer."""

    answer: Answer | None = None
    """The answer of verify; None for other calls, and if verify raised or returned something else."""

    error: RaisedError | None = None
    """What it raised; None if it returned."""

    entered: bool = True
    """False if it raised before the SDK was called: its payload could not be decoded."""

    retryable_kinds: tuple[str, ...] = ()
    """Of a save that raised: the kinds of jobs whose retry policy retries the error."""


def report_result(value: Any) -> CallReport:
    """Return the report of a call that returned `value`. Never raises."""
    return RETURNED_NOTHING if value is None else CallReport(*encode_result(value))


RETURNED_NOTHING: Final = CallReport(*encode_result(None))  # what most handlers return


def report_answer(value: Any) -> CallReport:
    """Return the report of a verify that returned `value`. Never raises."""
    class_ = type(value)
    if issubclass(class_, Done):
        body, problem, _ = encode_result(value.result)
        return CallReport(body, problem, answer="done")
    if issubclass(class_, NotDone):
        return CallReport(answer="not_done")
    if issubclass(class_, Unknown):
        return CallReport(answer="unknown")
    close_lazy(value)
    return CallReport(not_run=lazy_noun(value) or _class_in_words(class_))


def _class_in_words(class_: type) -> str:
    try:
        return str(class_)
    except BaseException:  # a metaclass can define `__repr__`
        return "an object of a class that cannot be shown"


def report_error(error: BaseException, retry: Retry, renew: Renew, *, entered: bool = True) -> CallReport:
    """Return the report of a call that raised `error`. Never raises.

    Called on the thread on which the error was raised, in its except clause.

    Args:
        error: The exception.
        retry: The retry policy of the handler.
        renew: `renew_after_error` of the service.
        entered: See `CallReport`.
    """
    inner = _unwrap(error)
    renews = renew if isinstance(renew, bool) else matches(renew, inner)
    directive = _directive(error, renews)
    if directive is not None:
        return CallReport(error=directive, entered=entered)
    info, ended = describe(inner, with_traceback=True), None
    if is_a(inner, SdkCallError):  # of an async handler, whose call was in another process
        ended = inner.ended  # type: ignore[attr-defined] # found by its class
        if ended is not None:
            name, stack = inner.class_name, inner.stack  # type: ignore[attr-defined] # as above
            info = ErrorInfo(name, info.message, traceback=stack)
    raised = RaisedError(
        info,
        retryable=retry.retries(inner),
        renews=renews,
        lost=contains(inner, SessionLost),
        refused=is_a(inner, SdkCallRefused),
        stuck=is_a(inner, SdkCallStuck),
        misuse=any(type(inner) is class_ for class_ in _MISUSES),  # `in` would call a metaclass of the user
        queue_closed=is_a(inner, QueueClosed),
        killed=ended == "killed",
        died=ended == "died",
        cancelled=is_a(inner, trio.Cancelled),
        by_signal=raised_by_signal(inner),
    )
    return CallReport(error=raised, entered=entered)


def stuck() -> CallReport:
    """Return the report of a call that was abandoned."""
    return CallReport(error=RaisedError(ErrorInfo("SdkCallStuck", "the call did not return"), stuck=True))


def _directive(error: BaseException, renews: bool) -> RaisedError | None:
    """Return what the handler asked for, alone or in a group of which each error is a directive.

    The strongest one decides. None for other errors, and for a Snooze or RetryAfter without a valid wait, which a
    subclass can make: they are errors like any other.
    """
    raised = [leaf for leaf in leaves(error) if not is_a(leaf, trio.Cancelled)]
    for class_, outcome in _DIRECTIVES.items():
        directive = next((leaf for leaf in raised if is_a(leaf, class_)), None)
        if directive is None:
            continue
        if not all(is_a(leaf, tuple(_DIRECTIVES)) for leaf in raised):
            return None
        wait = 0.0
        if outcome in (Outcome.RETRY_AFTER, Outcome.SNOOZE):
            try:
                wait = check_wait("seconds", directive.seconds)  # type: ignore[attr-defined] # found by its class
            except BaseException:
                return None
        return RaisedError(describe(directive), directive=outcome, wait=wait, renews=renews)
    return None


def _unwrap(error: BaseException) -> BaseException:
    """Return the single error within nested groups. A Cancelled beside other errors is not counted."""
    found = [*leaves(error)]
    others = [leaf for leaf in found if not is_a(leaf, trio.Cancelled)]
    if len(others) == 1 or not others:
        return (others or found)[0]
    if len(others) < len(found):
        try:
            _, rest = error.split(trio.Cancelled)  # type: ignore[attr-defined] # a group, as it has several leaves
        except BaseException:  # a group of the user's own class can override `split` and `derive`
            return error
        error = rest
    while len(inside := members(error)) == 1:
        error = inside[0]
    return error
