"""The scheduler: requeues jobs when they are due, ends waiting jobs that expire, and ends a pause at its date.

A job outside of the channel waits first for a time (retrying, scheduled, a verify with a delay), then for a slot. Jobs
that wait for a slot are ordered by the time at which they were due, then by their submit.

A job may change while it waits: it may be cancelled, or expire. Its entry is not removed from the heap. Each entry has
the number of the last event that moved the job, and is skipped if the job has moved since.

A wait ends at a date on the wall clock, or after seconds on the clock of elapsed time. Either may advance by more than
Trio's clock, on which this task sleeps, so both are read at least every `LOOK_EVERY` seconds and before each attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import trio

from trio_jobs._concurrency import NEVER, Alarm, WakeUp
from trio_jobs._engine import decide
from trio_jobs._engine.event_writer import is_expired
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._ports import Clock
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.waits import LOOK_EVERY

__all__ = ["Scheduler"]


class _Timers:
    """Jobs by a time on one clock, each with the number of its last event when it was added."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, int, JobRecord]] = []
        """(time, number of the call of `add`, number of the job's last event, job), the earliest first."""
        self._added = 0

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, at: float, record: JobRecord) -> None:
        self._added += 1
        heappush(self.heap, (at, self._added, record.moved_seq, record))

    def pop_until(self, now: float) -> list[tuple[int, JobRecord]]:
        """Remove and return what is due at `now`, the earliest first."""
        heap = self.heap
        popped = []
        while heap and heap[0][0] <= now:
            _, _, seq, record = heappop(heap)
            popped.append((seq, record))
        return popped

    def left(self, now: float) -> float:
        """The seconds until the first one is due."""
        return self.heap[0][0] - now if self.heap else NEVER


