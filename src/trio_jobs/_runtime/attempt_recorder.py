"""Records the reports of a running attempt: steps, which are stored, and progress, which is only published.

Progress is published at most five times a second: the loop publishes the newest report, then sleeps. One attempt runs
at a time, so there is one newest report. A report whose attempt has ended meanwhile is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine import decide
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._engine.progress import Progress
from trio_jobs._errors import SdkCallRefused
from trio_jobs._ports import Clock
from trio_jobs._runtime.attempt import AttemptSlot, RunningAttempt
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.unsaved_work import NothingUnsaved, UnsavedWork
from trio_jobs._sdk_call import SaveCall

__all__ = ["AttemptRecorder"]

INTERVAL: Final = 0.2  #: seconds between two published reports


class AttemptRecorder:
    """Conforms to `job_context.Recorder`."""

    def __init__(self, *, event_log: EventLog, clock: Clock, slot: AttemptSlot) -> None:
        self.listeners: set[Callable[[Progress], None]] = set()
        """Called with each report that is published; they must return at once and not raise."""
        self.unsaved: UnsavedWork = NothingUnsaved()
        """The work that only the memory of the session holds, which is saved with a step."""
        self._event_log = event_log
        self._clock = clock
        self._slot = slot
        self._newest: tuple[RunningAttempt, Progress] | None = None
        self._published: tuple[RunningAttempt, Progress] | None = None
        self._wake = WakeUp()

    async def start_step(self, running: RunningAttempt, step: str) -> None:
        """Record that a step begins.

        Raises:
            SdkCallRefused: The attempt has ended or is about to end; the step must not be executed.
        """
        if self._slot.current is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; it begins no more steps")
        record = running.record
        events = decide.start_step(record, step, self._clock.now(), self._event_log.next_seq)
        await self._append(running, events)
        running.entered = True

    async def finish_step(self, running: RunningAttempt, step: str, result: msgspec.Raw) -> None:
        """Record that a step is done, also if the attempt was requested to end meanwhile.

        Raises:
            SdkCallRefused: The attempt has ended, or an operator has resolved the job.

        Cancelled:
            The step is recorded.
        """
        if self._slot.current is not running:
            raise SdkCallRefused("this attempt is over; nothing of it can be recorded any more")
        event_log = self._event_log
        saved = self.unsaved.step_saved(event_log.next_seq)
        seq = event_log.next_seq + len(saved)
        events = decide.finish_step(running.record, step, result, self._clock.now(), seq)
        await self._append(running, events, saved)

    def save_call(self) -> SaveCall | None:
        """See `UnsavedWork.step_call`."""
        return self.unsaved.step_call()

    async def before_save(self, running: RunningAttempt) -> None:
        """See `UnsavedWork.before_step_save`."""
        await self.unsaved.before_step_save()

    async def step_not_saved(self, running: RunningAttempt, report: CallReport) -> None:
        """The save of a step has raised. The step stays open."""
        if self._slot.current is running:
            self.unsaved.step_not_saved(report)

    async def _append(self, running: RunningAttempt, events: tuple[JobEvent, ...], saved: Sequence[Event] = ()) -> None:
        """Append the events of a step, and before them those of jobs that were saved with it, in one step."""
        self._event_log.append((*saved, *events))
        if not events:
            raise SdkCallRefused("the job was resolved meanwhile; nothing of this attempt can be recorded any more")
        if not self._event_log.durable:
            return
        with running.new_commit_scope() as scope:
            await self._event_log.committed(events[-1].seq)
        running.commit_scope = None
        if scope.cancelled_caught:
            raise SdkCallRefused("the queue stops, and the store has not acknowledged the step: its disk has failed")

    def progress(self, running: RunningAttempt, progress: Progress) -> None:
        """Publish this report of the attempt, unless a newer one replaces it first."""
        self._newest = running, progress
        self._wake.set()

    def latest(self, job_id: str) -> Progress | None:
        """Return the newest published report of the job's attempt; None without one, or if the attempt has ended."""
        if self._published is None:
            return None
        running, progress = self._published
        return progress if progress.job_id == job_id and running is self._slot.current else None

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Publish the newest report if its attempt is still running, then sleep for the interval.

        Cancelled:
            The newest report is not published.
        """
        await self._wake.wait()
        newest, self._newest = self._newest, None
        if newest is not None and newest[0] is self._slot.current:
            self._published = newest
            for listener in self.listeners:
                listener(newest[1])
        await trio.sleep(INTERVAL)
