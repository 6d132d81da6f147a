"""The rules of the oracle for one job: its events on the disk compared with its calls into the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import attrs

from sim.observer import Call, Observer
from sim.plan import KINDS, STUCK_AFTER, WAITS, KindRules
from sim.rows import FINAL_TYPES, Row

__all__ = ["EPOCH", "Life", "check_job"]

EPOCH: Final = 1_700_000_000.0  #: UTC at virtual time 0
_RESOLUTION: Final = 1e-5  #: seconds: the resolution of floats of that size
_TIMER_LIMIT: Final = 0.05  #: seconds within which the queue must act on a timer
_GRACE: Final = 1.0
#: Outcomes of attempts of which it is known what they did
_KNOWN: Final = ("completed", "already_done", "error", "fail", "cancel", "snooze", "retry_after")
_COUNTED: Final = ("error", "timed_out", "retry_after", "crashed")


@attrs.frozen
class Life:
    """One life of the service. Times are virtual seconds."""

    began: float
    opened: float | None
    """When the queue was open; None if it never was."""
    stop_requested: float | None
    """When the queue was asked to stop; None if the life ended without."""
    ended: float


def check_job(observer: Observer, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """Report every violation of this job to `observer`."""
    calls = [call for call in observer.calls if call.job == job and call.what == "call"]
    verifies = [call for call in observer.calls if call.job == job and call.what == "verify"]
    rules = KINDS[rows[0].kind]
    _one_end(observer, job, rows)
    _attempts(observer, job, rows)
    _no_blind_repetition(observer, job, rows, rules, verifies)
    _completed_for_a_reason(observer, job, rows, calls, verifies)
    _retries(observer, job, rows, rules)
    _no_attempt_after_cancel(observer, job, rows)
    _deadlines(observer, job, rows, lives)
    _timers(observer, job, rows, lives)
    for call in calls:
        _limits(observer, job, call, rows, rules, lives)


def _one_end(observer: Observer, job: str, rows: Sequence[Row]) -> None:
    """P5: each run has one final state, and only a retry follows it."""
    for before, row in pairwise(rows):
        if before.type in FINAL_TYPES and (row.type != "retried" or before.type == "completed"):
            observer.report("P5", f"{observer.name(job)} is {before.type} and then {row.type}")


def _attempts(observer: Observer, job: str, rows: Sequence[Row]) -> None:
    """Attempts are numbered from 1 without gaps."""
    numbers = [row.attempt for row in rows if row.type == "started"]
    if numbers != list(range(1, len(numbers) + 1)):
        observer.report("attempts", f"the attempts of {observer.name(job)} are {numbers}")


def _no_blind_repetition(
    observer: Observer, job: str, rows: Sequence[Row], rules: KindRules, verifies: Sequence[Call]
) -> None:
    """P6: an attempt with an unknown effect is not repeated before it is known, unless the handler allows it."""
    if rules.idempotent:
        return
    doubt_since: float | None = None
    settled = ""
    for row in rows:
        if row.outcome is not None:
            unknown = row.entered and row.outcome not in _KNOWN
            doubt_since, settled = (row.at, "") if unknown else (None, "")
            if unknown and row.type in ("retrying", "interrupted"):
                settled = "policy"
        if row.type in ("released", "retrying") and row.outcome is None:
            settled = row.reason
        elif row.type == "retried":
            settled = "retried"
        elif row.type == "started" and doubt_since is not None:
            asked = any(call.how == "NotDone" and call.began + EPOCH >= doubt_since - _RESOLUTION for call in verifies)
            allowed = (
                (settled == "not_done" and asked)
                or (settled == "resolved" and "not_done" in observer.clients.resolved.get(job, ()))
                or (settled == "on_doubt" and rules.on_doubt == "retry")
                or settled in ("retried", "returned")
            )
            if not allowed:
                why = settled or "nothing"
                observer.report("P6", f"{observer.name(job)} is repeated blindly (event {row.seq}, because of {why})")


def _completed_for_a_reason(
    observer: Observer, job: str, rows: Sequence[Row], calls: Sequence[Call], verifies: Sequence[Call]
) -> None:
    """P6: a job is completed only if its handler returned, its verify found it done, or a person resolved it so."""
    steps = any(row.type == "step_finished" for row in rows)
    for row in rows:
        if row.type != "completed":
            continue
        if row.reason == "returned":
            confirmed = steps or any(call.attempt == row.attempt and call.how == "returned" for call in calls)
        elif row.reason == "verified":
            confirmed = any(call.how == "Done" for call in verifies)
        else:
            confirmed = row.reason == "resolved" and "done" in observer.clients.resolved.get(job, ())
        if not confirmed:
            observer.report("P6", f"{observer.name(job)} is completed ({row.reason}), which is not true")


def _retries(observer: Observer, job: str, rows: Sequence[Row], rules: KindRules) -> None:
    """A job has as many retries as its policy, each after its wait, unless it is cancelled."""
    used, crashes, cancelled = 0, 0, False
    for row in rows:
        if row.type == "retried":
            used, crashes, cancelled = 0, 0, False
        elif row.type == "cancel_requested":
            cancelled = True
        crashed = row.outcome == "crashed"
        crashes += crashed
        used_before = used
        used += crashed
        if row.type == "retrying" and row.uses_retry:
            used += 1
            if used_before >= rules.max_retries:
                observer.report(
                    "retries", f"{observer.name(job)} is retried (event {row.seq}) after {used_before} retries"
                )
            if row.reason in ("error", "timed_out", "not_done", "on_doubt"):
                wait = WAITS[min(used_before, len(WAITS) - 1)]
                if row.due_at is None or abs(row.due_at - row.at - wait) > _RESOLUTION:
                    observer.report(
                        "retries", f"retry {used_before + 1} of {observer.name(job)} is not due after {wait} s"
                    )
        gave_up = row.type == "failed" and row.reason in ("error", "retry_after", "timed_out", "not_done")
        if gave_up and used_before < rules.max_retries and not cancelled:
            observer.report(
                "retries", f"{observer.name(job)} failed after {used_before} of {rules.max_retries} retries"
            )
        if row.type == "failed" and row.reason == "poison" and crashes < 3:
            observer.report("poison", f"{observer.name(job)} failed as poison after {crashes} crashes")
        if crashed and crashes >= 3 and row.type != "failed":
            observer.report("poison", f"{observer.name(job)} continues after {crashes} crashes")


def _no_attempt_after_cancel(observer: Observer, job: str, rows: Sequence[Row]) -> None:
    """After a cancel no attempt is repeated, also after a crash."""
    requested = False
    for row in rows:
        if row.type == "cancel_requested":
            requested = True
        elif row.type == "retried":
            requested = False
        elif requested and row.type in ("started", "retrying", "snoozed"):
            observer.report("cancel", f"{observer.name(job)} is {row.type} (event {row.seq}) after its cancel")


def _deadlines(observer: Observer, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """P10: no attempt starts after the deadline; a job that waits then expires, and not before."""
    deadline = rows[0].deadline_at
    before: Row | None = None
    for row in rows:
        if deadline is not None and row.type == "started" and row.at >= deadline:
            observer.report("P10", f"{observer.name(job)} starts {row.at - deadline:.6f} s after its deadline")
        if row.type == "failed" and row.reason == "expired":
            if deadline is None or row.at < deadline - _RESOLUTION:
                observer.report("P10", f"{observer.name(job)} expires before its deadline")
            elif before is not None and row.outcome is None and before.type not in ("in_doubt", "released"):
                _check_punctual(observer, f"{observer.name(job)} expires", row.at, max(deadline, before.at), lives)
        if row.type == "retried" and deadline is not None and deadline <= row.at:
            deadline = None
        before = row


def _timers(observer: Observer, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """A job is requeued when it is due."""
    due: float | None = None
    for row in rows:
        if row.type == "due" and due is not None:
            if row.at < due - _RESOLUTION:
                observer.report("due", f"{observer.name(job)} is requeued {due - row.at:.6f} s too early")
            elif not observer.plan.settings["strict_order"]:
                _check_punctual(observer, f"{observer.name(job)} is requeued", row.at, due, lives)
        if row.type in ("retrying", "snoozed", "scheduled"):
            assert row.due_at is not None
            # the timer is set at the commit
            due = max(row.due_at, row.at)
        elif row.type not in ("cancel_requested",):
            due = None


def _check_punctual(observer: Observer, what: str, at: float, since: float, lives: Sequence[Life]) -> None:
    """Report an action that came too late while the queue was open; a disk that stalls may delay it."""
    if observer.plan.disk.stalls or observer.plan.disk.fails:
        return
    now = at - EPOCH
    life = next((life for life in lives if life.began <= now <= life.ended), None)
    if life is None or life.opened is None or (life.stop_requested is not None and now >= life.stop_requested):
        return
    late = now - max(since - EPOCH, life.opened)
    # timers are set at a commit, so a disk that is slow twice makes them late
    if late > _TIMER_LIMIT + (1.0 if observer.plan.disk.slow else 0.0):
        observer.report("P10", f"{what} {late:.3f} s too late")


def _limits(
    observer: Observer, job: str, call: Call, rows: Sequence[Row], rules: KindRules, lives: Sequence[Life]
) -> None:
    """P10, P7: an attempt ends at its limit and not before, and an attempt that does not end is reported."""
    life = lives[call.life - 1] if call.life <= len(lives) else None
    if life is None or call.ended is None or call.how == "died":
        return
    if life.stop_requested is not None and call.ended >= life.stop_requested:
        return  # the stop may have ended it
    took, limit = call.ended - call.began, rules.timeout
    thread = observer.plan.thread
    behaviour = call.behaviour
    assert behaviour is not None
    if limit is None or rules.calls:
        return  # the limit of a handler with calls of its own begins before them
    if not thread and behaviour.kind != "hang" and took > limit + _TIMER_LIMIT:
        observer.report(
            "P10", f"attempt {call.attempt} of {observer.name(job)} takes {took:.3f} s, and its limit is {limit}"
        )
    ended_at = call.ended + EPOCH
    for row in rows:
        requested = row.type == "cancel_requested" and call.began + EPOCH < row.at < ended_at - _TIMER_LIMIT
        if requested and not thread and behaviour.kind != "hang":
            observer.report("cancel", f"attempt {call.attempt} of {observer.name(job)} continues after a cancel")
    if call.how == "cancelled" and took < limit - _RESOLUTION:
        deadline = rows[0].deadline_at
        # the attempt ends immediately; a crash may come before the cancel is committed
        requests = observer.clients.cancel_requests.get(job, ())
        expired = deadline is not None and deadline <= ended_at + _RESOLUTION
        cancelled = any(at <= call.ended for at in requests)
        if not (expired or cancelled or observer.plan.disk.fails):
            observer.report(
                "P10", f"attempt {call.attempt} of {observer.name(job)} ended after {took:.3f} s without a reason"
            )
    if observer.plan.disk.fails:
        return  # the event may be lost with the store
    reports = [row for row in rows if row.attempt == call.attempt]
    if took > limit + _GRACE + _TIMER_LIMIT and not any(row.type == "overdue" for row in reports):
        observer.report(
            "P7", f"attempt {call.attempt} of {observer.name(job)} takes {took:.3f} s and is not reported overdue"
        )
    if took > limit + STUCK_AFTER + _GRACE + _TIMER_LIMIT and not any(row.inside for row in reports):
        observer.report("P7", f"attempt {call.attempt} of {observer.name(job)} is stuck and not reported")
