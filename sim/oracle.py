"""The judge: was what happened what was promised?

It reads what was on the disk, what the SDK saw and what people were told, and compares them. It shares no code with the
engine: what an event means stands in `rows`, and each rule here is a sentence of the design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sim.judging import Life, judge_job
from sim.people import Follower
from sim.rows import FINAL_TYPES, STATE_AFTER, Row, read
from sim.world import World

__all__ = ["judge"]

_TOLD_AS: Final = {"cancelled": ("cancelled",), "requested": ("cancel_requested",), "too_late": ("completed", "failed")}


def judge(world: World, truth: Mapping[int, bytes], followers: Sequence[Follower], lives: Sequence[Life]) -> None:
    """Tell `world` of everything that is wrong."""
    rows = [read(truth[seq]) for seq in sorted(truth)]
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        world.wrong("P8", "the numbers of the events have a gap")
        return
    jobs: dict[str, list[Row]] = {}
    for row in rows:
        if row.job:
            jobs.setdefault(row.job, []).append(row)
    for job, its_rows in jobs.items():
        judge_job(world, job, its_rows, lives)
    _judge_keys(world, jobs)
    _judge_pauses(world, rows)
    _judge_order(world, rows)
    _judge_acceptance(world, jobs)
    _judge_answers(world, jobs)
    _judge_followers(world, rows, truth, followers)


def _judge_keys(world: World, jobs: Mapping[str, Sequence[Row]]) -> None:
    """A key makes one job, whatever crashes and is pruned."""
    known: dict[tuple[str, str], str] = {}
    for job, rows in jobs.items():
        key = rows[0].key
        if key is not None and known.setdefault((rows[0].kind, key), job) != job:
            world.wrong("keys", f"{rows[0].kind} {key} has begun twice")


def _judge_pauses(world: World, rows: Sequence[Row]) -> None:
    """From a pause to the resume that follows nothing begins, restarts or not."""
    paused = False
    for row in rows:
        if row.type in ("paused", "resumed"):
            paused = row.type == "paused"
        elif row.type == "started" and paused:
            world.wrong("pause", f"{world.name(row.job)} begins (event {row.seq}) while the queue is paused")


def _judge_order(world: World, rows: Sequence[Row]) -> None:
    """In strict order nobody passes a job that is to be tried again or in doubt."""
    if not world.plan.settings["strict_order"]:
        return
    held: dict[str, str] = {}
    for row in rows:
        if row.type == "started":
            for other, state in held.items():
                if other != row.job:
                    world.wrong("order", f"{world.name(row.job)} passes {world.name(other)}, which is {state}")
        state_after = STATE_AFTER.get(row.type)
        if row.type in ("retrying", "snoozed", "in_doubt"):
            held[row.job] = row.type
        elif state_after in ("processing", *FINAL_TYPES):
            held.pop(row.job, None)


def _judge_acceptance(world: World, jobs: Mapping[str, Sequence[Row]]) -> None:
    """What was accepted is kept, as it was asked for."""
    for job, rows in jobs.items():
        if rows[0].payload in world.told.broken_off:
            world.wrong("P4", f"the submit of {world.name(job)} was cancelled as if it were not accepted, and it is")
    for job, (kind, number, key) in world.told.accepted.items():
        its_rows = jobs.get(job)
        if its_rows is None:
            world.wrong("P4", f"{world.name(job)} was accepted, and is on no disk")
        elif (its_rows[0].kind, its_rows[0].payload, its_rows[0].key) != (kind, number, key):
            world.wrong("P4", f"{world.name(job)} is not what was asked for")


def _judge_answers(world: World, jobs: Mapping[str, Sequence[Row]]) -> None:
    """Whatever anybody was told is on the disk."""
    told = world.told
    for job, answers in told.cancels.items():
        types = {row.type for row in jobs.get(job, ())}
        for answer in answers:
            if not types.intersection(_TOLD_AS[answer]):
                world.wrong("P6", f"the cancel of {world.name(job)} was answered {answer}, and nothing says so")
    for job, result in told.results.items():
        wanted = {"JobFailed": "failed", "JobCancelled": "cancelled"}.get(result, "completed")
        if not any(row.type == wanted for row in jobs.get(job, ())):
            world.wrong("P6", f"the result of {world.name(job)} was told as {result}, and nothing says so")
    for job, seq, state, attempts in told.seen:
        before = [row for row in jobs.get(job, ()) if row.seq <= seq]
        states = [STATE_AFTER[row.type] for row in before if row.type in STATE_AFTER]
        begun = sum(row.type == "started" for row in before)
        if not before or before[-1].seq != seq or states[-1] != state or begun != attempts:
            world.wrong("P6", f"{world.name(job)} was shown as {state} at event {seq} after {attempts} attempts")


def _judge_followers(
    world: World, rows: Sequence[Row], truth: Mapping[int, bytes], followers: Sequence[Follower]
) -> None:
    """Every follower has every event that it asked for, once, in order, as it is on the disk."""
    for seq, body in world.told.events.items():
        if truth.get(seq) != body:
            world.wrong("P6", f"event {seq} was told to a follower, and is not on the disk like that")
    kinds = {row.job: row.kind for row in rows if row.type in ("submitted", "scheduled")}
    for follower in followers:
        if follower.began is None:
            continue
        wanted = follower.wanted

        def fits(row: Row, wanted: dict[str, object] = wanted) -> bool:
            if "kinds" in wanted:
                return kinds.get(row.job, "") in wanted["kinds"]  # type: ignore[operator]
            if "states" in wanted:
                return row.type in ("completed", "failed")
            return not wanted or row.job in wanted["jobs"]  # type: ignore[operator]

        expected = [
            row.seq
            for row in rows
            if follower.began < row.seq <= follower.position
            and fits(row)
            and not any(after < row.seq < oldest for after, oldest in follower.gaps)
        ]
        if expected != follower.got:
            missing = sorted(set(expected).symmetric_difference(follower.got))
            world.wrong(
                "P8", f"{follower.name} ({wanted or 'everything'}): events {missing[:5]} are missing or foreign"
            )
