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
P2), what was acknowledged is there (P4), completed only what returned (P6), what is wrong is named (P7), the feed gives
what is kept (P8), places are counted (P9), nothing goes on after its limit untold (P10). Time is virtual and stands
still between the rules.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from trio_jobs._engine.events import Event, as_stored
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._errors import InvalidState, KeyConflict, OutcomeUnknown, QueueFull
from trio_jobs._runtime.clock import TrioClock
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing._model import GRACE
from trio_jobs.testing._surroundings import FAULTS, Surroundings
from trio_jobs.testing._watched import Point
from trio_jobs.testing.stateful import Bundle, invariant, precondition, rule, st

__all__ = ["QueueMachine"]

_SOON: Final = 0.5  #: seconds after which a reader has been told, whatever the load
_KEYS: Final = st.none() | st.sampled_from(["a", "b", "c"])
_WHEN: Final = st.sampled_from(["", "", "delay", "deadline_after"])
_THEN: Final = st.sampled_from([0.0, 1.0, 100.0])
_GOES_WRONG: Final = st.none() | st.tuples(FAULTS, st.integers(1, 3), st.sampled_from(["before", "after"]))


@st.composite
def _submits(draw: st.DrawFn) -> tuple[str, Any]:
    """A kind of the machine's service, and a payload for it."""
    machine: QueueMachine = draw(st.runner())
    kind = draw(st.sampled_from(sorted(machine.service._handlers)))
    return kind, draw(machine.payload_strategy(kind))


class QueueMachine(Surroundings):
    """See the head of this module. For users to override: `make_service`, `payloads`, `keeps`, rules and invariants.

    payloads: a strategy for each kind; where there is none, one is made from the handler's payload type. keeps: where
    jobs are kept, "memory", "disk" (simulated, the fastest that can crash) or "sqlite" (a file). queue_settings: of the
    service, instead of its own. quiet: nothing is logged while it runs, since all that goes wrong was planned.

    model: what is expected. queue: the running one. Of the SDK's faults at most one is planned at a time, for the next
    call of that number, whichever job makes it.
    """

    jobs = Bundle("jobs")

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
        except QueueFull:
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
        except InvalidState:
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
        except InvalidState:
            inside = self.queue.statistics().sdk_busy or bool(self.model.under_way)
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
        except InvalidState:
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
        # every job in the line has its place; one in doubt may stand there too, to be verified
        pending = statistics.jobs[State.PENDING]
        taken = statistics.capacity - statistics.free
        most = pending + statistics.jobs[State.IN_DOUBT]
        assert min(pending, statistics.capacity) <= taken <= most, (
            f"P9: {taken} places are taken, and {pending} to {most} jobs stand in the line"
        )
        assert 0 <= statistics.free <= statistics.capacity, "P9: there are as many places as the line has"
        assert statistics.jobs[State.PROCESSING] <= 1, "P1: one attempt at a time"
        now = TrioClock().now()
        late = self.model.late(now)
        assert not late, late
        self._look_at_health(now)

    def _look_at_health(self, now: float) -> None:
        """P7: what is wrong is named while it is, and nothing is where nothing is wrong."""
        health, model = self.queue.health(), self.model
        assert health.ok is (not health.problems), "P7: all is well where there is no problem, and only there"
        assert health.in_doubt == len(model.in_state(State.IN_DOUBT)), "P7: jobs in doubt are counted"
        if model.under_way is not None:
            job = model.jobs[model.under_way]
            if job.inside:
                assert "stuck" in health.problems, f"P7: job {job.id} is stuck, and health has {health.problems}"
            elif now > job.limit_at + GRACE:
                assert "overdue" in health.problems, f"P7: job {job.id} is overdue, and health has {health.problems}"
        elif not self.process.log.inside:
            assert health.ok, f"P7: nothing is wrong, and health has {health.problems}"

    async def _read_events(self) -> None:
        """What is kept, and what a reader of the feed was given of it. Under load readers are told a little later."""
        store, process = runtime_of(self.queue).event_log.store, self.process
        kept: list[Event] = []
        while page := await store.events(kept[-1].seq if kept else self.model.seq, 200):
            kept += page
        wrong = self.model.read(kept, self._returned + process.watch.returned)
        assert not wrong, wrong
        assert self.model.seq == store.last_seq, "P8: every event is there"
        given, process.followed = [as_stored(event) for event in process.followed], []
        awaited = self._unheard + kept
        self._unheard = awaited[len(given) :]
        assert given == awaited[: len(given)], (
            f"P8: a reader is given {[event.seq for event in given]} of {[event.seq for event in awaited]}"
        )
        late = [event.seq for event in self._unheard if TrioClock().now() > event.at + _SOON]
        assert not late, f"P8: a reader is not given {late}"
