"""The stager: brings back what waits outside the line.

Two waits, one after the other: for a time (retrying, scheduled, a verify that is to come later), then for a place in
the line. Those whose time has come are ordered by `due_at`, then by the order in which they were submitted.

A job may move on by itself meanwhile (cancelled, expired). Nothing is taken out of the heaps for that; an
entry remembers the event after which it was made and is passed over when the job has moved on.

Times are UTC in the history and monotonic here: a wait is computed once, from the decision, and never more than
`max_slice` at a time, after which the wall clock is looked at again for waits that were given as a date.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

import trio

from trio_jobs._engine import decide
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._ports import Clock
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel

__all__ = ["Scheduler"]

#: Seconds after which a wait until a date looks at the wall clock again, which may have jumped
MAX_SLICE: Final = 60.0


class Scheduler:
    """Moves due jobs into `channel`. leave_line: called with each job whose deadline has passed."""

    def __init__(
        self, *, event_log: EventLog, channel: JobChannel, clock: Clock, on_expired: Callable[[JobRecord], object]
    ) -> None:
        self._event_log = event_log
        self._channel = channel
        self._clock = clock
        self._expired = on_expired
        # (when, on Trio's clock; seq of the event that made it; the job): timers
        self._timers: list[tuple[float, int, JobRecord]] = []
        # (deadline_at, UTC; seq; the job)
        self._deadlines: list[tuple[float, int, JobRecord]] = []
        # (due_at, UTC; seq of its submit; seq of the event that made the entry; the job): those that wait for a place
        self._waiting: list[tuple[float, int, int, JobRecord]] = []
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._alarm = float("inf")

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""
        return len(self._waiting)

    def schedule(self, record: JobRecord) -> None:
        """The job is scheduled or retrying; `due_at` says until when."""
        assert record.due_at is not None
        self._add_timer(record.due_at, record)

    def schedule_verify(self, record: JobRecord, seconds: float) -> None:
        """The job is in doubt; it comes through the line after `seconds` to be verified."""
        self._add_timer(self._clock.now() + seconds, record)

    def requeue(self, record: JobRecord) -> None:
        """The job is pending, or in doubt and to be verified, and has no place. Doubts come before everything else."""
        if record.state is State.IN_DOUBT:
            due_at = float("-inf")
        else:
            due_at = record.due_at if record.due_at is not None else record.submitted_at
        heappush(self._waiting, (due_at, record.submitted_seq, record.last_seq, record))
        self._channel.set_requeue_waiting(True)
        self._wake.set()

    def fill(self) -> None:
        """Give the places that are free to those that wait: before the first new submit can take one."""
        while self._drop_stale() and self._channel.try_reserve_requeue():
            self._channel.send(heappop(self._waiting)[-1])

    def watch_deadline(self, record: JobRecord) -> None:
        """The job has a deadline, by which it must not be waiting any more."""
        assert record.deadline_at is not None
        heappush(self._deadlines, (record.deadline_at, record.last_seq, record))
        self._set_alarm(self._clock.monotonic() + self._until(record.deadline_at))

    def _add_timer(self, due_at: float, record: JobRecord) -> None:
        when = self._clock.monotonic() + max(due_at - self._clock.now(), 0.0)
        heappush(self._timers, (when, record.last_seq, record))
        self._set_alarm(when)

    def _until(self, at: float) -> float:
        """Seconds to sleep for a date: at most a slice, since the wall clock may jump meanwhile."""
        return min(max(at - self._clock.now(), 0.0), MAX_SLICE)

    def _set_alarm(self, at: float) -> None:
        if at < self._alarm:
            self._alarm = self._scope.deadline = at

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Both waits, side by side."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_timers)
            nursery.start_soon(self._run_places)

    async def _run_timers(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the next timer or deadline, then act on all that are over. Cancelled: what was over is acted
        on."""
        self._scope = trio.CancelScope(deadline=self._alarm)
        with self._scope:
            await trio.sleep_forever()
        self._alarm = float("inf")
        self._fire_timers()
        self._fire_deadlines()

    def _fire_timers(self) -> None:
        timers, now = self._timers, self._clock.monotonic()
        while timers and timers[0][0] <= now:
            _, seq, record = heappop(timers)
            if record.last_seq != seq:
                continue
            if record.state is State.IN_DOUBT:
                self.requeue(record)
                continue
            self._event_log.append(decide.due(record, self._clock.now(), self._event_log.next_seq))
            self.requeue(record)
        if timers:
            self._set_alarm(timers[0][0])

    def _fire_deadlines(self) -> None:
        deadlines, now = self._deadlines, self._clock.now()
        while deadlines and deadlines[0][0] <= now:
            _, _, record = heappop(deadlines)
            events = decide.expire(record, now, self._event_log.next_seq)
            if events:
                self._event_log.append(events)
                self._expired(record)
        if deadlines:
            self._set_alarm(self._clock.monotonic() + max(self._until(deadlines[0][0]), 0.001))

    async def _run_places(self) -> None:
        while True:
            if not self._drop_stale():
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            await self._channel.reserve_requeue()
            if self._drop_stale():  # all that waited may have moved on meanwhile
                self._channel.send(heappop(self._waiting)[3])
            else:
                self._channel.release()

    def _drop_stale(self) -> bool:
        """Pass over jobs that have moved on; is one left?"""
        waiting = self._waiting
        while waiting and waiting[0][3].last_seq != waiting[0][2]:
            heappop(waiting)
        if not waiting:
            self._channel.set_requeue_waiting(False)
        return bool(waiting)
