"""Admission: how jobs are accepted. P4 depends on the order of the steps.

Check the payload, look up the key, reserve a slot (the only wait that can be cancelled), look up the key again, decide,
append, and send the job to the channel on the reserved slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import JobRecord, Receipt, State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.new_job import NewJob
from trio_jobs._errors import KeyConflict, QueueClosed, QueueFull, StoreError, TrioJobsError, UsageError
from trio_jobs._runtime.batch import Batch, slots
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.corrections import Corrections, is_new_after
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.expected_wait import ExpectedWaits
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.pending_submits import PendingSubmit, PendingSubmits
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.shared_state import Estimates, JobWaiters, QueueStatus
from trio_jobs._runtime.submission import Submission, SubmissionFactory
from trio_jobs._validation import check_by, check_seconds

__all__ = ["Admission"]

_PENDING: Final = State.PENDING
FULL_FOR: Final = 60.0  #: `QueueFull.retry_after` in seconds if `max_waiting` is exceeded: jobs for later wait long


class Admission:
    """Accepts jobs. The methods are documented in `Queue`."""

    def __init__(
        self,
        *,
        submissions: SubmissionFactory,
        corrections: Corrections,
        event_log: EventLog,
        channel: JobChannel,
        caller: CallerCheck,
        scheduler: Scheduler,
        commits: CommitWaiter,
        waiters: JobWaiters,
        estimates: Estimates,
        expected: ExpectedWaits,
        status: QueueStatus,
        max_waiting: int,
    ) -> None:
        self._submissions = submissions
        self._corrections = corrections
        self._event_log = event_log
        self._durable = event_log.durable
        self._projection = event_log.projection
        self._channel = channel
        self._caller = caller
        self._scheduler = scheduler
        self._commits = commits
        self._waiters = waiters
        self._estimates = estimates
        self._expected = expected
        self._status = status
        self._max_waiting = max_waiting
        self.pending = PendingSubmits(event_log.store, commits.timeout)
        self._many = trio.Lock()

    def close(self) -> None:
        """From now on submits raise `QueueClosed`, including those that wait for a slot. This cannot be undone."""
        self._status.stopping = True
        self.begin_drain()

    def begin_drain(self) -> None:
        """As `close`, until `end_drain`."""
        if not self._status.closing:
            self._status.closing = True
            self._channel.wake_submits()

    def end_drain(self) -> None:
        """Accept submits again.

        Raises:
            QueueClosed: The queue stops.
        """
        if self._status.stopping:
            raise QueueClosed("the queue stops, which cannot be undone")
        self._status.closing = False

    def refuse_if_closing(self) -> None:
        """Check that jobs are accepted.

        Raises:
            QueueClosed: The queue drains or has stopped.
            StoreError: The store cannot commit at present.
        """
        if self._status.closing:
            raise QueueClosed("the queue accepts no new jobs: it is draining or has stopped")
        if self._durable and (trouble := self._event_log.store.trouble) is not None:
            raise StoreError(f"no jobs are accepted now: {trouble}")

    async def submit_job(self, job: NewJob, *, wait: float | None, by: str | None, correct: bool = False) -> Receipt:
        return await self.submit(self._submissions.of(job), wait, by, correct)

    @trio.lowlevel.enable_ki_protection
    async def submit(self, new: Submission, wait: float | None, by: str | None, correct: bool) -> Receipt:
        by = None if by is None else check_by(by)
        wait = None if wait is None else check_seconds("wait", wait)  # also where a slot is free
        if correct and new.key is None:
            raise UsageError("correct=True replaces the payload of the job that has a key: give key")
        await checkpoint_if_cancelled()
        if new.key is not None:
            known = self._known_or_corrected(new, by) if correct else self._receipt_of_known(new)
            if known is not None:
                await self._known_committed(known.job_id)
                return known
        durable = self._durable
        if durable or self._status.closing:
            self.refuse_if_closing()
        if new.due is not None:
            self.refuse_if_too_many_wait(1)
        elif not self._channel.try_reserve():
            await self._reserve(wait)
            try:
                # another caller may have submitted it meanwhile
                known = self._known_or_corrected(new, by) if correct else self._receipt_of_known(new)
            except TrioJobsError:
                self._channel.release()
                raise
            if known is not None or self._status.closing:
                self._channel.release()
                self.refuse_if_closing()
                assert known is not None
                await self._known_committed(known.job_id)
                return known
        try:
            if durable:
                pending = self._append_pending([new], by)
            else:
                receipt = self._accept(new, by)
        except BaseException:
            self._release_slot(new)
            raise
        if durable:
            return await self.pending.receipt(pending[0])
        await cancel_shielded_checkpoint()
        return receipt

    @trio.lowlevel.enable_ki_protection
    def submit_nowait(self, job: NewJob, *, by: str | None) -> Receipt:
        if self._durable:
            raise UsageError("with a journal a submit must wait for its commit: use await submit(..., wait=0)")
        by = check_by(by)
        new = self._submissions.of(job)
        known = self._receipt_of_known(new)
        if known is not None:
            return known
        self.refuse_if_closing()
        if not self._channel.try_reserve():
            raise self.queue_full()
        try:
            return self._accept(new, by)
        except BaseException:
            self._release_slot(new)
            raise

    @trio.lowlevel.enable_ki_protection
    async def submit_many(self, jobs: Sequence[NewJob], *, by: str | None) -> list[Receipt]:
        by = check_by(by)
        batch = Batch(self._submissions.of_all(jobs))
        await checkpoint_if_cancelled()
        self.refuse_if_closing()
        fresh = batch.look_up(self._receipt_of_known)
        if (later := len(fresh) - slots(fresh)) > 0:
            self.refuse_if_too_many_wait(later)
        self._refuse_if_too_many(slots(fresh))
        reserved = 0
        if self._many.locked():
            self._refuse_own_wait()
        try:
            async with self._many:  # two callers, each with half of the slots, would wait for each other
                # counted again after the wait: the store may have rejected the job to which a known key belonged
                while reserved < (needed := slots(batch.look_up(self._receipt_of_known))):
                    self._refuse_if_too_many(needed)
                    while reserved < needed:
                        self.refuse_if_closing()  # a caller that begins to wait after `close` would not be woken
                        await self._wait_for_slot()
                        reserved += 1
            self.refuse_if_closing()
            fresh = batch.look_up(self._receipt_of_known)
            pending = self._append_pending(fresh, by) if self._durable else []
            accepted = [] if self._durable else self._accept_all(fresh, by)
            reserved -= slots(fresh)
        finally:
            for _ in range(reserved):
                self._channel.release()
        accepted = accepted or await self.pending.receipts(pending)
        receipts = batch.receipts(fresh, accepted)
        for receipt in receipts:
            await self._known_committed(receipt.job_id)
        return receipts

    # events

    @trio.lowlevel.enable_ki_protection
    def _accept(self, new: Submission, by: str | None) -> Receipt:
        """Decide, append and send to the channel in one step. For stores in which `append` commits.

        The caller has reserved a slot, unless the job is for later.
        """
        event = self._submissions.event(new, by, self._projection.seq + 1)
        self._event_log.append((event,))
        return self._send(self._projection.jobs[event.job], new)

    @trio.lowlevel.enable_ki_protection
    def _accept_all(self, submissions: Sequence[Submission], by: str | None) -> list[Receipt]:
        """As `_accept`, for several jobs."""
        events = self._submissions.events(submissions, by, self._event_log.next_seq)
        self._event_log.append(events)
        jobs = self._projection.jobs
        return [self._send(jobs[event.job], new) for event, new in zip(events, submissions, strict=True)]

    @trio.lowlevel.enable_ki_protection
    def _append_pending(self, submissions: Sequence[Submission], by: str | None) -> list[PendingSubmit]:
        """Decide and append. For stores that commit later; `on_committed` then sends the jobs to the channel."""
        starts_early = bool(submissions) and self._starts_early(submissions[0])
        events = self._submissions.events(submissions, by, self._event_log.next_seq)
        pending = list(map(self.pending.add, events, submissions))
        try:
            self._event_log.append(events)
        except BaseException:
            for event in events:
                self.pending.discard(event.job)
            raise
        if starts_early and not pending[0].is_settled:  # a store may also commit, or fail, within `append`
            record = self._projection.jobs[events[0].job]
            pending[0].in_channel = record
            self._channel.send(record)
        return pending

    def _starts_early(self, new: Submission) -> bool:
        """Whether the job may be sent to the channel before its submit is committed.

        If the consumer is idle, the start of the job is committed together with its submit, and the attempt awaits that
        commit before it enters the SDK: one sync instead of two.
        """
        waits_for_its_start = not new.handler.rules.idempotent
        comes_first = self._channel.consumer_waits and not self.pending and not self._scheduler.waiting
        return new.due is None and waits_for_its_start and comes_first

    def on_committed(self, event: ev.Submitted) -> None:
        """A pending submit is committed. Called by the reactions to committed events, where the store is durable."""
        one = self.pending.pop(event.job)
        record = self._projection.jobs[event.job]
        one.receipt = self._send(record, one.submission, in_channel=one.in_channel is not None)
        one.wake()

    def on_rejected(self, event: ev.Submitted) -> None:
        """The store has rejected a pending submit."""
        one = self.pending.reject(event.job)
        if one.in_channel is not None:
            self._channel.remove(one.in_channel)
        elif one.submission.due is None:
            self._channel.release()

    def _send(self, record: JobRecord, new: Submission, *, in_channel: bool = False) -> Receipt:
        if new.deadline is not None:
            self._scheduler.watch_deadline(record)
        if new.due is None:
            # in the channel it may be processing already; when it was accepted, it was pending and the first
            position = 1 if in_channel else self._channel.send(record)
            return Receipt(record.id, True, position, _PENDING, self._expected.of(record, position))
        if record.state is State.SCHEDULED:
            self._scheduler.schedule(record)
        else:  # it became due before its submit was committed
            self._scheduler.requeue(record)
        return self._receipt(record, 0, record.state, created=True)

    def _receipt(self, record: JobRecord, position: int, state: State, *, created: bool) -> Receipt:
        return Receipt(record.id, created, position, state, self._expected.of(record, position))

    # keys

    def _receipt_of_known(self, new: Submission) -> Receipt | None:
        """Return the receipt of the job that has this key; None for a new key or without one.

        Raises:
            KeyConflict: That job has another payload.
        """
        if new.key is None:
            return None
        projection = self._projection
        kind = new.handler.kind
        known = projection.keys.find(kind, new.key) or projection.tombstones.find(kind, new.key)
        if known is None:
            return None
        if not new.has_digest(known.digest):
            found = known if isinstance(known, KeyTombstone) else projection.jobs[known.job]
            raise KeyConflict(kind, new.key, known.job, self._corrections.explain(new, found))
        if isinstance(known, KeyTombstone):
            return Receipt(known.job, False, 0, known.state)
        record = projection.jobs[known.job]
        copied = self._event_log.committed_view(record)
        if copied is not None:
            state = copied.state
        else:  # it is returned once the submit is committed; a start may be in the same commit
            state = State.SCHEDULED if record.state is State.SCHEDULED else State.PENDING
        return self._receipt(record, self._channel.position(record), state, created=False)

    def _known_or_corrected(self, new: Submission, by: str | None) -> Receipt | None:
        """As `_receipt_of_known`; but a job with another payload starts again with the new one, if it has done nothing.

        Raises:
            KeyConflict: It may have done something.
            QueueClosed: No jobs are accepted.
        """
        assert new.key is not None
        known = self._projection.keys.find(new.handler.kind, new.key)
        if known is None:
            tombstone = self._projection.tombstones.find(new.handler.kind, new.key)
            if tombstone is not None and not new.has_digest(tombstone.digest) and is_new_after(tombstone):
                return None
        elif not new.has_digest(known.digest):
            self.refuse_if_closing()
            if new.due is not None:
                self.refuse_if_too_many_wait(1)
            record = self._projection.jobs[known.job]
            self._corrections.of_submit(new, record, by)
            return self._receipt(record, self._channel.position(record), record.state, created=False)
        return self._receipt_of_known(new)

    async def _known_committed(self, job_id: str) -> None:
        """Return when the submit of a known job is committed, and the correction with which it was found."""
        record = self._projection.jobs.get(job_id)
        if record is not None and record.earlier:
            await self._commits.everything()
        else:
            await self._commits.first_event(job_id)

    # slots

    async def _reserve(self, wait: float | None) -> None:
        if wait is None:
            await self._wait_for_slot()
            return
        if wait > 0:
            with trio.move_on_after(wait):
                await self._wait_for_slot()
                return
        raise self.queue_full()

    async def _wait_for_slot(self) -> None:
        """Reserve a slot. Raises and Cancelled: as `Queue.submit`; no slot is reserved."""
        if not self._channel.try_reserve():
            self._refuse_own_wait()
            await self._channel.reserve()

    def _refuse_own_wait(self) -> None:
        self._caller.refuse_wait("a submit that waits for a slot", "use submit(..., wait=0), and handle QueueFull")

    def _release_slot(self, new: Submission) -> None:
        """Release the slot that was reserved for a submit whose event could not be appended."""
        if new.due is None:
            self._channel.release()

    def _refuse_if_too_many(self, needed: int) -> None:
        if needed > self._channel.capacity:
            raise UsageError(
                f"{needed} jobs cannot have a slot each in a channel of {self._channel.capacity}; "
                "give the service a larger buffer, or submit them in parts"
            )

    def refuse_if_too_many_wait(self, more: int) -> None:
        waiting = self._projection.count(State.SCHEDULED, State.RETRYING) + self._scheduler.waiting
        if waiting + more > self._max_waiting:
            raise QueueFull(self._max_waiting, waiting, FULL_FOR)

    def queue_full(self) -> QueueFull:
        channel = self._channel.statistics()
        return QueueFull(channel.capacity, channel.waiting, self._estimates.wait_for_slot(channel.waiting))
