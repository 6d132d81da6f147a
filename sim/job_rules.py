"""The rules of the oracle for one job: its events on the disk compared with its calls into the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import attrs

from sim.observer import Call, Observer
from sim.plan import KINDS, STUCK_AFTER, WAITS, KindRules
from sim.rows import FINAL_TYPES, NEW_RUNS, Row

__all__ = ["Life", "check_job"]

_RESOLUTION: Final = 1e-5  #: seconds: the resolution of floats of that size
_TIMER_LIMIT: Final = 0.05  #: seconds within which the queue must act on a timer
_LOOK_LIMIT: Final = 60.0  #: seconds within which the queue must notice that a clock has changed
_GRACE: Final = 1.0
#: Outcomes of attempts of which it is known what they did
_KNOWN: Final = ("completed", "already_done", "error", "fail", "cancel", "snooze", "retry_after")
#: Outcomes of attempts that left nothing half done
_VOUCHED: Final = ("completed", "already_done", "fail", "cancel", "snooze", "retry_after")
#: Reasons of jobs that fail when no retry is left
_GIVEN_UP: Final = ("error", "retry_after", "timed_out", "not_done", "save_failed")
#: Outcomes of attempts whose process has ended in a call
_UNKNOWN: Final = {"killed", "died", "timed_out", "expired", "cancelled", "stopped", "crashed", "inside"}
#: Seconds after its limit in which a call can end by itself
_KILL_GRACE: Final = 1.0
#: Seconds after its limit in which a process that is killed may end, before its call is stuck
_KILL_TIME: Final = 11.0
#: Seconds after its limit in which a call is killed, and its process ends
_KILL_LIMIT: Final = 2.0
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
    rows = [row for row in rows if row.type != "claimed"]  # it is a note of a person, and changes nothing
    _one_end(observer, job, rows)
    _attempts(observer, job, rows)
    _no_blind_repetition(observer, job, rows, rules, verifies)
    _repeated_on_purpose(observer, job, rows, rules)
    _completed_for_a_reason(observer, job, rows, calls, verifies)
    _retries(observer, job, rows, rules)
    _no_attempt_after_cancel(observer, job, rows)
    _deadlines(observer, job, rows, lives)
    _timers(observer, job, rows, lives)
    _settling(observer, job, rows, rules, verifies, lives)
    for call in calls:
        _limits(observer, job, call, rows, rules, lives)
        _killed(observer, job, call, rows, rules, lives)


def _one_end(observer: Observer, job: str, rows: Sequence[Row]) -> None:
    """P5: each run has one final state. Only a retry or a correction follows it; and verify, called by an operator,
    can complete a failed job."""
    for before, row in pairwise(row for row in rows if row.type != "verified"):
        found = before.type == "failed" and row.type == "completed" and row.reason == "verified"
        again = row.type in NEW_RUNS and before.type != "completed"
        if before.type in FINAL_TYPES and not found and not again:
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
    settled, acted = "", False
    for row in rows:
        if row.type in FINAL_TYPES:
            acted = row.acted
        elif row.type == "verified" and row.answer != "unknown":
            acted = row.answer == "done"
        if row.outcome is not None:
            unknown = row.entered and row.outcome not in _KNOWN
            doubt_since, settled = (row.time, "") if unknown else (None, "")
            if unknown and row.type in ("retrying", "interrupted"):
                settled = "policy"
            if row.type == "retrying" and row.reason == "save_failed" and not rules.verifies:
                settled = "save_failed"  # `retry` was declared
        if row.type in ("released", "retrying") and row.outcome is None:
            settled = row.reason
        elif row.type == "retried":
            unasked = acted and not row.even_if_acted and rules.on_doubt != "retry"
            settled = "retried unasked" if unasked else "retried"
        elif row.type == "corrected":
            settled = "corrected"
            if acted:
                observer.report("P12", f"{observer.name(job)} is corrected, and it may have acted (event {row.seq})")
        elif row.type == "started" and doubt_since is not None:
            asked = any(call.how == "NotDone" and call.began >= doubt_since - _RESOLUTION for call in verifies)
            allowed = (
                (settled == "not_done" and asked)
                or (settled == "resolved" and "not_done" in observer.clients.resolved.get(job, ()))
                or (settled == "on_doubt" and rules.on_doubt == "retry")
                or settled in ("retried", "corrected", "returned", "save_failed")
            )
            if not allowed:
                why = settled or "nothing"
                observer.report("P6", f"{observer.name(job)} is repeated blindly (event {row.seq}, because of {why})")


def _repeated_on_purpose(observer: Observer, job: str, rows: Sequence[Row], rules: KindRules) -> None:
    """P12: what may have acted is repeated only as its handler declares, or as a person decides."""
    if rules.idempotent or rules.verifies or rules.on_doubt == "retry":
        return
    acted, inside, permitted = False, False, rules.consents
    for row in rows:
        if row.outcome is not None and row.entered:
            inside = row.outcome == "inside"  # until it returns, late, and can vouch that it did nothing
            acted = acted or not (inside or row.outcome in _VOUCHED)
        if row.type == "completed" or (row.type in ("released", "failed") and row.reason == "resolved"):
            acted, inside = row.acted, False
        elif row.type == "retried":
            if (acted or inside) and not row.even_if_acted:
                observer.report("P12", f"{observer.name(job)} is retried unasked, and it may have acted")
            permitted = rules.consents or row.even_if_acted
        elif row.type == "corrected":
            permitted = rules.consents
        elif row.type == "started" and (acted or inside) and not permitted:
            observer.report("P12", f"{observer.name(job)} is repeated, and it may have acted (event {row.seq})")


def _completed_for_a_reason(
    observer: Observer, job: str, rows: Sequence[Row], calls: Sequence[Call], verifies: Sequence[Call]
) -> None:
    """P6: a job is completed only if its handler returned and its work is saved, its verify found it done, or a person
    resolved it so; and only if what it has booked is durable."""
    steps = any(row.type == "step_finished" for row in rows)
    for row in rows:
        if row.type != "completed":
            continue
        if not any(at <= row.time + _RESOLUTION for at in observer.booked.get(job, ())):
            observer.report("P6", f"{observer.name(job)} is completed ({row.reason}), and nothing of it is durable")
        if row.reason in ("returned", "saved"):
            if (row.reason == "saved") != bool(observer.plan.saves):
                observer.report("P6", f"{observer.name(job)} is completed because it {row.reason}")
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
    verifying = False
    for row in rows:
        # a verify that has no answer killed the process, like an attempt
        crashes += verifying and (row.verifying or (row.type == "failed" and row.reason == "poison"))
        verifying = row.verifying
        if row.type in NEW_RUNS:
            used, crashes, cancelled = 0, 0, False
        elif row.type == "cancel_requested":
            cancelled = True
        crashed = row.outcome in ("crashed", "died")
        crashes += crashed or row.crashed
        used_before = used
        used += crashed
        if row.type == "retrying" and row.uses_retry:
            used += 1
            if used_before >= rules.max_retries:
                observer.report(
                    "retries", f"{observer.name(job)} is retried (event {row.seq}) after {used_before} retries"
                )
            if row.reason in ("error", "timed_out", "not_done", "on_doubt", "save_failed"):
                wait = WAITS[min(used_before, len(WAITS) - 1)]
                if row.due_at is None or abs(row.due_at - row.at - wait) > _RESOLUTION:
                    observer.report(
                        "retries", f"retry {used_before + 1} of {observer.name(job)} is not due after {wait} s"
                    )
        gave_up = row.type == "failed" and row.reason in (
            "error",
            "retry_after",
            "timed_out",
            "not_done",
            "save_failed",
        )
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
        elif row.type in NEW_RUNS:
            requested = False
        elif requested and row.type in ("started", "retrying", "snoozed"):
            observer.report("cancel", f"{observer.name(job)} is {row.type} (event {row.seq}) after its cancel")


@attrs.frozen
class _End:
    """The end of a wait: a date, or seconds that began at an event."""

    row: Row
    """The event."""
    at: float
    """The date; for seconds the one that the event has."""
    seconds: float | None
    """The seconds; None for a date."""

    def passed(self, observer: Observer, time: float, lives: Sequence[Life]) -> tuple[bool, float]:
        """Whether the wait is over at this virtual time, and since when."""
        clock = observer.machine_clock
        if self.seconds is None:
            since = clock.reached(time, wall=self.at)
            return clock.wall_at(time) >= self.at - _RESOLUTION, since
        end = clock.elapsed_at(self.row.time) + self.seconds
        restarts = [
            life.opened
            for life in lives
            if life.opened is not None and self.row.time < life.opened <= time + _RESOLUTION
        ]
        if restarts:  # how long ago it began is then known by the wall clock only
            restart = restarts[-1]
            left = min(max(self.at - clock.wall_at(restart), 0.0), self.seconds)
            end = clock.elapsed_at(restart) + left
        return clock.elapsed_at(time) >= end - _RESOLUTION, clock.reached(time, elapsed=end)


def _deadlines(observer: Observer, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """P10: no attempt starts after the deadline; a job that waits then expires, and not before."""
    first = rows[0]
    deadline = None if first.deadline_at is None else _End(first, first.deadline_at, first.deadline_after)
    before: Row | None = None
    for row in rows:
        over, since = (False, 0.0) if deadline is None else deadline.passed(observer, row.time, lives)
        if over and row.type == "started" and since < row.time - _RESOLUTION:
            observer.report("P10", f"{observer.name(job)} starts {row.time - since:.6f} s after its deadline")
        if row.type == "failed" and row.reason == "expired":
            # a clock that changes during an attempt is noticed a minute later
            cut = row.outcome is not None or (before is not None and before.outcome == "expired")
            if not over and (not cut or observer.machine_clock.is_steady):
                observer.report("P10", f"{observer.name(job)} expires before its deadline")
            elif before is not None and row.outcome is None and before.type not in ("in_doubt", "released"):
                _check_punctual(observer, f"{observer.name(job)} expires", row.time, max(since, before.time), lives)
        if row.type in NEW_RUNS and over:
            if since >= row.time - _RESOLUTION:
                return  # in the instant of the deadline: the new run may have it or not
            deadline = None
        if row.type != "cancel_requested":  # it leaves the state as it is
            before = row


def _timers(observer: Observer, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """A job is requeued when it is due."""
    due: _End | None = None
    for row in rows:
        if row.type == "due" and due is not None and not row.early:
            over, since = due.passed(observer, row.time, lives)
            if not over:
                observer.report("due", f"{observer.name(job)} is requeued too early (event {row.seq})")
            elif not observer.plan.settings["strict_order"]:
                # the timer is set at the commit
                since = max(since, due.row.time)
                _check_punctual(observer, f"{observer.name(job)} is requeued", row.time, since, lives)
        if row.type in ("retrying", "snoozed", "scheduled", "rescheduled"):
            assert row.due_at is not None
            given = row.type in ("scheduled", "rescheduled")
            due = _End(row, row.due_at, row.delay if given else max(row.due_at - row.at, 0.0))
        elif row.type != "cancel_requested":
            due = None


def _check_punctual(observer: Observer, what: str, now: float, since: float, lives: Sequence[Life]) -> None:
    """Report an action that came too late while the queue was open; a disk that stalls may delay it."""
    if observer.plan.disk.stalls or observer.plan.disk.fails:
        return
    life = next((life for life in lives if life.began <= now <= life.ended), None)
    if life is None or life.opened is None or (life.stop_requested is not None and now >= life.stop_requested):
        return
    late = now - max(since, life.opened)
    # timers are set at a commit, so a disk that is slow twice makes them late
    limit = _TIMER_LIMIT + (1.0 if observer.plan.disk.slow else 0.0)
    if not observer.machine_clock.is_steady:
        limit += _LOOK_LIMIT
    if late > limit:
        observer.report("P10", f"{what} {late:.3f} s too late")


def _settling(
    observer: Observer,
    job: str,
    rows: Sequence[Row],
    rules: KindRules,
    verifies: Sequence[Call],
    lives: Sequence[Life],
) -> None:
    """Verify is asked when `verify_delay` has passed since the attempt, however the wall clock was set. After a restart
    only the wall clock shows how long ago that was."""
    clock = observer.machine_clock
    for call in verifies:
        # a verify within an attempt comes before the event of its end
        ends = [row for row in rows if row.outcome is not None and row.time < call.began - _RESOLUTION]
        if not ends:
            continue
        ended = ends[-1].time
        passed = clock.elapsed_at(call.began) - clock.elapsed_at(ended)
        if any(ended < life.began <= call.began for life in lives):
            passed = max(passed, clock.wall_at(call.began) - clock.wall_at(ended))
        if passed < rules.verify_delay - _RESOLUTION:
            observer.report("settling", f"{observer.name(job)} is verified {passed:.3f} s after its attempt")


def _killed(
    observer: Observer, job: str, call: Call, rows: Sequence[Row], rules: KindRules, lives: Sequence[Life]
) -> None:
    """P11: a call over its limit ends with its process, and no other call does; nobody knows what it came to."""
    plan = observer.plan
    life = lives[call.life - 1] if call.life <= len(lives) else None
    if not plan.kills or life is None or call.ended is None:
        return
    if call.how in ("killed", "died"):
        outcomes = {row.outcome for row in rows if row.attempt == call.attempt and row.outcome is not None}
        if not outcomes <= _UNKNOWN:
            what = f"the process ended in a call of {observer.name(job)}"
            observer.report("P11", f"{what}, and the attempt is {sorted(outcomes)}")
    if rules.timeout is None or rules.calls or not observer.machine_clock.is_steady:
        return
    if life.stop_requested is not None and call.ended >= life.stop_requested:
        return  # the stop may have ended it
    took = call.ended - call.began
    if took > rules.timeout + _KILL_LIMIT and not plan.slow_deaths:
        observer.report("P11", f"a call of {observer.name(job)} takes {took:.3f} s, and its limit is {rules.timeout} s")
    if call.how == "killed" and took < rules.timeout + _KILL_GRACE - _RESOLUTION:
        first = rows[0]
        expired = (
            first.deadline_at is not None
            and call.ended
            >= _End(first, first.deadline_at, first.deadline_after).passed(observer, call.ended, lives)[1]
        )
        cancelled = any(at <= call.ended for at in observer.clients.cancel_requests.get(job, ()))
        if not (expired or cancelled or plan.disk.fails):
            observer.report("P11", f"a call of {observer.name(job)} is killed after {took:.3f} s")


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
    for row in rows:
        requested = row.type == "cancel_requested" and call.began < row.time < call.ended - _TIMER_LIMIT
        if requested and not thread and behaviour.kind != "hang":
            observer.report("cancel", f"attempt {call.attempt} of {observer.name(job)} continues after a cancel")
    clock = observer.machine_clock
    elapsed = clock.elapsed_at(call.ended) - clock.elapsed_at(call.began)  # a suspend counts
    if call.how == "cancelled" and elapsed < limit - _RESOLUTION:
        first = rows[0]
        expired = first.deadline_at is not None and (
            not clock.is_steady
            or _End(first, first.deadline_at, first.deadline_after).passed(observer, call.ended, lives)[0]
        )
        # the attempt ends immediately; a crash may come before the cancel is committed
        requests = observer.clients.cancel_requests.get(job, ())
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
    stuck_after = max(STUCK_AFTER, _KILL_TIME) if observer.plan.kills else STUCK_AFTER
    if took > limit + stuck_after + _GRACE + _TIMER_LIMIT and not any(row.inside for row in reports):
        observer.report("P7", f"attempt {call.attempt} of {observer.name(job)} is stuck and not reported")
