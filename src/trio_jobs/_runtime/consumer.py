"""The consumer: the one task that receives jobs from the channel, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

import trio

from trio_jobs._engine import decide
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._ports import Clock
from trio_jobs._runtime.attempt_runner import AttemptRunner
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.saver import Saver
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.verification import Verification, can_verify
from trio_jobs._runtime.waits import LOOK_EVERY, seconds_to_due

__all__ = ["Consumer"]

_IN_DOUBT: Final = State.IN_DOUBT


class Consumer:
    """Passes each job of the channel to the attempt runner, or to verification if it is in doubt."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        channel: JobChannel,
        clock: Clock,
        handlers: Mapping[str, Handler],
        sessions: SdkSessionManager,
        runner: AttemptRunner,
        verification: Verification,
        caller: CallerCheck,
        blocking_job: BlockingJob,
        saver: Saver | None,
        strict_order: bool,
    ) -> None:
        self._event_log = event_log
        self._channel = channel
        self._clock = clock
        self._handlers = handlers
        self._sessions = sessions
        self._runner = runner
        self._verification = verification
        self._caller = caller
        self._blocking_job = blocking_job
        self._saver = saver
        self._strict_order = strict_order
        self.first_jobs: list[JobRecord] = []
        """In strict order: restored jobs that blocked the queue when it stopped."""

    def is_idle(self) -> bool:
        """Whether no job is in the channel or processed, and each event is committed."""
        return self._channel.used == 0 and self._runner.is_idle() and self._event_log.is_committed()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        self._caller.consumer = trio.lowlevel.current_task()
        try:
            for record in self.first_jobs:
                await self._process_to_end(record)
            await self._process()
        finally:
            self._runner.scope.leave()

    async def _process(self) -> NoReturn:
        """Process one job of the channel after the other.

        Cancelled:
            While it waits: no job was received.
        """
        saver, sessions, channel = self._saver, self._sessions, self._channel
        runner, verification, jobs = self._runner, self._verification, self._event_log.projection.jobs
        while True:
            if saver is not None and saver.pending:
                before_save = await self._receive_before_save(saver)
                if before_save is None:
                    continue
                record = before_save
            else:
                if not sessions.is_permitted():
                    await sessions.wait_permitted()
                if runner.has_slept and channel.used:
                    # the last attempt has waited for a call or for the commit of its start. One checkpoint for each job
                    # is enough: its end and the next start are then appended in the same turn of the loop, and synced
                    # together
                    runner.has_slept = False
                    await trio.lowlevel.checkpoint_if_cancelled()
                    record = channel.receive_nowait()
                else:
                    record = await channel.receive()
                if not sessions.ready():  # the wait was long, or the SDK is not open
                    record = await self._receive_when_ready(record)
            channel.received(record)
            if record.id not in jobs:  # pruned, or its submit was rejected while it was in delivery
                verification.refuse_request(record)
                continue
            if record.state in FINAL and verification.is_requested(record):
                await verification.answer_request(record)
            elif self._strict_order:
                await self._process_to_end(record)
            elif record.state is _IN_DOUBT:
                await verification.resolve(record)
            else:
                await runner.run(record)
            if saver is not None or sessions.must_close():
                await self._after_call()

    async def _receive_when_ready(self, record: JobRecord) -> JobRecord:
        """Return the job that was received, or the next one, when an attempt may start."""
        sessions, channel = self._sessions, self._channel
        while not sessions.ready() and self._event_log.contains(record):
            channel.unreceive(record)  # in the channel the job has a position, and can expire or be cancelled
            await sessions.wait()
            record = await channel.receive()
        return record

    async def _receive_before_save(self, saver: Saver) -> JobRecord | None:
        """Return the next job; or save what is not saved, and return None, if that is due before a job can start."""
        sessions, channel = self._sessions, self._channel
        while not sessions.must_renew():
            with saver.wait_until_due() as waiting:
                await sessions.wait_permitted()
                await sessions.pace()
                record = await channel.receive()
                if sessions.ready() or not self._event_log.contains(record):
                    return record
                channel.unreceive(record)
            if waiting.cancelled_caught:
                break
            await sessions.ask_alive_if_due()
        if sessions.stopped:  # the stop saves, or decides that nothing can be saved
            await trio.sleep_forever()
        if sessions.must_renew() and sessions.is_clean:
            await saver.save()
        await saver.end_if_stuck()
        await self._after_call()
        return None

    async def _after_call(self) -> None:
        """After an attempt: save if that is due, and close a session that is discarded."""
        if self._saver is not None:
            await self._saver.save_if_due()
        await self._sessions.close_discarded()
        if self._saver is not None:
            await self._saver.resolve_doubts()

    async def _process_to_end(self, record: JobRecord) -> None:
        """In strict order: bring the job to a final state before the next one is received."""
        handler = self._handlers[record.kind]
        blocking, clock = self._blocking_job, self._clock
        blocking.record = record
        try:
            while record.state not in FINAL and self._event_log.contains(record):
                blocking.expect_change()
                if record.state is State.PENDING:
                    await self._sessions.wait()
                    await self._runner.run(record)
                    await self._after_call()
                elif record.state is State.SAVING:  # the queue stops, or its session is lost
                    await blocking.changed()
                elif record.state is not State.IN_DOUBT:
                    left = min(seconds_to_due(record, clock), LOOK_EVERY)
                    if not await blocking.changed_within(left):
                        events = decide.due(record, clock.now(), self._event_log.next_seq)
                        # the job may have changed in the step in which it became due
                        if events and seconds_to_due(record, clock) <= 0:
                            self._event_log.append(events)
                elif not can_verify(record, handler):
                    await blocking.changed()
                elif await self._unchanged_for(handler.verify_delay):
                    await self._sessions.wait()
                    await self._verification.resolve(record)
                    await self._after_call()
        finally:
            blocking.record = None

    async def _unchanged_for(self, seconds: float) -> bool:
        """Return True after so many seconds, or False as soon as the blocking job has changed."""
        end = self._clock.elapsed() + seconds
        while True:
            if await self._blocking_job.changed_within(min(end - self._clock.elapsed(), LOOK_EVERY)):
                return False
            if self._clock.elapsed() >= end:
                return True
