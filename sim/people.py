"""Who uses the queue: clients that submit, look and steer, and followers that read its events.

They belong to no machine. When one dies they find out, wait until the next is up, and ask again; a client that gave a
key asks with the same key, as it should. Some lose patience and break their wait off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import trio

from sim.machine import GaveUp, Lost, Machine
from sim.plan import KINDS
from sim.world import World
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import Receipt, State
from trio_jobs._errors import (
    InvalidState,
    JobCancelled,
    JobFailed,
    JobInDoubt,
    JobNotFound,
    KeyConflict,
    Lagged,
    OutcomeUnknown,
    QueueClosed,
    QueueFull,
    ResultUnavailable,
    StoreError,
)
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._runtime.submission import NewJob

__all__ = ["Client", "Follower", "Street", "resolve_truthfully"]

T = TypeVar("T")
_KINDS = tuple(KINDS)
_encode = msgspec.json.Encoder().encode


class Street:
    """Where people find the machine that is up."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self._up = trio.Event()
        self.is_over = False

    def is_up(self, machine: Machine) -> None:
        self.machine = machine
        self._up.set()

    def is_down(self) -> None:
        self.machine = None
        if self._up.is_set():
            self._up = trio.Event()

    async def find(self) -> Machine:
        while self.machine is None or self.machine.queue is None:
            if self.machine is not None:
                self.is_down()
            await self._up.wait()
        return self.machine


