"""The rule of `QueueMachine` that stands for operators: they correct, verify, move, claim and forget single jobs, and
change many at once. `QueueMachine` adds the rules of the callers and the invariants.

It is one rule, since Hypothesis chooses among rules with equal probability: with a rule for each command, the machine
would mostly give commands to jobs that have not done anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from trio_jobs._engine.jobs import FINAL, Job, State
from trio_jobs._engine.new_job import NewJob
from trio_jobs._errors import InvalidState, JobMayHaveActed, KeyConflict, QueueFull, UsageError
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._operator_errors import JobClaimed
from trio_jobs._runtime.clock import TrioClock
from trio_jobs._service import parts_of
from trio_jobs.testing._environment import QueueEnvironment
from trio_jobs.testing._queue_process import QueueProcess
from trio_jobs.testing.stateful import Bundle, rule, st

__all__ = ["COMMANDS", "OperatorRules"]

_WAITING: Final = (State.SCHEDULED, State.PENDING, State.RETRYING)
_AGAIN: Final = (State.FAILED, State.CANCELLED)  #: states from which a new run can begin
COMMANDS: Final = (
    "correct", "verify", "reschedule", "claim", "forget", "submit many", "cancel many", "retry many", "pause until",
)  # fmt: skip


class OperatorRules(QueueEnvironment):
    """Base of `QueueMachine`, which documents what a subclass can override."""

    jobs = Bundle("jobs")
    """The ids of submitted jobs, for rules of subclasses."""

    _awaited = 0  # requests for a verify that have no answer yet: each may have a slot

    def _job(self, job: str | None) -> Job | None:
        """The job as it is now; None if there is none any more."""
        if job is None or self.model.jobs[job].forgotten:
            return None
        found: Job = self.queue.get(job)
        return found

    def _is_busy(self) -> bool:
        return self.queue.statistics().sdk_busy or bool(self.model.running)

    @rule(job=jobs, what=st.sampled_from(COMMANDS), data=st.data())
    async def operate(self, job: str | None, what: str, data: st.DataObject) -> None:
        """Give one of `COMMANDS`: correct, verify, reschedule, claim or forget a job, submit or change many, or pause.

        Args:
            job: The job, for a command that has one.
            what: The command.
            data: For its arguments.
        """
        if what == "pause until":
            await self._pause_until(data.draw(st.sampled_from([5.0, 120.0])))
        elif what == "submit many":
            await self._submit_many(data)
        elif what in ("cancel many", "retry many"):
            await self._change_many(what, dry_run=data.draw(st.booleans()))
        elif what == "forget":
            await self._forget(job)
        elif (before := self._job(job)) is None:
            return
        elif what == "correct":
            await self._correct(before, data)
        elif what == "verify":
            self.nursery.start_soon(self._verify, self.process, before)
        elif what == "reschedule":
            await self._reschedule(before, data.draw(st.sampled_from([None, 5.0, 100.0])))
        else:
            await self._claim(before, data.draw(st.sampled_from(["ada", "bob"])), take_over=data.draw(st.booleans()))

    async def _correct(self, before: Job, data: st.DataObject) -> None:
        """Correct a job, by its id or by a submit with its key; only one that has done nothing can be."""
        by_key = data.draw(st.booleans())
        payload = data.draw(self.payload_strategy(before.kind))
        same = bytes(msgspec.json.encode(payload)) == bytes(before.payload or b"")
        by_key = by_key and before.key is not None
        allowed = before.state in _AGAIN and not before.may_have_acted
        try:
            with self._ignoring_death():
                if by_key:
                    await self.queue.submit(before.kind, payload, key=before.key, correct=True, wait=0)
                else:
                    await self.queue.correct(before.id, payload, by="ada")
        except KeyConflict:
            assert by_key and not same, "a correction with the payload of the job raised KeyConflict"
            assert not allowed or before.steps or self._is_busy(), "a correction of a job that did nothing was refused"
        except JobMayHaveActed:
            assert before.state in _AGAIN, f"correct of a {before.state} job raised JobMayHaveActed"
            assert before.may_have_acted or before.steps, "correct of a job that did nothing raised JobMayHaveActed"
        except InvalidState:
            assert before.state not in _AGAIN or self._is_busy(), f"correct of a {before.state} job raised InvalidState"
        except UsageError:
            assert same, f"correct of a {before.state} job with another payload raised UsageError"
            assert before.state in _AGAIN, f"a repeated correction of a {before.state} job raised UsageError"
        else:
            if self.process.recorder.dead or same:
                return
            repeated = before.run > 1 and by_key is False and before.state not in _AGAIN
            acted = "may have acted" if before.may_have_acted else "has not acted"
            assert allowed or repeated, f"P12: a {before.state} job that {acted} is corrected"
            assert self.queue.get(before.id).run == before.run + 1, "a correction did not begin a new run"

    async def _verify(self, process: QueueProcess, before: Job) -> None:
        """Ask for a verify of a job. The answer may come in a later step."""
        queue, was_paused = process.queue, process.queue.paused is not None
        self._awaited += 1
        try:
            answer = await queue.verify(before.id, by="ada")
        except InvalidState:
            return
        except UsageError:
            verifies = parts_of(self.service).handlers[before.kind].rules.verifies
            assert was_paused or not verifies, "verify raised UsageError while the queue was not paused"
            return
        except Exception:
            if not (process.recorder.dead or process.is_ending):
                raise
            return
        finally:
            self._awaited -= 1
        asked = (*_AGAIN, State.IN_DOUBT)
        assert before.state in asked, f"verify of a {before.state} job returned {answer}"
        try:
            after = queue.get(before.id)
        except JobNotFound:
            return
        if before.state is State.FAILED and answer == "done":
            assert after.state is State.COMPLETED, f"verify found a failed job done, and it is {after.state}"
        if before.state in _AGAIN and answer == "not_done" and after.run == before.run:
            assert not after.may_have_acted, "verify answered not_done, and the job may have acted"

    async def _reschedule(self, before: Job, delay: float | None) -> None:
        """Let a waiting job become due later, or at once."""
        try:
            with self._ignoring_death():
                if delay is None:
                    await self.queue.run_now(before.id, by="ada")
                else:
                    await self.queue.reschedule(before.id, delay=delay, by="ada")
        except InvalidState:
            assert before.state not in _WAITING, f"a {before.state} job cannot be rescheduled"
        except QueueFull:
            assert before.state is State.PENDING, f"reschedule of a {before.state} job raised QueueFull"
        except UsageError:
            assert before.deadline_at is not None, "reschedule of a job without a deadline raised UsageError"
        else:
            assert before.state in _WAITING, f"reschedule of a {before.state} job raised no InvalidState"
            if delay is not None and not self.process.recorder.dead:
                state = self.queue.get(before.id).state
                assert state is State.SCHEDULED, f"a job that was rescheduled is {state}"

    async def _claim(self, before: Job, by: str, *, take_over: bool) -> None:
        """Claim a job. Another operator cannot claim it then, unless the claim is taken over."""
        try:
            with self._ignoring_death():
                await self.queue.claim(before.id, by=by, take_over=take_over, seconds=600.0)
        except JobClaimed:
            assert before.claimed_by not in (None, by) and not take_over, f"claim by {by} raised JobClaimed"
            return
        except InvalidState:
            assert before.state is State.COMPLETED, f"claim of a {before.state} job raised InvalidState"
            return
        try:
            with self._ignoring_death():
                await self.queue.claim(before.id, by="eve")
        except (JobClaimed, InvalidState):  # it may be completed meanwhile
            return
        assert self.process.recorder.dead, f"eve has claimed a job that {by} has claimed"

    async def _forget(self, job: str | None) -> None:
        """Forget a job; only a final one can be. Its key stays known."""
        if self._job(job) is None:
            return
        await self.pass_time(1.0)  # a reader that has not passed its last event would get a gap
        if self.process.recorder.dead:
            return
        await self._read_events()  # so would this machine: the job may have ended meanwhile
        before = self._job(job)
        if before is None:
            return
        try:
            with self._ignoring_death():
                await self.queue.forget(before.id, by="ada")
        except InvalidState:
            assert before.state not in FINAL or self._is_busy(), f"forget of a {before.state} job raised InvalidState"
        else:
            assert before.state in FINAL, f"forget of a {before.state} job raised no InvalidState"
            known = before.id in self.queue.job_ids()
            assert self.process.recorder.dead or not known, "a forgotten job is still known"

    async def _change_many(self, what: str, *, dry_run: bool) -> None:
        """Cancel or retry all jobs. A dry run changes nothing, and says what the call does."""
        queue = self.queue
        change = queue.cancel_many if what == "cancel many" else queue.retry_many
        with self._ignoring_death():
            seq = queue.statistics().seq
            expected = await change(dry_run=True, by="ada")
            assert queue.statistics().seq == seq, f"a dry run ({what}) has changed something"
            if not dry_run:
                done = await change(by="ada")
                assert done == expected, f"{what}: {done}, and the dry run said {expected}"

    async def _pause_until(self, seconds: float) -> None:
        """Pause the queue for some seconds."""
        with self._ignoring_death():
            await self.queue.pause("by a rule", until=datetime.fromtimestamp(TrioClock().now() + seconds, UTC))

    async def _submit_many(self, data: st.DataObject) -> None:
        """Submit two jobs as one change."""
        kind = data.draw(st.sampled_from(sorted(parts_of(self.service).handlers)))
        payloads = [data.draw(self.payload_strategy(kind)) for _ in range(2)]
        if self.queue.statistics().free < 2:  # it would wait for slots
            return
        with self._ignoring_death():
            receipts = await self.queue.submit_many([NewJob(kind, payload) for payload in payloads])
            assert all(receipt.created for receipt in receipts), "P4: submit_many of new jobs returned known ones"
            for receipt, payload in zip(receipts, payloads, strict=True):
                self.model.acknowledge(receipt.job_id, kind, None, bytes(msgspec.json.encode(payload)))
