"""A state machine over a real queue: all that its callers can do, and all that can go wrong around it.

    class Invoices(QueueMachine):
        def make_service(self) -> Service:
            self.ledger = Ledger()
            return make_service(self.ledger)

        @invariant()
        def nothing_is_booked_twice(self) -> None:
            assert len(self.ledger.entries) == len(set(self.ledger.entries))

    TestInvoices = Invoices.TestCase

Rules submit (with and without a key, for later, with a deadline), cancel, retry, resolve, pause, let time pass, drain,
close and open again, crash, and let SDK calls go wrong. After each of them the promises are looked at, as far as they
can be seen from outside: each event follows from the one before (P5, P8), one attempt at a time and one thread (P1,
P2), what was acknowledged is there (P4), completed only what returned (P6), places are counted (P9). Time is virtual
and stands still between the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal

import msgspec

from trio_jobs._errors import (
    KeyConflict,
    LineFull,
    OutcomeUnknown,
    QueueClosed,
    SessionLost,
    StoreError,
    WrongState,
)
from trio_jobs._jobs import FINAL, State
from trio_jobs._queue.report import Report
from trio_jobs._queue.service import Service
from trio_jobs.testing._model import Model
from trio_jobs.testing._own_service import OwnWork, own_service
from trio_jobs.testing._process import Keeps, Process, Shelf
from trio_jobs.testing._watched import Plan, Point
from trio_jobs.testing.fakes import FakeSdk, Hold
from trio_jobs.testing.stateful import Bundle, TrioStateMachine, initialize, invariant, note, precondition, rule, st

__all__ = ["QueueMachine"]

_SECONDS: Final = (0.01, 1.0, 5.0, 60.0, 3600.0)
_KEYS: Final = st.none() | st.sampled_from(["a", "b", "c"])
_WHEN: Final = st.sampled_from(["", "", "delay", "deadline_after"])
_THEN: Final = st.sampled_from([0.0, 1.0, 100.0])
_FAULTS: Final = st.sampled_from(["raise", "slow", "hang", "lose the session", "cancel", "die"])
_GOES_WRONG: Final = st.none() | st.tuples(_FAULTS, st.integers(1, 3), st.sampled_from(["before", "after"]))


class PlannedError(Exception):
    """What an SDK call raises by plan."""


@st.composite
def _submits(draw: st.DrawFn) -> tuple[str, Any]:
    """A kind of the machine's service, and a payload for it."""
    machine: QueueMachine = draw(st.runner())
    kind = draw(st.sampled_from(sorted(machine.service._handlers)))
    return kind, draw(machine.payload_strategy(kind))