class Client:
    """number: from 1. It does what its stream of chance says, `operations` times, and then leaves."""

    def __init__(self, world: World, street: Street, number: int) -> None:
        self._world = world
        self._street = street
        self.name = f"client {number}"
        self._number = number
        self._chance = world.plan.stream(self.name)
        self._made = 0

    def _note(self, what: str) -> None:
        self._world.note(self.name, what)

    async def run(self) -> None:
        chance = self._chance
        for _ in range(self._world.plan.operations):
            await trio.sleep(chance.choice((0.0, 0.0, 0.01, 0.2, 1.0, 3.0)))
            await chance.choices(
                (self._submit, self._submit_many, self._cancel, self._retry, self._resolve, self._pause, self._look),
                (60, 6, 10, 8, 8, 5, 12),
            )[0]()

    async def _ask(self, ask: Callable[[Queue], Awaitable[T]], patience: float | None = None) -> T:
        """Raises `Lost`, also where patience ran out."""
        machine = await self._street.find()
        with machine.connection() as queue:
            if patience is None:
                return await ask(queue)
            with trio.move_on_after(patience):
                return await ask(queue)
            raise GaveUp

    # submit

    def _new_job(self) -> dict[str, Any]:
        chance = self._chance
        kind = chance.choice(self._world.plan.kinds)
        key = f"key-{chance.randrange(3)}" if chance.random() < 0.5 else None
        self._made += 1
        # a key means one thing to do; now and then somebody gets that wrong
        number = 900 + int(key[-1]) if key is not None and chance.random() < 0.93 else self._number * 100 + self._made
        job: dict[str, Any] = {"handler": kind, "payload": number, "key": key}
        if chance.random() < 0.15:
            job["delay"] = chance.choice((0.1, 2.0))
        if chance.random() < 0.15:
            job["deadline_after"] = job.get("delay", 0.0) + chance.choice((0.5, 3.0, 10.0))
        return job

    async def _submit(self) -> None:
        chance, world = self._chance, self._world
        job = self._new_job()
        wait = chance.choice((None, None, 0.0, 0.5))
        patience = chance.choice((None, None, None, 0.0, 0.001, 0.1))
        what = f"{job['handler']} {job['payload']} ({job['key'] or 'no key'})"
        for _ in range(6):
            try:
                self._note(f"submits {what}")
                receipt = await self._ask(lambda queue: queue.submit(wait=wait, by=self.name, **job), patience)
            except (Lost, OutcomeUnknown) as error:
                self._note(f"does not know about {what}: {type(error).__name__}")
                if isinstance(error, OutcomeUnknown):
                    self._check_unknown(what)
                if isinstance(error, GaveUp) and job["key"] is None:
                    world.told.broken_off.add(job["payload"])
                if job["key"] is None:
                    return  # to ask again could do it twice
                patience = None
            except (QueueFull, QueueClosed, StoreError) as error:
                self._note(f"is refused {what}: {type(error).__name__}")
                await trio.sleep(0.3)
            except KeyConflict as error:
                self._check_conflict(job, error.job_id)
                return
            else:
                self.accepted(receipt, job)
                if chance.random() < 0.5:
                    await self._result(receipt.job_id)
                return
        world.note(self.name, f"gives {what} up")

    def _check_unknown(self, what: str) -> None:
        """P4: the outcome is unknown only while the store has not settled what was handed over."""
        machine = self._street.machine
        if machine is not None and (queue := machine.queue) is not None:
            settled = runtime_of(queue).event_log.committed_seq == runtime_of(queue).event_log.projection.seq
            if settled and queue.health().store is None:
                self._world.wrong("P4", f"{self.name} is not told what became of {what}, and the store knows")

    async def _submit_many(self) -> None:
        chance = self._chance
        jobs = [self._new_job() for _ in range(chance.choice((1, 2, 3)))]
        room = self._world.plan.settings["buffer"]
        jobs = jobs[:room]
        named = {(job["handler"], job["key"]): job for job in jobs if job["key"] is not None}
        if any(named.get((job["handler"], job["key"]), job)["payload"] != job["payload"] for job in jobs):
            return
        self._note(f"submits {', '.join(str(job['payload']) for job in jobs)} together")
        try:
            receipts = await self._ask(lambda queue: queue.submit_many([NewJob(**job) for job in jobs]))
        except (Lost, OutcomeUnknown, QueueFull, QueueClosed, StoreError, KeyConflict) as error:
            self._note(f"gets none of them: {type(error).__name__}")
            return
        for receipt, job in zip(receipts, jobs, strict=True):
            self.accepted(receipt, job)

    def accepted(self, receipt: Receipt, job: dict[str, Any]) -> None:
        world, told = self._world, self._world.told
        kind, number, key = job["handler"], job["payload"], job["key"]
        world.numbers.setdefault(receipt.job_id, number)
        self._note(f"has {world.name(receipt.job_id)}, {receipt.state}, created {receipt.created}")
        if key is not None and told.keys.setdefault((kind, key), receipt.job_id) != receipt.job_id:
            world.wrong("keys", f"{kind} {key} is {world.name(told.keys[kind, key])} and {world.name(receipt.job_id)}")
        if receipt.created and receipt.job_id in told.created:
            world.wrong("keys", f"{world.name(receipt.job_id)} is said to be new to two people")
        if receipt.created:
            told.created.add(receipt.job_id)
        if not 0 <= receipt.position <= world.plan.settings["buffer"] + 1:
            world.wrong("P9", f"position {receipt.position} in a line of {world.plan.settings['buffer']}")
        told.accepted.setdefault(receipt.job_id, (kind, number, key))

    def _check_conflict(self, job: dict[str, Any], job_id: str) -> None:
        known = self._world.told.accepted.get(job_id)
        self._note(f"is told that {job['key']} means another payload")
        if known is not None and known[1] == job["payload"]:
            self._world.wrong("keys", f"{job['key']} conflicts with the same payload")

    # look and steer

    def _some_job(self) -> str | None:
        jobs = self._world.told.accepted
        return self._chance.choice(list(jobs)) if jobs else None

    async def _result(self, job: str) -> None:
        world = self._world
        patience = self._chance.choice((0.1, 2.0, 30.0))
        try:
            result = await self._ask(lambda queue: queue.result(job, in_doubt="raise"), patience)
        except (JobFailed, JobCancelled, ResultUnavailable) as error:
            told = type(error).__name__
        except (Lost, QueueClosed, JobInDoubt):
            return
        except JobNotFound:
            self._gone(job)
            return
        else:
            told = str(result)
        self._note(f"is told the result of {world.name(job)}: {told}")
        world.told.results[job] = told

    def _gone(self, job: str) -> None:
        """Only what has been pruned may be unknown."""
        if self._world.plan.settings["job_retention"] > 100:
            self._world.wrong("P4", f"{self._world.name(job)} was accepted, and nobody knows it any more")

    async def _look(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            machine = await self._street.find()
            with machine.connection() as queue:
                await trio.lowlevel.checkpoint()
                seen = queue.get(job)
                world = self._world
                world.told.seen.append((job, seen.seq, str(seen.state), seen.attempt_count))
                self._note(f"sees {world.name(job)}: {seen.state}")
        except JobNotFound:
            self._gone(job)
        except Lost:
            return

    async def _cancel(self) -> None:
        job = self._some_job()
        if job is None:
            return
        world = self._world
        world.told.cancel_asked.setdefault(job, []).append(world.clock())
        try:
            answer = await self._ask(lambda queue: queue.cancel(job, by=self.name))
        except JobNotFound:
            self._gone(job)
            return
        except (Lost, InvalidState, OutcomeUnknown, StoreError) as error:
            self._note(f"would cancel {world.name(job)}: {type(error).__name__}")
            return
        self._note(f"cancels {world.name(job)}: {answer}")
        world.told.cancels.setdefault(job, []).append(answer)

    async def _retry(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            await self._ask(lambda queue: queue.retry(job, by=self.name))
        except (Lost, InvalidState, JobNotFound, QueueClosed, OutcomeUnknown, StoreError):
            return
        self._note(f"retries {self._world.name(job)}")

    async def _resolve(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            await self._ask(lambda queue: resolve_truthfully(queue, self._world, job))
        except (Lost, InvalidState, JobNotFound, OutcomeUnknown, StoreError):
            return

    async def _pause(self) -> None:
        try:
            await self._ask(lambda queue: queue.pause("a person said so", by=self.name))
            self._note("pauses")
            await trio.sleep(self._chance.choice((0.1, 2.0)))
            if self._chance.random() < 0.7:
                await self._ask(lambda queue: queue.resume(by=self.name))
                self._note("resumes")
        except (Lost, OutcomeUnknown, StoreError):
            return


async def resolve_truthfully(queue: Queue, world: World, job: str) -> None:
    """Look into the SDK's book, and say what it says. Raises `InvalidState`, `JobNotFound`."""
    if any(call.job == job for call in world.inside):
        return
    done = bool(world.booked.get(job))
    world.unasked.pop(job, None)
    world.told.resolved.setdefault(job, []).append("done" if done else "not_done")
    await queue.resolve(job, "done" if done else "not_done", result="seen by a person" if done else None, by="person")
    world.note("person", f"resolves {world.name(job)}: {'done' if done else 'not done'}")


class Follower:
    """Reads events, of everything or of some, as long as the schedule lasts; freezes, leaves and comes back.

    It remembers the last event it has gone past and the epoch, and asks from there on. gaps: what it was told it
    cannot have (from, to).
    """

    def __init__(self, world: World, street: Street, number: int) -> None:
        self._world = world
        self._street = street
        self.name = f"follower {number}"
        self._chance = world.plan.stream(self.name)
        wanted = self._chance.choice(("all", "all", "kinds", "states", "job"))
        self.wanted: dict[str, Any] = {}
        if wanted == "kinds":
            self.wanted = {"kinds": self._chance.sample(_KINDS, 3)}
        elif wanted == "states":
            self.wanted = {"states": [State.COMPLETED, State.FAILED]}
        self._wants_job = wanted == "job"
        self.began: int | None = None
        self.position = 0
        self.got: list[int] = []
        self.gaps: list[tuple[int, int]] = []
        self._epoch = ""
        self.calm = False

    async def run(self) -> None:
        while True:
            try:
                machine = await self._street.find()
                with machine.connection() as queue:
                    await self._follow(queue)
            except Lost:
                pass
            await trio.sleep(0.05)

    async def _follow(self, queue: Queue) -> None:
        world, chance = self._world, self._chance
        if self._wants_job and not self.wanted:
            if not world.told.accepted:
                return
            self.wanted = {"jobs": [chance.choice(list(world.told.accepted))]}
        if self.began is None:
            self.began = self.position = chance.choice((0, queue.statistics().seq))
            self._epoch = queue.epoch
        if queue.epoch != self._epoch:
            world.wrong("P8", "the history has another name, and nothing of it was lost")
            self._epoch = queue.epoch
        if queue.statistics().seq < self.position:
            world.wrong("P6", f"{self.name} was told up to {self.position}, and it ends at {queue.statistics().seq}")
        stream = queue.events(after=self.position, **self.wanted)
        leave_after = chance.choice((3, 10, 1000))
        try:
            while leave_after or self.calm:
                leave_after -= 1
                self._take(await stream.__anext__())
                self.position = stream.seq
                if chance.random() < 0.15 and not self.calm:
                    await trio.sleep(chance.choice((0.5, 3.0)))  # frozen
        except StopAsyncIteration:
            self.position = stream.seq
        except Lagged as lagged:
            self._lagged(lagged)
        except StoreError:
            return

    def _lagged(self, lagged: Lagged) -> None:
        self._world.note(self.name, f"cannot have {lagged.after + 1} to {lagged.oldest - 1}")
        if self._world.plan.settings["job_retention"] > 100:
            self._world.wrong("P8", f"events {lagged.after + 1} to {lagged.oldest - 1} are gone, and nothing is pruned")
        self.gaps.append((lagged.after, lagged.oldest))
        self.position = lagged.oldest - 1

    def _take(self, event: ev.Event) -> None:
        world = self._world
        if self.got and event.seq <= self.got[-1]:
            world.wrong("P8", f"{self.name} gets event {event.seq} after {self.got[-1]}")
        if not self.wanted and event.seq != self.position + 1:
            world.wrong("P8", f"{self.name} gets event {event.seq}, and stood at {self.position}")
        self.got.append(event.seq)
        body = _encode(ev.as_stored(event))
        if world.told.events.setdefault(event.seq, body) != body:
            world.wrong("P6", f"event {event.seq} is told in two ways")
