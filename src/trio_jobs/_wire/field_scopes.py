"""The least scope of a token that is sent a field: one table, for the code, its test and docs/reference/scopes.md.

A token of scope watch is sent states, times, keys, numbers, and the class and the code of errors. What people and
handlers have written (payloads, results, labels, notes, reasons, messages, names of steps), tracebacks, and who did
something are sent to tokens of scope operate and control. A field that a token is not sent has its default value.
"""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from trio_jobs._wire import commands as c
from trio_jobs._wire import methods as w
from trio_jobs._wire.access import LoginResult, TicketResult, TicketsRevoked
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.health import HealthResult, WireClose, WirePause
from trio_jobs._wire.histories import ActivityResult, ForgetResult, HistoryEvent, HistoryResult
from trio_jobs._wire.job_lists import CountResult, ListResult
from trio_jobs._wire.kinds import KindInfo, KindsResult
from trio_jobs._wire.schemas import WireAction, WireAttempt, WireError, WireEvent, WireJob
from trio_jobs._wire.scopes import SCOPES, includes

__all__ = ["FIELD_SCOPES", "hidden", "limit_to", "structs_in"]

S = TypeVar("S", bound=Struct)

EVENT_TO_ALL: Final = """seq at type job kind state key due_at delay deadline_at deadline_after expired even_if_acted
    early until answer attempt outcome limit ended_by entered late may_have_acted uses_retry retryable inside asked
    interrupted crashed verifying unclean error session jobs culprit action"""
EVENT_TO_OPERATORS: Final = "step reason problem by note labels"


def _fields(watch: str = "", operate: str = "") -> dict[str, Scope]:
    return {**dict.fromkeys(watch.split(), SCOPES[0]), **dict.fromkeys(operate.split(), SCOPES[1])}


#: For each Struct that is sent: the least scope of each of its fields
FIELD_SCOPES: Final[Mapping[type[Struct], Mapping[str, Scope]]] = {
    WireJob: _fields(
        "id kind state seq submitted_at changed_at key due_at deadline_at claimed_until run attempts retries_used "
        "snoozes cancel_requested may_have_acted inside error history actions position expected_wait",
        "by labels claimed_by reason result_problem payload earlier_payloads",
    ),
    WireAttempt: _fields("number run started_at ended_at outcome ended_by error entered late overdue"),
    WireError: _fields("type code", "message traceback"),
    WireAction: _fields("action seq at detail job kind key", "by note"),
    WireEvent: _fields(EVENT_TO_ALL, EVENT_TO_OPERATORS),
    w.EventParams: _fields(f"subscription {EVENT_TO_ALL}", EVENT_TO_OPERATORS),
    w.ProgressParams: _fields("subscription job done total", "message"),
    w.Position: _fields("subscription seq"),
    w.Lagged: _fields("subscription first last"),
    w.Snapshot: _fields("subscription seq jobs last"),
    w.HelloResult: _fields("protocol epoch seq oldest scope name limits"),
    w.ConnectionLimits: _fields(
        "message in_flight messages messages_per_second bytes bytes_per_second subscriptions followed_jobs"
    ),
    LoginResult: _fields("code expires_in page"),
    TicketResult: _fields("ticket expires_at"),
    TicketsRevoked: _fields(),
    w.CancelRequestResult: _fields("request cancelled"),
    c.SubmitResult: _fields("job created position state expected_wait"),
    ListResult: _fields("seq jobs more next"),
    CountResult: _fields("seq total groups others"),
    w.ResultResult: _fields("job state final withheld error may_have_acted", "result problem reason"),
    c.CancelResult: _fields("job answer state"),
    c.StateResult: _fields("job state"),
    c.SubmitManyResult: _fields("jobs"),
    c.CancelManyResult: _fields("jobs dry_run"),
    c.RetryManyResult: _fields("jobs refused may_have_acted verified_first dry_run"),
    c.VerifyResult: _fields("job answer state may_have_acted"),
    w.SubscribeResult: _fields("subscription epoch seq"),
    w.UnsubscribeResult: _fields("subscription seq"),
    w.Done: _fields("seq"),
    HistoryResult: _fields("job events more complete"),
    HistoryEvent: _fields(f"run {EVENT_TO_ALL}", f"{EVENT_TO_OPERATORS} payload"),
    ActivityResult: _fields("seq actions more"),
    ForgetResult: _fields("job seq"),
    HealthResult: _fields(
        "ok problems in_doubt in_doubt_since paused last_close failed_sessions oldest_waiting waiting_since held_by "
        "held_since without_handler",
        "store",
    ),
    WirePause: _fields("reason since until", "by"),
    WireClose: _fields("session at failed", "problem"),
    KindsResult: _fields("kinds"),
    KindInfo: _fields("kind schema verify"),
    w.BackupResult: _fields("path seq events size"),
    w.StatisticsResult: _fields(
        "jobs capacity free waiting_callers waiting_jobs session sdk_busy seq ok problems connections subscriptions "
        "mean_run refusals"
    ),
}


@functools.cache
def _declared(type_: type[Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(type_)  # evaluates the annotations in each call, which takes long


def hidden(type_: type[Struct], scope: Scope) -> dict[str, Any]:
    """The fields that a token of this scope is not sent, each with the value that it is sent instead."""
    least = FIELD_SCOPES[type_]
    return {
        field.name: _default(field)
        for field in _declared(type_)
        if not includes(scope, least.get(field.name, SCOPES[1]))
    }


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    assert field.type is str, f"{field.name} is required, so it cannot be left out"
    return ""


def structs_in(type_: Any) -> Iterator[type[Struct]]:
    """The Structs that occur in a type, without those in their fields."""
    if isinstance(type_, type) and issubclass(type_, Struct):
        yield type_
    for part in typing.get_args(type_):
        yield from structs_in(part)


def _nested(type_: type[Struct], scope: Scope) -> tuple[str, ...]:
    """The fields in which something further in may be hidden."""
    names = []
    for field in _declared(type_):
        inner = [found for found in structs_in(field.type) if found in FIELD_SCOPES]
        if any(hidden(found, scope) or _nested(found, scope) for found in inner):
            names.append(field.name)
    return tuple(names)


#: For each scope: what `limit_to` changes
_CHANGES: Final[Mapping[Scope, Mapping[type[Struct], tuple[dict[str, Any], tuple[str, ...]]]]] = {
    scope: {type_: found for type_ in FIELD_SCOPES if any(found := (hidden(type_, scope), _nested(type_, scope)))}
    for scope in SCOPES
}


def limit_to(value: S, scope: Scope) -> S:
    """What a token of this scope is sent of a result or a notification: the same object, if that is all of it."""
    found = _CHANGES[scope].get(type(value))
    if found is None:
        return value
    blank, nested = found
    changes = {name: default for name, default in blank.items() if getattr(value, name) != default}
    for name in nested:
        if name not in blank:
            before = getattr(value, name)
            after = _limit_all(before, scope)
            if after is not before:
                changes[name] = after
    return msgspec.structs.replace(value, **changes) if changes else value


def _limit_all(value: Any, scope: Scope) -> Any:
    if isinstance(value, Struct):
        return limit_to(value, scope)
    if isinstance(value, list | tuple):
        limited = type(value)(_limit_all(one, scope) for one in value)
        return value if all(map(operator.is_, limited, value)) else limited
    return value
