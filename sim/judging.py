"""The judge on one job: its rows on the disk beside the calls that the SDK saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import attrs

from sim.plan import KINDS, STUCK_AFTER, WAITS, KindRules
from sim.rows import FINAL_TYPES, Row
from sim.world import Call, World

__all__ = ["EPOCH", "Life", "judge_job"]

EPOCH: Final = 1_700_000_000.0  #: UTC at virtual time 0
_CLOSE: Final = 1e-5  #: seconds: what floats of that size cannot tell apart
_SOON: Final = 0.05  #: seconds in which a timer has to be acted on
_GRACE: Final = 1.0
#: An attempt that ended so has told what it did, or was vouched for
_KNOWN: Final = ("completed", "already_done", "error", "fail", "cancel", "snooze", "retry_after")
_COUNTED: Final = ("error", "timed_out", "retry_after", "crashed")


@attrs.frozen
class Life:
    """Virtual seconds: when it began, when the queue was open, when it was asked to stop, when it ended. None where it
    did not come to that."""

    began: float
    opened: float | None
    asked: float | None
    ended: float


def judge_job(world: World, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """Tell `world` of everything that is wrong with this job."""
    calls = [call for call in world.calls if call.job == job and call.what == "call"]
    verifies = [call for call in world.calls if call.job == job and call.what == "verify"]
    rules = KINDS[rows[0].kind]
    _one_end(world, job, rows)
    _attempts(world, job, rows)
    _nothing_blind(world, job, rows, rules, verifies)
    _honest(world, job, rows, calls, verifies)
    _retries(world, job, rows, rules)
    _cancelled_for_good(world, job, rows)
    _deadlines(world, job, rows, lives)
    _timers(world, job, rows, lives)
    for call in calls:
        _limits(world, job, call, rows, rules, lives)


def _one_end(world: World, job: str, rows: Sequence[Row]) -> None:
    """P5: one end in each run, and nothing after it but a person's retry."""
    for before, row in pairwise(rows):
        if before.type in FINAL_TYPES and (row.type != "retried" or before.type == "completed"):
            world.wrong("P5", f"{world.name(job)} is {before.type}, and then {row.type}")


def _attempts(world: World, job: str, rows: Sequence[Row]) -> None:
    """Numbers of attempts count up from 1 and never repeat."""
    numbers = [row.attempt for row in rows if row.type == "started"]
    if numbers != list(range(1, len(numbers) + 1)):
        world.wrong("attempts", f"the attempts of {world.name(job)} are {numbers}")


def _nothing_blind(world: World, job: str, rows: Sequence[Row], rules: KindRules, verifies: Sequence[Call]) -> None:
    """P6: an attempt that was in the SDK, and of which nobody knows what it did, is not repeated before somebody knows,
    unless that is what the handler is registered for."""
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
            asked = any(call.how == "NotDone" and call.began + EPOCH >= doubt_since - _CLOSE for call in verifies)
            allowed = (
                (settled == "not_done" and asked)
                or (settled == "resolved" and "not_done" in world.told.resolved.get(job, ()))
                or (settled == "on_doubt" and rules.on_doubt == "retry")
                or settled in ("retried", "returned")
            )
            if not allowed:
                why = settled or "nothing"
                world.wrong("P6", f"{world.name(job)} is tried again (event {row.seq}) because of {why}, blindly")


def _honest(world: World, job: str, rows: Sequence[Row], calls: Sequence[Call], verifies: Sequence[Call]) -> None:
    """P6: completed only because it returned, was found done, or a person said so."""
    steps = any(row.type == "step_finished" for row in rows)
    for row in rows:
        if row.type != "completed":
            continue
        if row.reason == "returned":
            true = steps or any(call.attempt == row.attempt and call.how == "returned" for call in calls)
        elif row.reason == "verified":
            true = any(call.how == "Done" for call in verifies)
        else:
            true = row.reason == "resolved" and "done" in world.told.resolved.get(job, ())
        if not true:
            world.wrong("P6", f"{world.name(job)} is completed ({row.reason}), and that is not true")


def _retries(world: World, job: str, rows: Sequence[Row], rules: KindRules) -> None:
    """As many retries as the policy has, each after its wait; no fewer, unless somebody does not want it any more."""
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
                world.wrong(
                    "retries", f"{world.name(job)} is tried again (event {row.seq}) after {used_before} retries"
                )
            if row.reason in ("error", "timed_out", "not_done", "on_doubt"):
                wait = WAITS[min(used_before, len(WAITS) - 1)]
                if row.due_at is None or abs(row.due_at - row.at - wait) > _CLOSE:
                    world.wrong("retries", f"retry {used_before + 1} of {world.name(job)} is not {wait} s away")
        gave_up = row.type == "failed" and row.reason in ("error", "retry_after", "timed_out", "not_done")
        if gave_up and used_before < rules.max_retries and not cancelled:
            world.wrong("retries", f"{world.name(job)} has failed after {used_before} of {rules.max_retries} retries")
        if row.type == "failed" and row.reason == "poison" and crashes < 3:
            world.wrong("poison", f"{world.name(job)} has failed as poison after {crashes} crashes")
        if crashed and crashes >= 3 and row.type != "failed":
            world.wrong("poison", f"{world.name(job)} has seen {crashes} crashes and goes on")


