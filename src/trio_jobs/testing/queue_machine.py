"""A Hypothesis state machine that drives a real queue and checks the promises of the queue after each step.

    class Invoices(QueueMachine):
        def make_service(self) -> Service:
            self.ledger = Ledger()
            return make_service(self.ledger)

        @invariant()
        def no_invoice_is_booked_twice(self) -> None:
            assert len(self.ledger.entries) == len(set(self.ledger.entries))

    TestInvoices = Invoices.TestCase

The rules submit jobs (with and without a key, with a delay, with a deadline), cancel, retry, resolve, correct, verify,
reschedule, claim and forget them, one or many at once, pause, advance time, drain, restart and crash, and make SDK
calls fail. The invariant checks what can be observed from outside: one
attempt at a time and one thread (P1, P2); every acknowledged job exists (P4); state transitions are legal and events
have no gap (P5, P8); a job is completed only if its handler returned (P6); health names each problem (P7); readers
receive the stored events (P8); slots are counted (P9); no attempt exceeds its limit unreported (P10). Time is virtual
and passes only in rules.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from trio_jobs._engine.events import JobEvent, Paused, Resumed
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._errors import InvalidState, JobMayHaveActed, KeyConflict, OutcomeUnknown, QueueFull
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._runtime.clock import TrioClock
from trio_jobs._service import parts_of
from trio_jobs.testing._environment import FAULTS
from trio_jobs.testing._instrumented import CallSite
from trio_jobs.testing._model import GRACE
from trio_jobs.testing._operator_rules import OperatorRules
from trio_jobs.testing.stateful import invariant, precondition, rule, st

__all__ = ["QueueMachine"]

_OF_SESSIONS: Final = ("opening_sdk", "sessions_failing")  #: problems that the model does not predict
_KEYS: Final = st.none() | st.sampled_from(["a", "b", "c"])
_WHEN: Final = st.sampled_from(["", "", "delay", "deadline_after"])
_THEN: Final = st.sampled_from([0.0, 1.0, 100.0])
_FAULT: Final = st.none() | st.tuples(FAULTS, st.integers(1, 3), st.sampled_from(["before", "after"]))


@st.composite
def _submits(draw: st.DrawFn) -> tuple[str, Any]:
    """A kind of the service and a payload for it."""
    machine: QueueMachine = draw(st.runner())
    kind = draw(st.sampled_from(sorted(parts_of(machine.service).handlers)))
    return kind, draw(machine.payload_strategy(kind))


class QueueMachine(OperatorRules):
    """Drives the queue of a service with rules and checks its promises; see the head of this module.

    A subclass overrides `make_service`, sets the class variables `payloads`, `storage`, `queue_settings` and `quiet` as
    needed, and can add rules and invariants, which use `self.queue` and `self.model`.

    At most one fault is planned at a time, for the next call with its number, whichever job makes it.
    """

    jobs = OperatorRules.jobs
    """The ids of submitted jobs, for rules of subclasses."""

    # rules of the callers

    @rule(target=jobs, new=_submits(), key=_KEYS, when=_WHEN, fault=_FAULT, then=_THEN)
    async def submit(
        self,
        new: tuple[str, Any],
        key: str | None,
        when: str,
        fault: tuple[str, int, Literal["before", "after"]] | None,
        then: float,
    ) -> str | None:
        """Submit a job and let time pass.

        Args:
            new: A kind and a payload.
            key: The key of the job.
            when: "" for now, or "delay" or "deadline_after" for an argument of 30 s.
            fault: A fault to plan, as in `plan_fault`.
            then: Seconds that pass after the submit.
        """
        if fault is not None:
            kind_of_fault, number, side = fault
            self._plan_fault(kind_of_fault, CallSite(number, side, ""))
        with self._ignoring_death():
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
            assert known is None, f"P4: submit with the known key {key!r} raised QueueFull"
            if "delay" not in when:  # a delayed job takes no slot; for it QueueFull means max_waiting
                free = self.queue.statistics().free
                assert free == 0, f"P9: submit raised QueueFull while {free} slots were free"
            return None
        except KeyConflict:
            assert known is not None or (kind, key) in self._unanswered, (
                f"submit with the new key {key!r} raised KeyConflict"
            )
            assert known is None or known.payload != body, f"submit with key {key!r} and its payload raised KeyConflict"
            return None
        except OutcomeUnknown:  # the process died: the next submit with this key shows whether the job exists
            self._unanswered.add((kind, key))
            raise
        if known is None and (kind, key) in self._unanswered:
            self._unanswered.discard((kind, key))
        else:
            assert receipt.created is (known is None), (
                f"P4: a submit with a {'new' if known is None else 'known'} key has created={receipt.created}"
            )
        if known is not None:
            assert receipt.job_id == known.id, f"P4: the key of job {known.id} returned job {receipt.job_id}"
            assert known.payload == body, f"a submit with key {key!r} and another payload raised no KeyConflict"
        else:
            self.model.acknowledge(receipt.job_id, kind, key, body)
        return str(receipt.job_id)

    @rule(job=jobs)
    async def cancel(self, job: str | None) -> None:
        """Cancel a job."""
        if job is None or self.model.jobs[job].forgotten:
            return
        state = self.queue.get(job).state
        expected = {
            State.PROCESSING: "requested",
            State.SAVING: "requested",
            State.COMPLETED: "too_late",
            State.FAILED: "too_late",
        }
        try:
            with self._ignoring_death():
                answer = await self.queue.cancel(job)
        except InvalidState:
            assert state is State.IN_DOUBT, f"cancel of a {state} job raised InvalidState"
        else:
            assert self.process.recorder.dead or answer == expected.get(state, "cancelled"), (
                f"cancel of a {state} job returned {answer!r}"
            )

    @rule(job=jobs)
    async def retry(self, job: str | None) -> None:
        """Retry a job; only failed and cancelled ones can be, and not if nothing permits to repeat what may be done."""
        if job is None or self.model.jobs[job].forgotten:
            return
        before = self.queue.get(job)
        state = before.state
        try:
            with self._ignoring_death():
                await self.queue.retry(job)
        except JobMayHaveActed:
            assert before.may_have_acted, f"retry of a {state} job that has not acted raised JobMayHaveActed"
        except InvalidState:
            inside = self.queue.statistics().sdk_busy or bool(self.model.running)
            assert state not in (State.FAILED, State.CANCELLED) or inside, f"retry of a {state} job raised InvalidState"
        else:
            assert state in (State.FAILED, State.CANCELLED), f"retry of a {state} job raised no InvalidState"

    @rule(job=jobs, how=st.sampled_from(["done", "not_done", "failed"]))
    async def resolve(self, job: str | None, how: Literal["done", "not_done", "failed"]) -> None:
        """Resolve a job; only one in doubt can be."""
        if job is None or self.model.jobs[job].forgotten:
            return
        before = self.queue.get(job)
        try:
            with self._ignoring_death():
                await self.queue.resolve(job, how)
        except InvalidState:
            assert before.state is not State.IN_DOUBT or before.inside, "resolve of a job in doubt raised InvalidState"
        else:
            assert before.state is State.IN_DOUBT, f"resolve of a {before.state} job raised no InvalidState"

    @precondition(lambda self: self.model.jobs)
    @rule(paused=st.booleans())
    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the queue."""
        with self._ignoring_death():
            await (self.queue.pause("by a rule") if paused else self.queue.resume())

    # the invariant

    @invariant()
    async def promises_hold(self) -> None:
        """Check the promises; see the head of this module."""
        if self._process is None:
            return
        await self._read_events()
        queue, log = self.queue, self.process.log
        assert not log.violations, log.violations
        known = set(queue.job_ids())
        for job in self.model.jobs.values():
            if job.id not in known:
                assert not job.acknowledged or job.state in FINAL, (
                    f"P4: job {job.id} was {job.state} and no longer exists"
                )
                job.forgotten = True
            elif job.acknowledged:
                state = queue.get(job.id).state
                assert state == job.state, f"job {job.id} is {state}, but {job.state} by its events"
        statistics = queue.statistics()
        # every pending job has a slot; a job that waits to be verified has one too
        pending = statistics.jobs[State.PENDING]
        taken = statistics.capacity - statistics.free
        most = pending + statistics.jobs[State.IN_DOUBT] + self._awaited
        assert min(pending, statistics.capacity) <= taken <= most, (
            f"P9: {taken} slots are taken by {pending} to {most} jobs"
        )
        assert 0 <= statistics.free <= statistics.capacity, (
            f"P9: {statistics.free} of {statistics.capacity} slots are free"
        )
        assert statistics.jobs[State.PROCESSING] <= 1, f"P1: {statistics.jobs[State.PROCESSING]} jobs are processing"
        now = TrioClock().now()
        late = self.model.late(now)
        assert not late, late
        self._check_health(now)
        if known:
            await self._check_history(queue.job_ids()[-1])

    async def _check_history(self, job: str) -> None:
        """The history of a job has its committed events, by run."""
        try:
            found = await self.queue.history(job)
        except JobNotFound:  # pruned in between
            return
        numbers = [event.seq for event in found.events]
        stored = [event.seq for event in self._stored if isinstance(event, JobEvent) and event.job == job]
        assert found.complete and numbers[: len(stored)] == stored, (
            f"the history of job {job} has the events {numbers}, and its events are {stored}"
        )
        run = self.queue.get(job).run
        assert found.runs[-1].number == run, f"the history of job {job} ends in run {found.runs[-1].number} of {run}"

    def _check_health(self, now: float) -> None:
        """P7: health names each problem while it lasts, and no other."""
        health, model = self.queue.health(), self.model
        assert health.ok is (not health.problems), f"P7: health has ok={health.ok} with the problems {health.problems}"
        in_doubt = len(model.in_state(State.IN_DOUBT))
        assert health.in_doubt == in_doubt, f"P7: {in_doubt} jobs are in doubt, and health has {health.in_doubt}"
        pauses = [event for event in self._stored if isinstance(event, Paused | Resumed)]
        paused = bool(pauses) and isinstance(pauses[-1], Paused)
        assert ("paused" in health.problems) is paused is (health.paused is not None), (
            f"P7: the queue is {'paused' if paused else 'not paused'}, and health has {health.problems}"
        )
        if model.running is not None:
            job = model.jobs[model.running]
            if job.inside:
                assert "stuck" in health.problems, f"P7: job {job.id} is stuck, and health has {health.problems}"
            elif now > job.limit_at + GRACE:
                assert "overdue" in health.problems, f"P7: job {job.id} is overdue, and health has {health.problems}"
        elif not self.process.log.inside:
            others = [name for name in health.problems if name not in (*_OF_SESSIONS, "paused")]
            assert not others, f"P7: there is no such problem, and health has {others}"
