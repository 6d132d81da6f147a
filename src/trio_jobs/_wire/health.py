"""The answer of `queue.health`, and how it is made from a `Health`."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from trio_jobs._engine.jobs import to_datetime
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.status import Health, Pause, SdkClose

__all__ = ["HealthResult", "WireClose", "WirePause", "health_from_wire", "health_to_wire"]


class WirePause(Struct, frozen=True, omit_defaults=True):
    """reason: why, may be empty. since, until: absent until for no end. by: who, sent to a token of scope operate or
    control only."""

    reason: str
    since: float
    by: str | None = None
    until: float | None = None


class WireClose(Struct, frozen=True, omit_defaults=True):
    """session: its number. failed: the close raised. problem: what; sent to a token of scope operate or control
    only."""

    session: int
    at: float
    failed: bool = False
    problem: str | None = None


class HealthResult(Struct, frozen=True, omit_defaults=True):
    """ok: there are no problems. problems: stuck, overdue, paused, opening_sdk, sessions_failing, close_failed, store,
    draining, stopping. in_doubt: jobs that wait for a person; in_doubt_since: the oldest of them. oldest_waiting: the
    job that has been pending for the longest time, waiting_since. last_close: of the SDK. failed_sessions: sessions in
    a row that ended because of an error without a completed attempt. held_by: with strict order, the first job if it
    blocks the others, held_since. without_handler: open jobs that no handler can process. store: why it cannot commit;
    sent to a token of scope operate or control only."""

    ok: bool
    problems: list[str]
    in_doubt: int
    in_doubt_since: float | None = None
    paused: WirePause | None = None
    last_close: WireClose | None = None
    failed_sessions: int = 0
    oldest_waiting: str | None = None
    waiting_since: float | None = None
    held_by: str | None = None
    held_since: float | None = None
    without_handler: int = 0
    store: str | None = None


def health_to_wire(health: Health) -> HealthResult:
    paused, close = health.paused, health.last_close
    return HealthResult(
        ok=health.ok,
        problems=[*health.problems],
        in_doubt=health.in_doubt,
        in_doubt_since=_seconds(health.in_doubt_since),
        paused=None
        if paused is None
        else WirePause(paused.reason, paused.since.timestamp(), paused.by, _seconds(paused.until)),
        last_close=None
        if close is None
        else WireClose(close.session, close.at.timestamp(), close.problem is not None, close.problem),
        failed_sessions=health.failed_sessions,
        oldest_waiting=health.oldest_waiting,
        waiting_since=_seconds(health.waiting_since),
        held_by=health.held_by,
        held_since=_seconds(health.held_since),
        without_handler=health.without_handler,
        store=health.store,
    )


def health_from_wire(sent: HealthResult) -> Health:
    """The health that was sent."""
    paused, close = sent.paused, sent.last_close
    return Health(
        ok=sent.ok,
        problems=tuple(sent.problems),
        in_doubt=sent.in_doubt,
        in_doubt_since=to_datetime(sent.in_doubt_since),
        paused=None
        if paused is None
        else Pause(paused.reason, moment(paused.since), paused.by, to_datetime(paused.until)),
        last_close=None if close is None else SdkClose(close.session, moment(close.at), close.failed, close.problem),
        failed_sessions=sent.failed_sessions,
        oldest_waiting=sent.oldest_waiting,
        waiting_since=to_datetime(sent.waiting_since),
        held_by=sent.held_by,
        held_since=to_datetime(sent.held_since),
        without_handler=sent.without_handler,
        store=sent.store,
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
