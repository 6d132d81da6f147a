"""The oracle: checks the events on the disk, the calls into the SDK and what clients received against the promises.

It shares no code with the engine: `rows` defines what an event means, and each rule is a sentence of the design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.clients import Follower
from sim.job_rules import Life, check_job
from sim.observer import Observer
from sim.rows import FINAL_TYPES, NEW_RUNS, STATE_AFTER, Row, read

__all__ = ["check"]

_RESOLUTION: Final = 1e-5  #: seconds: the resolution of floats of that size
_CONFIRMED_BY: Final = {
    "cancelled": ("cancelled",),
    "requested": ("cancel_requested",),
    "too_late": ("completed", "failed"),
}


def check(observer: Observer, truth: Mapping[int, bytes], followers: Sequence[Follower], lives: Sequence[Life]) -> None:
    """Report every violation in a schedule to `observer`.

    Args:
        observer: Has the calls and what clients received.
        truth: Every event that was ever on the disk, by seq.
        followers: The readers of events.
        lives: The lives of the service.
    """
    rows = [read(truth[seq]) for seq in sorted(truth)]
    for row in rows:
        time = observer.machine_clock.moment(row.at)
        if time is None:
            observer.report("bug", f"event {row.seq} has the time {row.at!r}, which the wall clock never showed")
            return
        row.time = time
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        observer.report("P8", "the numbers of the events have a gap")
        return
    jobs: dict[str, list[Row]] = {}
    for row in rows:
        if row.job:
            jobs.setdefault(row.job, []).append(row)
    for job, its_rows in jobs.items():
        check_job(observer, job, its_rows, lives)
    _check_keys(observer, jobs)
    _check_pauses(observer, rows)
    _check_order(observer, rows)
    _check_openings(observer, rows)
    _check_acceptance(observer, jobs)
    _check_answers(observer, jobs)
    _check_followers(observer, rows, truth, followers)


def _check_keys(observer: Observer, jobs: Mapping[str, Sequence[Row]]) -> None:
    """A key belongs to one job, also after crashes and pruning."""
    known: dict[tuple[str, str], str] = {}
    for job, rows in jobs.items():
        key = rows[0].key
        if key is not None and known.setdefault((rows[0].kind, key), job) != job:
            observer.report("keys", f"{key} of {rows[0].kind} was accepted twice")


def _check_pauses(observer: Observer, rows: Sequence[Row]) -> None:
    """Between a pause and the next resume no attempt starts, also after a restart."""
    paused = False
    for row in rows:
        if row.type in ("paused", "resumed"):
            paused = row.type == "paused"
        elif row.type == "started" and paused:
            observer.report("pause", f"{observer.name(row.job)} starts (event {row.seq}) while the queue is paused")


def _check_order(observer: Observer, rows: Sequence[Row]) -> None:
    """In strict order no job passes one that waits for its retry or is in doubt."""
    if not observer.plan.settings["strict_order"]:
        return
    blocking: dict[str, str] = {}
    retried: set[str] = set()  # a new run is at the end of the queue, also one that begins with a verify
    for row in rows:
        if row.type in NEW_RUNS:
            retried.add(row.job)
        elif row.type == "started":
            retried.discard(row.job)
            for other, state in blocking.items():
                if other != row.job:
                    observer.report(
                        "order", f"{observer.name(row.job)} passes {observer.name(other)}, which is {state}"
                    )
        state_after = STATE_AFTER.get(row.type)
        begins = row.type == "in_doubt" and row.job in retried
        if row.type in ("retrying", "snoozed", "in_doubt", "returned") and not begins:
            blocking[row.job] = row.type
        elif state_after in ("processing", *FINAL_TYPES):
            blocking.pop(row.job, None)


def _check_openings(observer: Observer, rows: Sequence[Row]) -> None:
    """An opening says that the last session was left unclean, unless that one is known to have been closed well."""
    closed_well = True  # by the events before
    for row in rows:
        if row.type == "session_opening":
            before = [clean for time, clean in observer.seats if time < row.time - _RESOLUTION]
            at_once = [clean for time, clean in observer.seats if abs(time - row.time) <= _RESOLUTION]
            if not (row.unclean or before[-1] or any(at_once)):
                observer.report("P3", f"event {row.seq} says that the last session was closed, and it was not")
            if row.unclean and closed_well:
                observer.report("P3", f"event {row.seq} says that the last session was not closed, and its events do")
            closed_well = False
        elif row.type == "session_opening_failed":
            closed_well = not row.unclean
        elif row.type == "host_closed":
            closed_well = row.problem is None


def _check_acceptance(observer: Observer, jobs: Mapping[str, Sequence[Row]]) -> None:
    """Each accepted job is on the disk as it was submitted."""
    for job, rows in jobs.items():
        if rows[0].payload in observer.clients.cancelled_submits:
            observer.report("P4", f"the submit of {observer.name(job)} raised Cancelled although the job was accepted")
    for job, (kind, number, key) in observer.clients.accepted.items():
        its_rows = jobs.get(job)
        if its_rows is None:
            observer.report("P4", f"{observer.name(job)} was accepted and is not on the disk")
        elif (its_rows[0].kind, its_rows[0].key) != (kind, key) or all(
            row.payload != number for row in its_rows if row.type in ("submitted", "scheduled", "corrected")
        ):
            observer.report("P4", f"{observer.name(job)} differs from what was submitted")


def _check_answers(observer: Observer, jobs: Mapping[str, Sequence[Row]]) -> None:
    """Each answer that a client received is confirmed by an event on the disk."""
    record = observer.clients
    for job, answers in record.cancels.items():
        types = {row.type for row in jobs.get(job, ())}
        for answer in answers:
            if not types.intersection(_CONFIRMED_BY[answer]):
                observer.report("P6", f"cancel of {observer.name(job)} returned {answer}, which no event confirms")
    for job, result in record.results.items():
        expected_type = {"JobFailed": "failed", "JobCancelled": "cancelled"}.get(result, "completed")
        if not any(row.type == expected_type for row in jobs.get(job, ())):
            observer.report("P6", f"result of {observer.name(job)} was {result}, which no event confirms")
    for job, seq, state, attempts in record.snapshots:
        before = [row for row in jobs.get(job, ()) if row.seq <= seq]
        states = [STATE_AFTER[row.type] for row in before if row.type in STATE_AFTER]
        started = sum(row.type == "started" for row in before)
        if not before or before[-1].seq != seq or states[-1] != state or started != attempts:
            observer.report(
                "P6", f"get returned {observer.name(job)} as {state} at event {seq} after {attempts} attempts"
            )


def _check_followers(
    observer: Observer, rows: Sequence[Row], truth: Mapping[int, bytes], followers: Sequence[Follower]
) -> None:
    """Every follower received every event of its filter once, in order, as it is on the disk."""
    for seq, body in observer.clients.events.items():
        if truth.get(seq) != body:
            observer.report("P6", f"event {seq} was delivered to a follower and is not on the disk")
    kinds = {row.job: row.kind for row in rows if row.type in ("submitted", "scheduled")}
    for follower in followers:
        if follower.began is None:
            continue
        event_filter = follower.filter

        def matches(row: Row, event_filter: dict[str, Any] = event_filter) -> bool:
            if "kinds" in event_filter:
                return kinds.get(row.job, "") in event_filter["kinds"]
            if "states" in event_filter:
                return row.type in ("completed", "failed")
            return not event_filter or row.job in event_filter["jobs"]

        expected = [
            row.seq
            for row in rows
            if follower.began < row.seq <= follower.position
            and matches(row)
            and not any(after < row.seq < oldest for after, oldest in follower.gaps)
        ]
        if expected != follower.received:
            missing = sorted(set(expected).symmetric_difference(follower.received))
            observer.report(
                "P8", f"{follower.name} ({event_filter or 'all'}): events {missing[:5]} are missing or unexpected"
            )
