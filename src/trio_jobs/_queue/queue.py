"""A running queue, as its owner uses it. How it starts and stops is in `lifecycle`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import trio

from trio_jobs import _events as ev
from trio_jobs._engine import decide
from trio_jobs._errors import (
    JobCancelled,
    JobFailed,
    JobInDoubt,
    KeyConflict,
    LineFull,
    NoSuchJob,
    QueueClosed,
    ResultUnavailable,
    UnknownKind,
    UsageError,
    WrongState,
    check_seconds,
)
from trio_jobs._handlers import Handler, check_number, digest, encode_result
from trio_jobs._history import History
from trio_jobs._jobs import FINAL, CancelAnswer, Job, JobRecord, Limit, Receipt, State, uuid7, view
from trio_jobs._line import Line
from trio_jobs._loops.consumer import Consumer
from trio_jobs._loops.feed import Feed, Filter, Subscription
from trio_jobs._loops.pruner import Pruner
from trio_jobs._loops.stager import Stager
from trio_jobs._loops.warden import Warden
from trio_jobs._ports import Clock, Host
from trio_jobs._queue.gate import Gate
from trio_jobs._queue.report import Health, Report, Statistics
from trio_jobs._queue.settings import Settings

__all__ = ["Queue"]

MAX_KEY: Final = 500
MAX_PAGE: Final = 1000
Events = tuple[ev.JobEvent, ...]


class Queue:
    """Made by `Service.open`. Every method that changes something either does all of it or raises and does nothing."""

    def __init__(
        self,
        *,
        handlers: dict[str, Handler],
        settings: Settings,
        history: History,
        host: Host,
        gate: Gate,
        clock: Clock,
        chance: random.Random,
        on_stuck: Callable[[str], None],
    ) -> None:
        self.report: Report | None = None
        """How it stopped; None while it runs."""
        self._handlers = handlers
        self._by_fn = {handler.fn: handler for handler in handlers.values()}
        self._settings = settings
        self._history = history
        self._head = history.head
        self._host = host
        self._gate = gate
        self._clock = clock
        self._random_bits = chance.getrandbits
        self._closing = False
        self._waiters: dict[str, trio.Event] = {}
        self._idle: trio.Event | None = None
        self._mean_run: float | None = None
        self._line = Line(settings.buffer)
        self._feed = Feed(history.store, self._kind_of)
        self._stager = Stager(history=history, line=self._line, clock=clock, leave_line=self._line.remove)
        self._warden = Warden(
            history=history,
            host=host,
            clock=clock,
            current=lambda: self._consumer.current,
            on_stuck=lambda running: on_stuck(running.record.id),
        )
        self._consumer = Consumer(
            history=history,
            line=self._line,
            host=host,
            clock=clock,
            handlers=handlers,
            ready=gate.wait,
            is_ready=gate.is_open,
            watch=self._warden.watch,
            verify_later=self._stager.wait_to_verify,
            chance=chance.random,
        )
        self._pruner = Pruner(
            history=history,
            clock=clock,
            max_age=settings.keep_for,
            max_jobs=settings.keep_jobs,
            max_keys=settings.keep_keys,
            forgotten=lambda ids: None,
        )
        history.publish = self._feed.publish
        for kind in (ev.Completed, ev.Failed, ev.Cancelled):
            history.reactions[kind] = self._on_final
        history.reactions[ev.Retrying] = self._on_put_off
        history.reactions[ev.Snoozed] = self._on_put_off
        history.reactions[ev.Interrupted] = self._on_pending
        history.reactions[ev.Released] = self._on_pending
        history.reactions[ev.InDoubt] = self._on_doubt

    def __repr__(self) -> str:
        count = self._head.count
        return (
            f"<Queue {count(State.PENDING)} pending, {count(State.PROCESSING)} processing, "
            f"{self._line.statistics().free} places free{', closed' if self._closing else ''}>"
        )

    # submit

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

        Raises `UnknownKind`, `InvalidPayload`, `KeyConflict`, `UsageError`, `LineFull` (after `wait`; at once for one
        to be done later, if too many wait), `QueueClosed`.

        Cancelled: not accepted. It can only come before the job is, which then happens at once.
        """
        found = self._handler(handler)
        body = found.encode(payload)
        await trio.lowlevel.checkpoint_if_cancelled()
        if due_at is not None or delay is not None or deadline_at is not None or deadline_after is not None:
            due, deadline = self._times(due_at, delay, deadline_at, deadline_after)
        else:
            due = deadline = None
        mark = None
        if key is not None:
            mark = digest(body)
            known = self._known(found.kind, key, mark)
            if known is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return known
        self._refuse_if_closing()
        if due is not None:
            self._refuse_if_too_many_wait()
        elif not self._line.take_place_nowait():
            await self._wait_for_place(wait)
            known = self._known(found.kind, key, mark) if key is not None and mark is not None else None
            if known is not None or self._closing:
                self._line.give_place_back()
                self._refuse_if_closing()
                assert known is not None
                return known
        receipt = self._accept(found, body, key, mark, due, deadline, by)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return receipt

    def submit_nowait(
        self, handler: str | Callable[..., Any], payload: Any, *, key: str | None = None, by: str | None = None
    ) -> Receipt:
        """`submit` without a wait: `LineFull` if no place is free.

        Only without a journal, since there is a wait in being kept: use `await submit(..., wait=0)` with one.
        """
        if self._history.store.durable:
            raise UsageError("with a journal, accepting takes a wait: use await submit(..., wait=0)")
        found = self._handler(handler)
        body = found.encode(payload)
        mark = None
        if key is not None:
            mark = digest(body)
            known = self._known(found.kind, key, mark)
            if known is not None:
                return known
        self._refuse_if_closing()
        if not self._line.take_place_nowait():
            raise self._line_full()
        return self._accept(found, body, key, mark, None, None, by)

    @trio.lowlevel.enable_ki_protection
    def _accept(
        self,
        handler: Handler,
        body: msgspec.Raw,
        key: str | None,
        mark: str | None,
        due: float | None,
        deadline: float | None,
        by: str | None,
    ) -> Receipt:
        """Decide, apply, append, and put into the line; a place is held if it is not for later."""
        now = self._clock.now()
        event = decide.submit(
            uuid7(now, self._random_bits(74)), handler.kind, body, now, self._head.seq + 1,
            key=key, digest=mark, due_at=due, deadline_at=deadline, by=by,
        )  # fmt: skip
        self._history.record((event,))
        record = self._head.jobs[event.job]
        if deadline is not None:
            self._stager.watch_deadline(record)
        if record.state is State.SCHEDULED:
            self._stager.wait_until_due(record)
            return Receipt(record.id, True, 0, record.state)
        if due is not None:  # it was due by now after all: it comes in with those that are
            self._stager.wait_for_place(record)
            return Receipt(record.id, True, 0, record.state)
        self._line.put(record)
        return Receipt(record.id, True, self._line.used, record.state)

    async def _wait_for_place(self, wait: float | None) -> None:
        if wait is None:
            await self._line.wait_for_place()
            return
        if check_seconds("wait", wait) > 0:
            with trio.move_on_after(wait):
                await self._line.wait_for_place()
                return
        raise self._line_full()

    def _handler(self, handler: str | Callable[..., Any]) -> Handler:
        found = self._handlers.get(handler) if isinstance(handler, str) else self._by_fn.get(handler)
        if found is None:
            name = handler if isinstance(handler, str) else getattr(handler, "__name__", repr(handler))
            raise UnknownKind(name, tuple(sorted(self._handlers)))
        return found

    def _known(self, kind: str, key: str, mark: str) -> Receipt | None:
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY:
            raise UsageError(f"a key is a text of 1 to {MAX_KEY} characters, not {key!r:.100}")
        entry = self._head.keys.get((kind, key))
        if entry is None:
            return None
        if entry.digest != mark:
            raise KeyConflict(kind, key, entry.job)
        record = self._head.jobs.get(entry.job)
        if record is None:
            assert entry.state is not None
            return Receipt(entry.job, False, 0, entry.state)
        return Receipt(record.id, False, self._line.position(record), record.state)

    def _times(
        self,
        due_at: datetime | None,
        delay: float | None,
        deadline_at: datetime | None,
        deadline_after: float | None,
    ) -> tuple[float | None, float | None]:
        now = self._clock.now()
        due = _moment("due_at", due_at, "delay", delay, now)
        deadline = _moment("deadline_at", deadline_at, "deadline_after", deadline_after, now)
        if deadline is not None and deadline <= max(now, due or now):
            raise UsageError("the deadline must lie ahead, and after the time at which the job is due")
        return (due if due is not None and due > now else None), deadline

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise QueueClosed("the queue takes no new jobs: it is draining or has stopped")

    def _refuse_if_too_many_wait(self) -> None:
        waiting = self._head.count(State.SCHEDULED, State.RETRYING) + self._stager.waiting
        if waiting >= self._settings.max_waiting:
            raise LineFull(self._settings.max_waiting, waiting, 60.0)

    def _line_full(self) -> LineFull:
        # one place comes free when one attempt has ended, and those who wait already come first
        line = self._line.statistics()
        estimate = (self._mean_run or 0.0) * (line.waiting + 1)
        return LineFull(line.capacity, line.waiting, min(max(estimate, 0.1), 600.0))

    # look

    def get(self, job_id: str) -> Job:
        """The job as it stands. Raises `NoSuchJob`."""
        return view(self._head.get(job_id))

    def list(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs in the order in which they were submitted (with `state`: in which they came into it).

        after: a job's id; those behind it. limit: 1 to 1,000. Raises `NoSuchJob` for an `after` that is not in the
        list.
        """
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        source = self._head.jobs if state is None else self._head.by_state[_state(state)]
        if after is not None and after not in source:
            raise NoSuchJob(after)
        page: list[Job] = []
        skipping = after is not None
        for record in source.values():
            if skipping:
                skipping = record.id != after
            elif kind is None or record.kind == kind:
                page.append(view(record))
                if len(page) == limit:
                    break
        return page

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """What the job's handler returned, once it has.

        Waits through retries, and through doubt unless told to raise `JobInDoubt`. Raises `JobFailed`, `JobCancelled`,
        `ResultUnavailable`, `NoSuchJob` (also if it is pruned meanwhile), `QueueClosed` if the queue stops before.

        Cancelled: the job goes on.
        """
        await trio.lowlevel.checkpoint()
        while True:
            record = self._head.get(job_id)
            if record.state in FINAL:
                return self._result(record)
            if record.state is State.IN_DOUBT and in_doubt == "raise":
                raise JobInDoubt(job_id, record.reason)
            if self.report is not None:
                raise QueueClosed(f"the queue has stopped; job {job_id} is {record.state}")
            await self._waiters.setdefault(job_id, trio.Event()).wait()

    def _result(self, record: JobRecord) -> Any:
        if record.state is State.FAILED:
            error = str(record.error) if record.error is not None else ""
            raise JobFailed(record.id, record.reason, error, record.acted)
        if record.state is State.CANCELLED:
            raise JobCancelled(record.id, record.reason)
        if record.result is None:
            raise ResultUnavailable(record.id, record.result_problem or "it was settled without one")
        handler = self._handlers.get(record.kind)
        decode = msgspec.json.decode if handler is None else handler.decode_result
        try:
            return decode(record.result)
        except msgspec.ValidationError:  # it returned something else than it is annotated with
            return msgspec.json.decode(record.result)

    def events(
        self,
        *,
        after: int | None = None,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State | str] | None = None,
    ) -> Subscription:
        """The stream of committed events, in order, without a gap: `async for event in queue.events()`.

        after: begin behind this `seq`; None for from now on. jobs, kinds, states: only events of these jobs, of jobs of
        these kinds, that lead to these states; all that is given must fit. The stream ends when the queue has stopped.
        See `Subscription`.
        """
        wanted = Filter(jobs, kinds, None if states is None else frozenset(_state(state) for state in states))
        return Subscription(self._feed, self._history.committed_seq if after is None else after, wanted)

    @property
    def epoch(self) -> str:
        """Names this history: numbers of events mean something only together with it."""
        return self._history.store.epoch

    def _kind_of(self, job_id: str) -> str | None:
        record = self._head.jobs.get(job_id)
        return None if record is None else record.kind

    def statistics(self) -> Statistics:
        line = self._line.statistics()
        return Statistics(
            jobs={state: self._head.count(state) for state in State},
            capacity=line.capacity,
            free=line.free,
            waiting_callers=line.waiting,
            waiting_jobs=self._stager.waiting,
            session=self._host.session,
            inside=self._host.inside,
            seq=self._history.committed_seq,
            mean_run=self._mean_run,
        )

    def health(self) -> Health:
        problems = []
        current = self._consumer.current
        if current is not None and self._warden.stuck is current:
            problems.append("stuck")
        elif current is not None and self._warden.overdue is current:
            problems.append("overdue")
        if not self._host.is_open:
            problems.append("opening_sdk")
        if self._closing:
            problems.append("stopping")
        return Health(ok=not problems, problems=tuple(problems), in_doubt=self._head.count(State.IN_DOUBT))

    # steer

    @trio.lowlevel.enable_ki_protection
    def cancel(self, job_id: str, *, by: str | None = None) -> CancelAnswer:
        """Cancel a job: "cancelled" if it is now (or was), "requested" if an attempt is under way and is told to end,
        "too_late" if it has ended otherwise.

        Raises `NoSuchJob`, and `WrongState` for a job in doubt: only `resolve` can settle that.
        """
        record = self._head.get(job_id)
        answer, events = decide.cancel(record, by, self._clock.now(), self._history.next_seq)
        if events:
            self._history.record(events)
        if answer == "requested":
            current = self._consumer.current
            if current is not None and current.record is record:
                current.cancel(Limit.CANCEL)
        elif events:
            self._line.remove(record)
        return answer

    @trio.lowlevel.enable_ki_protection
    def retry(self, job_id: str, *, by: str | None = None) -> None:
        """Begin a new run of a failed or cancelled job, with a new retry budget; it joins those that are due.

        Raises `NoSuchJob`, `WrongState`, `QueueClosed`.
        """
        record = self._head.get(job_id)
        self._refuse_if_closing()
        current = self._consumer.current
        if current is not None and current.record is record:
            raise WrongState(job_id, record.state, "its call is still inside the SDK; wait for it to return")
        self._history.record(decide.retry(record, by, self._clock.now(), self._history.next_seq))
        self._stager.wait_for_place(record)
        if record.deadline_at is not None:
            self._stager.watch_deadline(record)

    @trio.lowlevel.enable_ki_protection
    def resolve(self, job_id: str, resolution: decide.Resolution, *, result: Any = None, by: str | None = None) -> None:
        """Say what a job in doubt came to: "done" (with its result), "not_done" (do it anew), or "failed".

        Raises `NoSuchJob`, `WrongState`, `UsageError`.
        """
        if resolution not in ("done", "not_done", "failed"):
            raise UsageError(f"a doubt is resolved as 'done', 'not_done' or 'failed', not {resolution!r}")
        body, problem = encode_result(result)
        if problem is not None:
            raise UsageError(f"the result cannot be kept: {problem}")
        record = self._head.get(job_id)
        self._history.record(decide.resolve(record, resolution, by, self._clock.now(), self._history.next_seq, body))

    async def drain(self) -> None:
        """Take no new jobs, and wait until nothing is pending, processing or retrying.

        Cancelled: no new jobs are taken all the same.
        """
        self.close_to_submits()
        await trio.lowlevel.checkpoint()
        while self._head.count(State.PENDING, State.PROCESSING, State.RETRYING):
            if self.report is not None:
                raise QueueClosed("the queue has stopped before it was drained")
            if self._idle is None or self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()

    def close_to_submits(self) -> None:
        """From now on `submit` raises `QueueClosed`, for those who wait for a place too."""
        if not self._closing:
            self._closing = True
            self._line.wake_submitters()

    def wake_all_waiters(self) -> None:
        """The queue has stopped: whoever waits for something of it is to look again."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.set()
        if self._idle is not None:
            self._idle.set()

    # what follows from events

    def _on_final(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        waiter = self._waiters.pop(event.job, None) if self._waiters else None
        if waiter is not None:
            waiter.set()
        record = self._head.jobs[event.job]
        if event.outcome is not None:
            ran = event.at - record.attempts[-1].started_at
            self._mean_run = ran if self._mean_run is None else self._mean_run + (ran - self._mean_run) / 16
        if len(self._head.jobs) > self._settings.keep_jobs:
            self._pruner.one_more()
        self._tell_if_idle()

    def _on_put_off(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        self._stager.wait_until_due(self._head.jobs[event.job])
        self._tell_if_idle()

    def _on_pending(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        record = self._head.jobs[event.job]
        if record.state is State.PENDING:
            self._stager.wait_for_place(record)

    def _on_doubt(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        waiter = self._waiters.pop(event.job, None)
        if waiter is not None:  # for those who asked to be told of a doubt; the others wait again
            waiter.set()
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._idle is not None and not self._head.count(State.PENDING, State.PROCESSING, State.RETRYING):
            self._idle.set()


def _moment(at_name: str, at: datetime | None, after_name: str, after: float | None, now: float) -> float | None:
    if at is not None and after is not None:
        raise UsageError(f"say {at_name} or {after_name}, not both")
    if after is not None:
        return now + check_seconds(after_name, after)
    if at is None:
        return None
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise UsageError(f"{at_name} must be an aware datetime, such as datetime.now(UTC), not {at!r}")
    return at.timestamp()


def _state(name: State | str) -> State:
    try:
        return State(name)
    except ValueError:
        raise UsageError(f"there is no state {name!r}; there are {', '.join(State)}") from None
