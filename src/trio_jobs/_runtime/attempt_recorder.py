"""The desk: where handlers' wishes arrive (steps, progress), and the loop that passes progress on.

Progress is passed on at most five times a second: the loop tells what is newest, then sleeps. One attempt is under way
at a time, so there is one newest word; what an attempt said last is dropped when it has ended meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from trio_jobs._engine import decide
from trio_jobs._engine.events import JobEvent
from trio_jobs._errors import SdkCallRefused
from trio_jobs._ports import Clock
from trio_jobs._runtime.attempt import RunningAttempt
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_context import Progress

__all__ = ["AttemptRecorder"]

INTERVAL: Final = 0.2  #: seconds between two words about one job


class AttemptRecorder:
    """Conforms to `Recorder`. current: the attempt under way. tell: called with each attempt's progress that is
    passed on."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        clock: Clock,
        current: Callable[[], RunningAttempt | None],
        tell: Callable[[RunningAttempt, Progress], None],
    ) -> None:
        self._event_log = event_log
        self._clock = clock
        self._current = current
        self._tell = tell
        self._news: tuple[RunningAttempt, Progress] | None = None
        self._wake = trio.Event()

    async def start_step(self, running: RunningAttempt, step: str) -> None:
        """Raises `SdkCallRefused` where the attempt is over or about to be: then the step must not be done."""
        if self._current() is not running or running.ended_by() is not None:
            raise SdkCallRefused("this attempt is over, or about to be; it begins no more steps")
        record = running.record
        await self._keep(decide.start_step(record, step, self._clock.now(), self._event_log.next_seq))
        running.entered = True

    async def finish_step(self, running: RunningAttempt, step: str, result: msgspec.Raw) -> None:
        """The step is done, so this is kept whatever has become of the attempt. Cancelled: it is recorded all the
        same."""
        if self._current() is not running:
            raise SdkCallRefused("this attempt is over; nothing of it can be kept any more")
        record = running.record
        await self._keep(decide.finish_step(record, step, result, self._clock.now(), self._event_log.next_seq))

    async def _keep(self, events: tuple[JobEvent, ...]) -> None:
        if not events:
            raise SdkCallRefused("the job was settled meanwhile; nothing of this attempt can be kept any more")
        self._event_log.append(events)
        if self._event_log.durable:
            await self._event_log.committed(events[-1].seq)

    def progress(self, running: RunningAttempt, progress: Progress) -> None:
        """Remember the newest word of the attempt, to be passed on."""
        self._news = running, progress
        self._wake.set()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Pass on what is new, if its attempt is still under way, then be silent for a while. Cancelled: what is new is
        not passed on."""
        await self._wake.wait()
        self._wake = trio.Event()
        if self._news is not None and self._news[0] is self._current():
            self._tell(*self._news)
        self._news = None
        await trio.sleep(INTERVAL)
