"""The scheduler: requeues jobs when they are due.

A job outside of the channel waits first for a time (retrying, scheduled, a verify with a delay), then for a slot. Jobs
that wait for a slot are ordered by `due_at`, then by their submit.

A job may change while it waits: it may be cancelled, or expire. Its entry is not removed from the heap. Each entry has
the number of the job's last event at that time, and is skipped if the job has changed since.

Times in events are UTC; times in this module are monotonic. The end of a wait is computed once, from the event, except
for deadlines: they are compared with the wall clock again after at most `MAX_SLICE`.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

import trio

from trio_jobs._concurrency import Alarm, WakeUp
from trio_jobs._engine import decide
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._ports import Clock
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel

__all__ = ["Scheduler"]

#: Seconds after which a wait for a deadline reads the wall clock again, which may have been set
MAX_SLICE: Final = 60.0


class Scheduler:
    """Sends jobs that are due to the channel, and ends waiting jobs that expire."""

    def __init__(self, *, event_log: EventLog, channel: JobChannel, clock: Clock, blocking_job: BlockingJob) -> None:
        self._event_log = event_log
        self._channel = channel
        self._clock = clock
        self._blocking_job = blocking_job
        # (when, on Trio's clock; number of the job's last event; the job)
        self._timers: list[tuple[float, int, JobRecord]] = []
        # (deadline_at, UTC; number of the job's last event; the job)
        self._deadlines: list[tuple[float, int, JobRecord]] = []
        # jobs that wait for a slot: (due_at, UTC; number of the submit; number of the job's last event; the job)
        self._waiting: list[tuple[float, int, int, JobRecord]] = []
        self._wake = WakeUp()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Scheduler {len(self._timers)} timers, {len(self._waiting)} wait for a slot>"

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a slot."""
        return len(self._waiting)

    def schedule(self, record: JobRecord) -> None:
        """Requeue a scheduled or retrying job at its `due_at`."""
        assert record.due_at is not None
        self._add_timer(record.due_at, record)

    def schedule_verify(self, record: JobRecord, seconds: float) -> None:
        """Requeue a job in doubt after `seconds`, to be verified."""
        self._add_timer(self._clock.now() + seconds, record)

    def requeue(self, record: JobRecord) -> None:
        """Send the job to the channel as soon as a slot is free.

        The job is pending, or in doubt and to be verified. Jobs in doubt precede all others.
        """
        if record.state is State.IN_DOUBT:
            due_at = float("-inf")
        else:
            due_at = record.due_at if record.due_at is not None else record.submitted_at
        heappush(self._waiting, (due_at, record.submitted_seq, record.last_seq, record))
        self._channel.set_requeue_waiting(True)
        self._wake.set()

    def fill_channel(self) -> None:
        """Fill the free slots with the jobs that wait, before a new submit can reserve one."""
        while self._drop_changed() and self._channel.try_reserve_requeue():
            self._channel.send(heappop(self._waiting)[-1])

    def watch_deadline(self, record: JobRecord) -> None:
        """End the job at its `deadline_at` if it is waiting then."""
        assert record.deadline_at is not None
        heappush(self._deadlines, (record.deadline_at, record.last_seq, record))
        self._alarm.set(self._clock.monotonic() + self._until(record.deadline_at))

    def _add_timer(self, due_at: float, record: JobRecord) -> None:
        when = self._clock.monotonic() + max(due_at - self._clock.now(), 0.0)
        heappush(self._timers, (when, record.last_seq, record))
        self._alarm.set(when)

    def _until(self, at: float) -> float:
        """Return the seconds until a UTC time, at most `MAX_SLICE`."""
        return min(max(at - self._clock.now(), 0.0), MAX_SLICE)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run both loops: for times, and for slots."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_timers)
            nursery.start_soon(self._run_requeues)

    async def _run_timers(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the next timer or deadline, then process all that have passed.

        Cancelled:
            The next call processes the timers that have passed.
        """
        await self._alarm.wait()
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
            self._alarm.set(timers[0][0])

    def _fire_deadlines(self) -> None:
        deadlines, now = self._deadlines, self._clock.now()
        while deadlines and deadlines[0][0] <= now:
            _, _, record = heappop(deadlines)
            events = decide.expire(record, now, self._event_log.next_seq)
            if events:
                self._event_log.append(events)
                self._channel.remove(record)
                self._blocking_job.notify(record)
        if deadlines:
            self._alarm.set(self._clock.monotonic() + max(self._until(deadlines[0][0]), 0.001))

    async def _run_requeues(self) -> None:
        while True:
            if not self._drop_changed():
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._channel.reserve_requeue()
            if self._drop_changed():  # all jobs that waited may have changed meanwhile
                self._channel.send(heappop(self._waiting)[3])
            else:
                self._channel.release()

    def _drop_changed(self) -> bool:
        """Drop the first entries whose jobs have changed. False: no entry is left."""
        waiting = self._waiting
        while waiting and waiting[0][3].last_seq != waiting[0][2]:
            heappop(waiting)
        if not waiting:
            self._channel.set_requeue_waiting(False)
        return bool(waiting)
