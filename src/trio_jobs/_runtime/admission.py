"""How jobs are accepted: check the payload, look up the key, hold a place, decide; the order matters (P4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler, digest
from trio_jobs._engine.jobs import JobRecord, Receipt, State, uuid7
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import KeyConflict, OutcomeUnknown, QueueFull, StoreError, UnknownKind, UsageError
from trio_jobs._runtime.core import Core
from trio_jobs._validation import check_by, check_seconds, check_wait, is_text

__all__ = ["NewJob", "Submitting"]

MAX_KEY: Final = 500


@attrs.define
class NewJob:
    """A job as it is asked for; see `Queue.submit` for what the fields mean."""

    handler: str | Callable[..., Any]
    payload: Any
    key: str | None = None
    due_at: datetime | None = None
    delay: float | None = None
    deadline_at: datetime | None = None
    deadline_after: float | None = None


class _Prepared(msgspec.Struct, frozen=True, gc=False):
    """A job as it was asked for, checked. due, deadline: UTC, seconds since the epoch; due: None for at once."""

    handler: Handler
    body: msgspec.Raw
    key: str | None
    mark: str | None
    due: float | None
    deadline: float | None


@attrs.define(eq=False)
class _Accepted:
    """A submit whose event is handed over. in_line: its record, where it has joined the line already. receipt: None
    until it is committed. refused: why it was taken back. waiter: who is to be woken when one of the two is there."""

    new: _Prepared
    seq: int
    in_line: JobRecord | None = None
    receipt: Receipt | None = None
    refused: StoreError | None = None
    waiter: trio.lowlevel.Task | None = None

    @property
    def is_settled(self) -> bool:
        return self.receipt is not None or self.refused is not None

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)


class Submitting(Core):
    """Submit."""

    def __init__(self, **rooms: Any) -> None:
        super().__init__(**rooms)
        self._accepted: dict[str, _Accepted] = {}
        self._asker: _Accepted | None = None
        """Whose caller asks the store, and looks at the clock, for all who wait."""
        self._sleepers: deque[_Accepted] = deque()
        """Those whose callers wait to be told, or to ask next, as they came; some of the first are told already."""
        if self._event_log.durable:
            self._event_log.reactions[ev.Submitted] = self._on_accepted
            self._event_log.reactions[ev.Scheduled] = self._on_accepted
            self._event_log.on_rejected = self._on_rejected

    async def submit(
        self,
        handler: str | Callable[..., Any],
        payload: Any,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        delay: float | None = None,
        deadline_at: datetime | None = None,
        deadline_after: float | None = None,
        wait: float | None = None,
        by: str | None = None,
    ) -> Receipt:
        """Accept a job; wait for a place in the line if there is none.

        handler: the function or its kind. key: at most 500 characters; the same key and payload again give the same
        job. due_at (aware), delay (seconds): not before. deadline_at (aware), deadline_after (seconds): it expires
        then. wait: seconds to wait for a place, None for as long as it takes. by: who asks.

        Raises `UnknownKind`, `InvalidPayload`, `KeyConflict`, `UsageError`, `QueueFull` (after `wait`; at once for one
        to be done later, if too many wait), `QueueClosed`, `StoreError` (not accepted), `OutcomeUnknown` (after
        `commit_timeout`: ask again with the same key).

        Cancelled: not accepted. It can only come before the job is handed to the store; from there on it is shielded.
        """
        if by is not None:
            check_by(by)
        new = self._prepare(handler, payload, key, due_at, delay, deadline_at, deadline_after)
        await trio.lowlevel.checkpoint_if_cancelled()
        if key is not None:
            known = self._receipt_of_known(new)
            if known is not None:
                await self._begun(known)
                return known
        self._refuse_if_closing()
        if new.due is not None:
            self._refuse_if_too_many_wait(1)
        elif not self._channel.try_reserve():
            await self._wait_for_place(wait)
            try:
                known = self._receipt_of_known(new)  # somebody may have brought it in meanwhile
            except KeyConflict:
                self._channel.release()
                raise
            if known is not None or self._closing:
                self._channel.release()
                self._refuse_if_closing()
                assert known is not None
                await self._begun(known)
                return known
        if self._event_log.durable:
            return (await self._keep(self._hand_over([new], by)))[0]
        receipt = self._accept(new, by)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return receipt

    def submit_nowait(
        self, handler: str | Callable[..., Any], payload: Any, *, key: str | None = None, by: str | None = None
    ) -> Receipt:
        """`submit` without a wait: `QueueFull` if no place is free.

        Only without a journal, since there is a wait in being kept: use `await submit(..., wait=0)` with one.
        """
        if self._event_log.store.durable:
            raise UsageError("with a journal, accepting takes a wait: use await submit(..., wait=0)")
        check_by(by)
        new = self._prepare(handler, payload, key)
        known = self._receipt_of_known(new)
        if known is not None:
            return known
        self._refuse_if_closing()
        if not self._channel.try_reserve():
            raise self._line_full()
        return self._accept(new, by)

    async def submit_many(self, jobs: Sequence[NewJob], *, by: str | None = None) -> list[Receipt]:
        """Accept all of them or none, in this order, as one change; wait until there is a place for each.

        At most as many as the line has places are to be done at once; those for later (due_at, delay) need none. Of
        jobs with the same key the first is accepted, and the others get its receipt.

        Raises what `submit` raises, having accepted none. Cancelled: none is accepted.
        """
        check_by(by)
        made = [
            self._prepare(job.handler, job.payload, job.key, job.due_at, job.delay, job.deadline_at, job.deadline_after)
            for job in jobs
        ]
        firsts = _firsts(made)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._refuse_if_closing()
        later = sum(new.due is not None for new in firsts)
        if later:
            self._refuse_if_too_many_wait(later)
        self._refuse_if_too_many(self._places_for(firsts))
        held = 0
        try:
            async with self._many:  # two that each hold half the places would wait for each other
                # counted again after the wait: a key that was known may have been that of a job the store refused
                while held < (needed := self._places_for(firsts)):
                    self._refuse_if_too_many(needed)
                    while held < needed:
                        self._refuse_if_closing()  # those who come to wait after that are woken by nobody
                        await self._channel.reserve()
                        held += 1
            self._refuse_if_closing()
            fresh = [new for new in firsts if self._receipt_of_known(new) is None]
            held -= sum(new.due is None for new in fresh)
            durable = self._event_log.durable
            handed_over = self._hand_over(fresh, by) if durable else []
            accepted = [] if durable else self._accept_all(fresh, by)
        finally:
            for _ in range(held):
                self._channel.release()
        accepted = accepted or await self._keep(handed_over)
        receipts = dict(zip(map(id, fresh), accepted, strict=True))
        told = [receipts.get(id(new)) or self._known_receipt(new) for new in made]
        for receipt in told:
            await self._begun(receipt)
        return told

    def _places_for(self, made: Sequence[_Prepared]) -> int:
        """How many of these jobs need a place now. Raises `KeyConflict`."""
        return sum(new.due is None and self._receipt_of_known(new) is None for new in made)

    def _refuse_if_too_many(self, needed: int) -> None:
        if needed > self._channel.capacity:
            raise UsageError(
                f"{needed} jobs cannot have a place each in a line of {self._channel.capacity}; "
                "give the service a larger buffer, or submit them in parts"
            )

    def _prepare(
        self,
        wanted: str | Callable[..., Any],
        payload: Any,
        key: str | None = None,
        due_at: datetime | None = None,
        delay: float | None = None,
        deadline_at: datetime | None = None,
        deadline_after: float | None = None,
    ) -> _Prepared:
        """Check all that can be checked without the queue's state. Raises `UsageError` and its children."""
        handler = self._handler(wanted)
        body = handler.encode(payload)
        mark = None
        if key is not None:
            if not is_text(key, MAX_KEY):
                raise UsageError(f"a key is a text of 1 to {MAX_KEY} characters, not {key!r:.100}")
            mark = digest(body)
        if due_at is None and delay is None and deadline_at is None and deadline_after is None:
            return _Prepared(handler, body, key, mark, None, None)
        now = self._clock.now()
        due = _moment("due_at", due_at, "delay", delay, now)
        deadline = _moment("deadline_at", deadline_at, "deadline_after", deadline_after, now)
        if deadline is not None and deadline <= max(now, due or now):
            raise UsageError("the deadline must lie ahead, and after the time at which the job is due")
        return _Prepared(handler, body, key, mark, due if due is not None and due > now else None, deadline)

    def _decide(self, new: _Prepared, by: str | None, now: float, seq: int) -> ev.Submitted:
        return decide.submit(
            uuid7(now, self._random_bits(74)), new.handler.kind, new.body, now, seq,
            new.key, new.mark, new.due, new.deadline, by,
        )  # fmt: skip

    @trio.lowlevel.enable_ki_protection
    def _accept(self, new: _Prepared, by: str | None) -> Receipt:
        """Decide, apply, append, all in one step; then into the line. A place is held, unless it is for later.

        Only where what is appended is committed by that.
        """
        event = self._decide(new, by, self._clock.now(), self._projection.seq + 1)
        self._event_log.append((event,))
        return self._join(self._projection.jobs[event.job], new)

    @trio.lowlevel.enable_ki_protection
    def _accept_all(self, made: Sequence[_Prepared], by: str | None) -> list[Receipt]:
        """The same for many."""
        events = self._decide_all(made, by)
        self._event_log.append(events)
        return [self._join(self._projection.jobs[event.job], new) for event, new in zip(events, made, strict=True)]

    def _decide_all(self, made: Sequence[_Prepared], by: str | None) -> list[ev.Submitted]:
        now, seq = self._clock.now(), self._projection.seq + 1
        return [self._decide(new, by, now, seq + i) for i, new in enumerate(made)]

    @trio.lowlevel.enable_ki_protection
    def _hand_over(self, made: Sequence[_Prepared], by: str | None) -> list[_Accepted]:
        """The same where it is committed later: they join the line then, on the places that are held."""
        begins_at_once = bool(made) and self._begins_at_once(made[0])  # before these are on their way themselves
        events = self._decide_all(made, by)
        accepted = [_Accepted(new, event.seq) for event, new in zip(events, made, strict=True)]
        self._accepted.update((event.job, one) for event, one in zip(events, accepted, strict=True))
        self._event_log.append(events)
        if begins_at_once and not accepted[0].is_settled:  # a store may also commit, or refuse, at once
            record = self._projection.jobs[events[0].job]
            accepted[0].in_line = record
            self._channel.send(record)
        return accepted

    def _begins_at_once(self, new: _Prepared) -> bool:
        """May the job join the line before it is committed? Where the consumer has nothing else to do, its start is
        committed together with it, and awaited before the SDK is touched: one sync where there were two."""
        waits_for_its_start = not new.handler.rules.idempotent
        comes_first = self._channel.consumer_waits and not self._accepted and not self._scheduler.waiting
        return new.due is None and waits_for_its_start and comes_first

    async def _keep(self, accepted: Sequence[_Accepted]) -> list[Receipt]:
        """The receipts, when these jobs are committed. Raises `StoreError`: none is accepted, `OutcomeUnknown`."""
        if accepted:
            await self._settled(accepted[-1])
        return [one.receipt for one in accepted if one.receipt is not None]

    @trio.lowlevel.enable_ki_protection
    async def _settled(self, one: _Accepted) -> None:
        """Return when it is committed. Raises `StoreError`: it was refused, `OutcomeUnknown`. Shielded.

        One of those who wait asks the store within a cancel scope; the others sleep until they are told by what the
        history reacts to, or are the next to ask. A scope for each costs a tenth of a job with many producers.
        """
        began = trio.current_time()
        if one.is_settled:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif self._asker is None:
            self._asker = one
        else:
            one.waiter = trio.lowlevel.current_task()
            self._sleepers.append(one)
            await trio.lowlevel.wait_task_rescheduled(_stay)
        if self._asker is one:
            try:
                if not one.is_settled:  # it may be by now, if it was made the next to ask
                    await self._within_commit_timeout(self._event_log.store.committed, one.seq, began)
            finally:
                self._pass_asking_on()
        if one.refused is not None:
            raise one.refused
        if one.receipt is None:  # the store has it, and what was to be done about that has raised: it is broken
            trouble = self._event_log.store.trouble or "something went wrong"
            raise OutcomeUnknown(f"{trouble}: it may be done, or not; ask again")

    def _pass_asking_on(self) -> None:
        """To the one who has waited longest: its time is up next."""
        sleepers = self._sleepers
        while sleepers and sleepers[0].waiter is None:
            sleepers.popleft()
        self._asker = sleepers.popleft() if sleepers else None
        if self._asker is not None:
            self._asker.wake()

    async def _begun(self, receipt: Receipt) -> None:
        """Return when that job's beginning is committed: somebody else is about to have it accepted."""
        record = self._projection.jobs.get(receipt.job_id)
        if record is not None and record.submitted_seq > self._event_log.committed_seq:
            await self._within_commit_timeout(self._event_log.store.committed, record.submitted_seq)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _on_accepted(self, event: ev.Event) -> None:
        """A submit is committed."""
        assert isinstance(event, ev.Submitted)
        one = self._accepted.pop(event.job)
        record = self._projection.jobs[event.job]
        one.receipt = self._join(record, one.new, is_in_line=one.in_line is not None)
        one.wake()

    def _on_rejected(self, event: ev.Submitted) -> None:
        """A submit was taken back."""
        one = self._accepted.pop(event.job)
        one.refused = StoreError(self._event_log.store.trouble or "the store has not taken it")
        one.wake()
        if one.in_line is not None:
            self._channel.remove(one.in_line)
        elif one.new.due is None:
            self._channel.release()
        self._tell_if_idle()  # it may be the last that somebody's `drain` waits for

    def _join(self, record: JobRecord, new: _Prepared, *, is_in_line: bool = False) -> Receipt:
        if new.deadline is not None:
            self._scheduler.watch_deadline(record)
        if new.due is None:
            if not is_in_line:
                self._channel.send(record)
            # it may be under way by now; as it was accepted it was pending, and the first
            position = 1 if is_in_line else self._channel.used
            return self._receipt(record.id, position, State.PENDING, created=True)
        if record.state is State.SCHEDULED:
            self._scheduler.schedule(record)
        else:  # its time has come before it was accepted: it comes in with those that are due
            self._scheduler.requeue(record)
        return self._receipt(record.id, 0, record.state, created=True)

    def _receipt(self, job_id: str, position: int, state: State, *, created: bool) -> Receipt:
        turn = self._mean_turn
        return Receipt(job_id, created, position, state, None if turn is None else turn * position)

    async def _wait_for_place(self, wait: float | None) -> None:
        if wait is None:
            await self._channel.reserve()
            return
        if check_seconds("wait", wait) > 0:
            with trio.move_on_after(wait):
                await self._channel.reserve()
                return
        raise self._line_full()

    def _handler(self, handler: str | Callable[..., Any]) -> Handler:
        found = self._by_name.get(handler)
        if found is None:
            name = handler if isinstance(handler, str) else getattr(handler, "__name__", repr(handler))
            raise UnknownKind(name, tuple(sorted(self._handlers)))
        return found

    def _receipt_of_known(self, new: _Prepared) -> Receipt | None:
        """The receipt of the job that the key belongs to; None for a new key, or none. Raises `KeyConflict`."""
        if new.key is None:
            return None
        projection = self._projection
        known = projection.keys.get((new.handler.kind, new.key)) or projection.forgotten.find(new.handler.kind, new.key)
        if known is None:
            return None
        if known.digest != new.mark:
            raise KeyConflict(new.handler.kind, new.key, known.job)
        if isinstance(known, KeyTombstone):
            return Receipt(known.job, False, 0, known.state)
        record = projection.jobs[known.job]
        seen = self._event_log.committed_view(record)
        if seen is not None:
            state = seen.state
        else:  # told once it is accepted, when it may have been begun too; that may be committed later
            state = State.SCHEDULED if record.state is State.SCHEDULED else State.PENDING
        return self._receipt(record.id, self._channel.position(record), state, created=False)

    def _known_receipt(self, new: _Prepared) -> Receipt:
        known = self._receipt_of_known(new)
        assert known is not None
        return known

    def _refuse_if_too_many_wait(self, more: int) -> None:
        waiting = self._projection.count(State.SCHEDULED, State.RETRYING) + self._scheduler.waiting
        if waiting + more > self._settings.max_waiting:
            raise QueueFull(self._settings.max_waiting, waiting, 60.0)

    def _line_full(self) -> QueueFull:
        # one place comes free when one attempt has ended, and those who wait already come first
        channel = self._channel.statistics()
        estimate = (self._mean_turn or 0.0) * (channel.waiting + 1)
        return QueueFull(channel.capacity, channel.waiting, min(max(estimate, 0.1), 600.0))


def _stay(_: object) -> trio.lowlevel.Abort:
    """A cancel does not end this wait: the next checkpoint has it."""
    return trio.lowlevel.Abort.FAILED


def _moment(at_name: str, at: datetime | None, after_name: str, after: float | None, now: float) -> float | None:
    if at is not None and after is not None:
        raise UsageError(f"say {at_name} or {after_name}, not both")
    if after is not None:
        return now + check_wait(after_name, after)
    if at is None:
        return None
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise UsageError(f"{at_name} must be an aware datetime, such as datetime.now(UTC), not {at!r}")
    return at.timestamp()


def _firsts(made: Sequence[_Prepared]) -> list[_Prepared]:
    """Without those whose key came before. Raises `KeyConflict` where the payload is another."""
    firsts: dict[object, _Prepared] = {}
    for new in made:
        first = firsts.setdefault(id(new) if new.key is None else (new.handler.kind, new.key), new)
        if first.mark != new.mark:
            raise KeyConflict(new.handler.kind, first.key or "", "(the first with this key)")
    return list(firsts.values())