class Scheduler:
    """Sends jobs that are due to the channel, and ends waiting jobs that expire."""

    def __init__(self, *, event_log: EventLog, channel: JobChannel, clock: Clock, blocking_job: BlockingJob) -> None:
        self._event_log = event_log
        self._channel = channel
        self._clock = clock
        self._blocking_job = blocking_job
        # by seconds: on the clock of elapsed time; by date: on the wall clock
        self._due_by_seconds, self._due_by_date = _Timers(), _Timers()
        self._deadlines_by_seconds, self._deadlines_by_date = _Timers(), _Timers()
        self.has_times = False
        """False: there is no timer, no deadline and no end of a pause, and `look` need not be called."""
        self._wall_ahead = NEVER
        # jobs that wait for a slot: (when they were due, in elapsed time; number of the submit; number of the job's
        # last event; the job)
        self._waiting: list[tuple[float, int, int, JobRecord]] = []
        self._wake = WakeUp()
        self._alarm = Alarm()
        self._pause_ends = NEVER
        self._end_pause: Callable[[], None] | None = None

    def __repr__(self) -> str:
        timers = len(self._due_by_seconds) + len(self._due_by_date)
        return f"<Scheduler {timers} timers, {len(self._waiting)} wait for a slot>"

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a slot."""
        return len(self._waiting)

    def schedule(self, record: JobRecord) -> None:
        """Requeue a scheduled or retrying job when it is due."""
        wait = record.due_wait
        if wait is not None and wait.end is not None:
            self._due_by_seconds.add(wait.end, record)
        else:
            assert record.due_at is not None
            self._due_by_date.add(record.due_at, record)
        self._set_alarm()

    def schedule_verify(self, record: JobRecord, seconds: float) -> None:
        """Requeue a job in doubt after `seconds`, to be verified."""
        self._due_by_seconds.add(self._clock.elapsed() + seconds, record)
        self._set_alarm()

    def requeue(self, record: JobRecord) -> None:
        """Send the job to the channel as soon as a slot is free.

        The job is pending, or in doubt and to be verified. Jobs in doubt precede all others.
        """
        if record.state is State.IN_DOUBT:
            was_due = -NEVER
        elif record.due_wait is not None and record.due_wait.end is not None:
            was_due = record.due_wait.end
        else:
            was_due = self._elapsed_at(record.due_at if record.due_at is not None else record.submitted_at)
        heappush(self._waiting, (was_due, record.submitted_seq, record.moved_seq, record))
        self._channel.set_requeue_waiting(True)
        self._wake.set()

    def fill_channel(self) -> None:
        """Fill the free slots with the jobs that wait, before a new submit can reserve one."""
        while self._drop_changed() and self._channel.try_reserve_requeue():
            self._channel.send(heappop(self._waiting)[-1])

    def watch_deadline(self, record: JobRecord) -> None:
        """End the job at its deadline if it is waiting then."""
        wait = record.deadline_wait
        if wait is not None and wait.end is not None:
            self._deadlines_by_seconds.add(wait.end, record)
        else:
            assert record.deadline_at is not None
            self._deadlines_by_date.add(record.deadline_at, record)
        self._set_alarm()

    def watch_pause(self, until: float | None, end: Callable[[], None]) -> None:
        """Call `end` at this date; None: there is no pause that ends by itself."""
        self._pause_ends, self._end_pause = NEVER if until is None else until, end
        if until is not None:
            self._set_alarm()

    def look(self, now: float, elapsed: float) -> None:
        """Process all timers and deadlines that have passed. To be called before each attempt.

        Args:
            now: The time of the wall clock.
            elapsed: That of the clock of elapsed seconds.
        """
        if self._pause_ends <= now and self._end_pause is not None:
            self._pause_ends = NEVER
            self._end_pause()
        for timers, at in ((self._due_by_seconds, elapsed), (self._due_by_date, now)):
            for seq, record in timers.pop_until(at):
                if record.moved_seq == seq:
                    self._become_due(record, now)
        for timers, at in ((self._deadlines_by_seconds, elapsed), (self._deadlines_by_date, now)):
            for _, record in timers.pop_until(at):
                self._reach_deadline(record, now, elapsed)

    def _elapsed_at(self, at: float) -> float:
        """Return when the wall clock showed `at`, or would have, in elapsed time; at most the present.

        Equal dates must give equal times, so the difference of the two clocks is kept until the wall clock is set.
        """
        elapsed = self._clock.elapsed()
        ahead = self._clock.now() - elapsed
        if abs(ahead - self._wall_ahead) > 1.0:
            self._wall_ahead = ahead
        return min(at - self._wall_ahead, elapsed)

    def _set_alarm(self) -> None:
        now, elapsed = self._clock.now(), self._clock.elapsed()
        by_seconds = min(self._due_by_seconds.left(elapsed), self._deadlines_by_seconds.left(elapsed))
        by_date = min(self._due_by_date.left(now), self._deadlines_by_date.left(now), self._pause_ends - now)
        left = min(max(by_seconds, 0.0), max(by_date, 0.001))  # a date may be compared with a slower clock for ever
        self.has_times = left != NEVER
        if self.has_times:
            self._alarm.set(self._clock.monotonic() + min(left, LOOK_EVERY))

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run both loops: for times, and for slots."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_timers)
            nursery.start_soon(self._run_requeues)

    @trio.lowlevel.enable_ki_protection
    async def _run_timers(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep until the next timer or deadline, then process all that have passed.

        Cancelled:
            The next call processes the timers that have passed.
        """
        await self._alarm.wait()
        self.look(self._clock.now(), self._clock.elapsed())
        self._set_alarm()

    def _become_due(self, record: JobRecord, now: float) -> None:
        if record.state is not State.IN_DOUBT:
            self._event_log.append(decide.due(record, now, self._event_log.next_seq))
        self.requeue(record)

    def _reach_deadline(self, record: JobRecord, now: float, elapsed: float) -> None:
        events = decide.expire(record, now, self._event_log.next_seq, elapsed)
        if events:
            self._event_log.append(events)
            self._channel.remove(record)
            self._blocking_job.notify(record)
        elif record.state in FINAL or record.deadline_at is None:
            return
        elif is_expired(record, now, elapsed):  # an attempt is running, during which the wall clock may be set back
            self._deadlines_by_seconds.add(elapsed + LOOK_EVERY, record)
        else:  # it was set back
            self.watch_deadline(record)

    @trio.lowlevel.enable_ki_protection
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
        while waiting and waiting[0][3].moved_seq != waiting[0][2]:
            heappop(waiting)
        if not waiting:
            self._channel.set_requeue_waiting(False)
        return bool(waiting)
