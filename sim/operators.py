"""Operators: they correct, verify, reschedule and claim jobs, forget them, change many at once, and pause for a while.

They survive the machine, as clients do, and do not repeat a request that has no answer. They are in the schedules of
the seeds from `plan.OPERATED_FROM` on, so that those below stay as they were recorded.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import trio

from sim.clients import MachineDirectory
from sim.machine import ConnectionLost
from sim.observer import Observer
from trio_jobs._engine.jobs import State
from trio_jobs._errors import InvalidState, TrioJobsError
from trio_jobs._runtime.queue import Queue

__all__ = ["Operator"]

_CHANGEABLE = (State.FAILED, State.CANCELLED, State.IN_DOUBT)
_COMMANDS = {
    "correct": 25,
    "verify": 25,
    "reschedule": 12,
    "run now": 8,
    "claim": 6,
    "forget": 6,
    "cancel many": 3,
    "retry many": 8,
    "pause until": 5,
}


class Operator:
    """An operator that gives random commands while the clients run.

    Args:
        observer: Records requests and answers.
        directory: Where to find the machine.
        number: Counts operators, from 1.
    """

    def __init__(self, observer: Observer, directory: MachineDirectory, number: int) -> None:
        self._observer = observer
        self._directory = directory
        self.name = f"operator {number}"
        self._rng = observer.plan.stream(self.name)
        self._corrections = 0

    async def run(self) -> None:
        rng = self._rng
        for _ in range(3 * self._observer.plan.operations):
            await trio.sleep(rng.choice((0.0, 0.01, 0.3, 1.0, 3.0)))
            what = rng.choices(tuple(_COMMANDS), tuple(_COMMANDS.values()))[0]
            job = self._some_job()
            if job is not None:
                await self._give(what, job)

    def _some_job(self) -> str | None:
        """A job; mostly one that a command can change."""
        jobs = self._observer.clients.accepted
        if not jobs:
            return None
        queue = None if self._directory.machine is None else self._directory.machine.queue
        if queue is not None and self._rng.random() < 0.7:
            found = [job.id for job in queue.list(states=_CHANGEABLE, limit=50)]
            found = [job for job in found if job in jobs]
            if found:
                return self._rng.choice(found)
        return self._rng.choice(list(jobs))

    async def _give(self, what: str, job: str) -> None:
        observer = self._observer
        name = "jobs" if "many" in what or "pause" in what else observer.name(job)
        observer.note(self.name, f"begins: {what} {name}")
        try:
            machine = await self._directory.find()
            with machine.connection() as queue:
                answer = await self._call(queue, what, job)
        except ConnectionLost:
            answer = "no answer"
        except TrioJobsError as error:
            answer = type(error).__name__
            if isinstance(error, InvalidState) and what == "forget":
                observer.clients.forgotten -= Counter([job])  # another operator may have requested it too
        observer.note(self.name, f"{what} {name}: {answer}")

    async def _call(self, queue: Queue, what: str, job: str) -> Any:
        rng, record = self._rng, self._observer.clients
        if what == "correct":
            return await self._correct(queue, job)
        if what == "verify":
            return await queue.verify(job, by=self.name)
        if what == "reschedule":
            return await queue.reschedule(job, delay=rng.choice((0.2, 2.0, 10.0)), by=self.name)
        if what == "run now":
            return await queue.run_now(job, by=self.name)
        if what == "claim":
            return await queue.claim(job, by=self.name, seconds=rng.choice((1.0, 900.0)), take_over=rng.random() < 0.3)
        if what == "forget":
            record.forgotten[job] += 1
            return await queue.forget(job, by=self.name)
        if what == "pause until":
            until = self._observer.machine_clock.now() + rng.choice((0.5, 3.0))
            return await queue.pause("for a while", until=datetime.fromtimestamp(until, UTC), by=self.name)
        return await self._change_many(queue, what)

    async def _correct(self, queue: Queue, job: str) -> str:
        """Correct a job, by its id or by a submit with its key."""
        kind, _, key = self._observer.clients.accepted[job]
        self._corrections += 1
        number = 5_000 + self._corrections
        # a correction by the key of a job that was removed is a new job
        if key is None or self._rng.random() < 0.6 or self._observer.plan.settings["job_retention"] < 100:
            receipt = await queue.correct(job, number, by=self.name)
        elif job in self._observer.clients.forgotten:
            return "nothing"
        else:
            receipt = await queue.submit(kind, number, key=key, correct=True, wait=0.0, by=self.name)
        if receipt.job_id != job or receipt.created:
            self._observer.report("keys", f"the correction of {self._observer.name(job)} is another job")
        return str(receipt.state)

    async def _change_many(self, queue: Queue, what: str) -> Any:
        """Cancel or retry jobs of one kind, or only see what that would do."""
        observer, rng = self._observer, self._rng
        kind, dry_run = rng.choice(observer.plan.kinds), rng.random() < 0.3
        if what == "retry many":
            done = await queue.retry_many(kind=kind, even_if_acted=rng.random() < 0.2, dry_run=dry_run, by=self.name)
            return f"{len(done.retried)} of {kind}, {len(done.refused)} refused"
        for job in observer.clients.accepted:
            observer.clients.cancel_requests.setdefault(job, []).append(observer.clock())
        cancelled = await queue.cancel_many(kind=kind, dry_run=dry_run, by=self.name)
        return f"{len(cancelled)} of {kind}"