class QueueMachine(TrioStateMachine):
    """See the head of this module. For users to override: `make_service`, `payloads`, `keeps`, rules and invariants.

    payloads: a strategy for each kind; where there is none, one is made from the handler's payload type. keeps: where
    jobs are kept, "memory", "disk" (simulated, the fastest that can crash) or "sqlite" (a file). queue_settings: of the
    service, instead of its own. quiet: nothing is logged while it runs, since all that goes wrong was planned.

    model: what is expected. queue: the running one. Of the SDK's faults at most one is planned at a time, for the next
    call of that number, whichever job makes it.
    """

    payloads: ClassVar[Mapping[str, st.SearchStrategy[Any]]] = {}
    keeps: ClassVar[Keeps] = "disk"
    queue_settings: ClassVar[Mapping[str, Any]] = {"watchdog": None}
    quiet: ClassVar[bool] = True

    jobs = Bundle("jobs")

    def make_service(self) -> Service:
        """The service under test, with its SDK in its first state. By default one with three handlers of ours: one that
        verify can be asked about, one that nobody can be asked about, and one that may be done twice."""
        self.sdk = FakeSdk()
        return own_service(self.sdk)

    def payload_strategy(self, kind: str) -> st.SearchStrategy[Any]:
        """Payloads for that kind of job."""
        if kind in self.payloads:
            return self.payloads[kind]
        if self.service._handlers[kind].payload_type is OwnWork:
            return st.builds(OwnWork, st.integers(0, 9))
        return st.from_type(self.service._handlers[kind].payload_type)

    def __init__(self) -> None:
        super().__init__()
        self.service = self.make_service()
        self.model = Model()
        self.reports: list[Report] = []
        self._shelf = Shelf(self.keeps)
        log = logging.getLogger("trio_jobs")
        self._log_level = log.level
        if self.quiet:
            log.setLevel(logging.CRITICAL + 1)
        self._process: Process | None = None
        self._processes = 0
        self._unanswered: set[tuple[str, str | None]] = set()
        self._returned: list[tuple[str, int]] = []
        self._plan: Plan | None = None
        self._hang: Hold | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "the queue is not open"
        return self._process

    @property
    def queue(self) -> Any:
        return self.process.queue

    async def settle(self) -> None:
        if self._process is None:
            await super().settle()
            return
        await self._process.settle()
        if self._process.watch.dead:  # it has died in the midst of a call
            await self._process.crash(self._forget_what_hangs)
            await self.open()
            await self._process.settle()

    async def pass_time(self, seconds: float) -> None:
        await self.process.pass_time(seconds)

    # what happens around the callers

    @initialize()
    async def open(self) -> None:
        """Begin a process. Called again after each end of one."""
        if self._process is not None:
            self._returned += self._process.watch.returned
        self.model.new_process()
        self._processes += 1
        self._process = Process(self.service, self._shelf, self.clock, dict(self.queue_settings), self._processes)
        await self._process.open(self.nursery)
        self._process.watch.on_death = self._died
        self._process.watch.on_cancel = self._cancel_under_way
        self._process.watch.plan = self._plan

    @precondition(lambda self: self.model.jobs)
    @rule(seconds=st.sampled_from(_SECONDS))
    async def time_passes(self, seconds: float) -> None:
        await self.pass_time(seconds)

    @precondition(lambda self: self._plan is None or self.process.watch.happened)
    @rule(fault=_FAULTS, number=st.integers(1, 3), side=st.sampled_from(["before", "after"]))
    async def a_call_will(self, fault: str, number: int, side: Literal["before", "after"]) -> None:
        """The next time that call `number` of an attempt is made, this goes wrong before it or after it was made.

        Where the process cannot die in the midst of a call ("memory", "sqlite"), the call raises instead.
        """
        self._will(fault, Point(number, side, ""))

    def _will(self, fault: str, at: Point) -> None:
        if fault == "raise":
            self._plan = Plan("raise", at, error=PlannedError("planned"))
        elif fault == "lose the session":
            self._plan = Plan("raise", at, error=SessionLost("planned"))
        elif fault == "slow":
            self._plan = Plan("slow", at, seconds=90.0)
        elif fault == "cancel":
            self._plan = Plan("cancel", at)
        elif fault == "die":
            self._plan = Plan("die" if self.keeps == "disk" else "raise", at, error=PlannedError("planned"))
        else:
            self._let_go()
            self._hang = Hold()
            self._plan = Plan("hang", at, hold=self._hang)
        self.process.watch.plan = self._plan
        self.process.watch.happened = False

    @precondition(lambda self: self._hang is not None)
    @rule()
    async def what_hangs_returns(self) -> None:
        self._let_go()

    @precondition(lambda self: self.model.jobs)
    @rule(how=st.sampled_from(["stop", "crash", "drain"]))
    async def the_process_ends(self, how: str) -> None:
        """And the next one begins, on what it has kept. Drained: first all that can end within a day does."""
        if how == "crash" and self.keeps != "memory":
            await self.process.crash(self._forget_what_hangs)
        else:
            if how == "drain" and self.queue.paused is None and self._hang is None:
                with self._unless_dead():
                    await self.process.drain(86_400.0)
            if self.process.watch.dead:  # it died on the way
                await self.process.crash(self._forget_what_hangs)
            else:
                await self._leave()
        await self.open()

    # what callers do

    @rule(target=jobs, new=_submits(), key=_KEYS, when=_WHEN, goes_wrong=_GOES_WRONG, then=_THEN)
    async def submit(
        self,
        new: tuple[str, Any],
        key: str | None,
        when: str,
        goes_wrong: tuple[str, int, Literal["before", "after"]] | None,
        then: float,
    ) -> str | None:
        """Now, in half a minute, or to expire then. goes_wrong: as `a_call_will`. then: so many seconds pass."""
        if goes_wrong is not None:
            fault, number, side = goes_wrong
            self._will(fault, Point(number, side, ""))
        with self._unless_dead():
            kind, payload = new
            job = await self._submit(kind, payload, key=key, **({when: 30.0} if when else {}))
            if then:
                await self.pass_time(then)
            return job
        return None

    async def _submit(self, kind: str, payload: Any, *, key: str | None, **when: Any) -> str | None:
        known = None if key is None else self.model.by_key(kind, key)
        body = bytes(msgspec.json.encode(payload))
        try:
            receipt = await self.queue.submit(kind, payload, key=key, wait=0, **when)
        except LineFull:
            assert known is None, "P4: a known key answers even when the line is full"
            if "delay" not in when:  # what is for later takes no place, but not too many may wait
                assert self.queue.statistics().free == 0, "P9: the line is full only when no place is free"
            return None
        except KeyConflict:
            assert known is not None or (kind, key) in self._unanswered, "a key conflicts only with the same key"
            assert known is None or known.payload != body, "a key conflicts only with another payload"
            return None
        except OutcomeUnknown:  # the process died under it: it may be there, and the same key tells
            self._unanswered.add((kind, key))
            raise
        if known is None and (kind, key) in self._unanswered:
            self._unanswered.discard((kind, key))
        else:
            assert receipt.created is (known is None), "P4: a job is created where its key is new, and only there"
        if known is not None:
            assert receipt.job_id == known.id, "P4: the same key is the same job"
            assert known.payload == body, "a key with another payload is an error"
        else:
            self.model.told(receipt.job_id, kind, key, body)
        return str(receipt.job_id)

    @rule(job=jobs)
    async def cancel(self, job: str | None) -> None:
        if job is None or self.model.jobs[job].forgotten:
            return
        state = self.queue.get(job).state
        expected = {State.PROCESSING: "requested", State.COMPLETED: "too_late", State.FAILED: "too_late"}
        try:
            with self._unless_dead():
                answer = await self.queue.cancel(job)
        except WrongState:
            assert state is State.IN_DOUBT, f"a {state} job can be cancelled"
        else:
            assert self.process.watch.dead or answer == expected.get(state, "cancelled"), (
                f"cancel of a {state} job answers {answer}"
            )

    @rule(job=jobs)
    async def retry(self, job: str | None) -> None:
        if job is None or self.model.jobs[job].forgotten:
            return
        state = self.queue.get(job).state
        try:
            with self._unless_dead():
                await self.queue.retry(job)
        except WrongState:
            inside = self.queue.statistics().inside or bool(self.model.under_way)
            assert state not in (State.FAILED, State.CANCELLED) or inside, f"a {state} job can be retried"
        else:
            assert state in (State.FAILED, State.CANCELLED), f"a {state} job cannot be retried"

    @rule(job=jobs, how=st.sampled_from(["done", "not_done", "failed"]))
    async def resolve(self, job: str | None, how: Literal["done", "not_done", "failed"]) -> None:
        if job is None or self.model.jobs[job].forgotten:
            return
        before = self.queue.get(job)
        try:
            with self._unless_dead():
                await self.queue.resolve(job, how)
        except WrongState:
            assert before.state is not State.IN_DOUBT or before.inside, "a job in doubt can be resolved"
        else:
            assert before.state is State.IN_DOUBT, f"a {before.state} job cannot be resolved"

    @precondition(lambda self: self.model.jobs)
    @rule(paused=st.booleans())
    async def set_paused(self, paused: bool) -> None:
        with self._unless_dead():
            await (self.queue.pause("by a rule") if paused else self.queue.resume())

    # what must hold

    @invariant()
    async def the_promises_hold(self) -> None:
        if self._process is None:
            return
        await self._read_events()
        queue, log = self.queue, self.process.log
        assert not log.wrong, log.wrong
        known = set(queue.job_ids())
        for job in self.model.jobs.values():
            if job.id not in known:
                assert not job.told or job.state in FINAL, f"P4: job {job.id} is forgotten, and was {job.state}"
                job.forgotten = True
            elif job.told:
                assert queue.get(job.id).state == job.state, f"job {job.id} is {job.state} by its events"
        statistics = queue.statistics()
        # a job in doubt may wait in the line too, to be verified
        in_line = statistics.jobs[State.PENDING] + statistics.jobs[State.IN_DOUBT]
        places = statistics.free if in_line else statistics.capacity
        assert statistics.free == places, "P9: where nobody is in the line, every place is free"
        assert 0 <= statistics.free <= statistics.capacity, "P9: there are as many places as the line has"
        assert statistics.jobs[State.PROCESSING] <= 1, "P1: one attempt at a time"

    async def _read_events(self) -> None:
        store = self.queue._history.store
        returned = self._returned + self.process.watch.returned
        while True:
            page = await store.events(self.model.seq, 200)
            wrong = self.model.read(page, returned)
            assert not wrong, wrong
            if len(page) < 200:
                break
        assert self.model.seq == store.last_seq, "P8: every event is there"

    # ends

    async def _leave(self) -> None:
        process = self.process
        report = await process.leave()
        self.reports.append(report)
        hangs = process.log.inside > 0
        assert report.sdk_closed or hangs, f"P3: the SDK is not closed: {report.sdk_problem}"
        assert process.log.opened - process.log.closed <= hangs, "P3: each open has its close"
        left = {one.job_id for one in report.left}
        final = {job_id for job_id in self.queue.job_ids() if self.queue.get(job_id).state in FINAL}
        for job in self.model.jobs.values():
            assert job.forgotten or not job.told or (job.id in left) != (job.id in final), (
                f"P5: job {job.id} ended, or is reported"
            )
        self._forget_what_hangs()

    def _died(self) -> None:
        self._shelf.die()
        note("the process died inside a call")

    @contextmanager
    def _unless_dead(self) -> Iterator[None]:
        """What is asked of a process that dies meanwhile may come to nothing."""
        try:
            yield
        except (OutcomeUnknown, StoreError, QueueClosed):
            if not self.process.watch.dead:
                raise

    def _cancel_under_way(self) -> None:
        """A person cancels whatever is under way, at this very moment."""
        queue = self.queue
        for job in queue.list(state=State.PROCESSING):
            queue._cancel(queue._committed(job.id), "a rule")

    def _let_go(self) -> None:
        hang, self._hang = self._hang, None
        if hang is not None:
            hang.let_go()

    def _forget_what_hangs(self) -> None:
        """What still hangs when its process ends finds it dead. What is planned and has not happened is still to
        come."""
        self.process.watch.dead = True
        self._let_go()
        if self.process.watch.happened or (self._plan is not None and self._plan.fault == "hang"):
            self._plan = None

    async def teardown(self) -> None:
        """End the queue, and look at the promises of its end. Subclasses `await super().teardown()`."""
        try:
            if self._process is not None and not self._process.ended.is_set():
                if self._failure is None:
                    self._let_go()
                    await self._leave()
                else:  # it has failed already; what more its end would show is no news
                    await self.process.crash(self._forget_what_hangs)
        finally:
            self._shelf.clear()
            logging.getLogger("trio_jobs").setLevel(self._log_level)
        await super().teardown()