def _cancelled_for_good(world: World, job: str, rows: Sequence[Row]) -> None:
    """Once a person has asked for it, nothing is tried again, not even after a crash."""
    requested = False
    for row in rows:
        if row.type == "cancel_requested":
            requested = True
        elif row.type == "retried":
            requested = False
        elif requested and row.type in ("started", "retrying", "snoozed"):
            world.wrong("cancel", f"{world.name(job)} is {row.type} (event {row.seq}) although it was to be cancelled")


def _deadlines(world: World, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """P10: nothing begins after its deadline; what waits when it passes expires then, and not before."""
    deadline = rows[0].deadline_at
    before: Row | None = None
    for row in rows:
        if deadline is not None and row.type == "started" and row.at >= deadline:
            world.wrong("P10", f"{world.name(job)} begins {row.at - deadline:.6f} s after its deadline")
        if row.type == "failed" and row.reason == "expired":
            if deadline is None or row.at < deadline - _CLOSE:
                world.wrong("P10", f"{world.name(job)} expires before its deadline")
            elif before is not None and row.outcome is None and before.type not in ("in_doubt", "released"):
                _soon(world, f"{world.name(job)} expires", row.at, max(deadline, before.at), lives)
        if row.type == "retried" and deadline is not None and deadline <= row.at:
            deadline = None
        before = row


def _timers(world: World, job: str, rows: Sequence[Row], lives: Sequence[Life]) -> None:
    """What is due comes back when it is due."""
    due: float | None = None
    for row in rows:
        if row.type == "due" and due is not None:
            if row.at < due - _CLOSE:
                world.wrong("due", f"{world.name(job)} comes back {due - row.at:.6f} s too early")
            elif not world.plan.settings["strict_order"]:
                _soon(world, f"{world.name(job)} comes back", row.at, due, lives)
        if row.type in ("retrying", "snoozed", "scheduled"):
            assert row.due_at is not None
            # a timer is set once that is committed
            due = max(row.due_at, row.at)
        elif row.type not in ("cancel_requested",):
            due = None


def _soon(world: World, what: str, at: float, since: float, lives: Sequence[Life]) -> None:
    """It has happened within a moment, as far as the queue was up; a disk may make it late."""
    if world.plan.disk.stalls or world.plan.disk.fails:
        return
    now = at - EPOCH
    life = next((life for life in lives if life.began <= now <= life.ended), None)
    if life is None or life.opened is None or (life.asked is not None and now >= life.asked):
        return
    late = now - max(since - EPOCH, life.opened)
    # timers are set when what they are about is committed: a disk that is slow twice makes them late
    if late > _SOON + (1.0 if world.plan.disk.slow else 0.0):
        world.wrong("P10", f"{what} {late:.3f} s too late")


def _limits(world: World, job: str, call: Call, rows: Sequence[Row], rules: KindRules, lives: Sequence[Life]) -> None:
    """P10, P7: an attempt is ended when its time is over, for a reason, and one that does not end is told."""
    life = lives[call.life - 1] if call.life <= len(lives) else None
    if life is None or call.ended is None or call.how == "died":
        return
    if life.asked is not None and call.ended >= life.asked:
        return  # the stop may have ended it
    took, limit = call.ended - call.began, rules.timeout
    thread = world.plan.thread
    act = call.act
    assert act is not None
    if limit is None or rules.calls:
        return  # where a handler makes calls of its own, its limit began before them
    if not thread and act.kind != "hang" and took > limit + _SOON:
        world.wrong("P10", f"attempt {call.attempt} of {world.name(job)} takes {took:.3f} s and may take {limit}")
    ended_at = call.ended + EPOCH
    for row in rows:
        asked = row.type == "cancel_requested" and call.began + EPOCH < row.at < ended_at - _SOON
        if asked and not thread and act.kind != "hang":
            world.wrong("cancel", f"attempt {call.attempt} of {world.name(job)} goes on after a cancel")
    if call.how == "cancelled" and took < limit - _CLOSE:
        deadline = rows[0].deadline_at
        asked_at = world.told.cancel_asked.get(job, ())  # the attempt ends at once, a crash may come before the commit
        wanted = (deadline is not None and deadline <= ended_at + _CLOSE) or any(at <= call.ended for at in asked_at)
        if not (wanted or world.plan.disk.fails):
            world.wrong("P10", f"attempt {call.attempt} of {world.name(job)} is ended after {took:.3f} s for no reason")
    if world.plan.disk.fails:
        return  # the word may be lost with the store
    about_it = [row for row in rows if row.attempt == call.attempt]
    if took > limit + _GRACE + _SOON and not any(row.type == "overdue" for row in about_it):
        world.wrong("P7", f"attempt {call.attempt} of {world.name(job)} takes {took:.3f} s, and nobody is told")
    if took > limit + STUCK_AFTER + _GRACE + _SOON and not any(row.inside for row in about_it):
        world.wrong("P7", f"attempt {call.attempt} of {world.name(job)} is stuck, and nobody is told")
