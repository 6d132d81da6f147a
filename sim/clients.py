"""The users of the queue: clients that call its methods, and followers that read its events.

They survive the machine. When it dies, they wait for the next one and repeat the request; a submit with a key is
repeated with the same key. Some cancel their requests after a timeout.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import trio

from sim.machine import ConnectionLost, Machine, RequestAbandoned
from sim.observer import Observer
from sim.plan import KINDS
from trio_jobs._engine import events as ev
from trio_jobs._engine.event_identity import as_stored
from trio_jobs._engine.jobs import Receipt, State
from trio_jobs._engine.new_job import NewJob
from trio_jobs._errors import (
    InvalidState,
    JobCancelled,
    JobFailed,
    JobInDoubt,
    KeyConflict,
    Lagged,
    OutcomeUnknown,
    QueueClosed,
    QueueFull,
    ResultUnavailable,
    StoreError,
)
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._runtime.queue import Queue, runtime_of

__all__ = ["Client", "Follower", "MachineDirectory", "resolve_truthfully"]

T = TypeVar("T")
_KINDS = tuple(KINDS)
_encode = msgspec.json.Encoder().encode


class MachineDirectory:
    """Lets clients find the running machine."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self._available = trio.Event()

    def register(self, machine: Machine) -> None:
        """The queue of this machine is open."""
        self.machine = machine
        self._available.set()

    def unregister(self) -> None:
        """No machine is running."""
        self.machine = None
        if self._available.is_set():
            self._available = trio.Event()

    async def find(self) -> Machine:
        """Wait for a machine with an open queue."""
        while self.machine is None or self.machine.queue is None:
            if self.machine is not None:
                self.unregister()
            await self._available.wait()
        return self.machine


class Client:
    """A client that makes `Plan.operations` random requests.

    Args:
        observer: Records requests and answers.
        directory: Where to find the machine.
        number: Counts clients, from 1.
    """

    def __init__(self, observer: Observer, directory: MachineDirectory, number: int) -> None:
        self._observer = observer
        self._directory = directory
        self.name = f"client {number}"
        self._number = number
        self._rng = observer.plan.stream(self.name)
        self._submits = 0

    def _note(self, what: str) -> None:
        self._observer.note(self.name, what)

    async def run(self) -> None:
        rng = self._rng
        for _ in range(self._observer.plan.operations):
            await trio.sleep(rng.choice((0.0, 0.0, 0.01, 0.2, 1.0, 3.0)))
            await rng.choices(
                (self._submit, self._submit_many, self._cancel, self._retry, self._resolve, self._pause, self._get),
                (60, 6, 10, 8, 8, 5, 12),
            )[0]()

    async def _request(self, call: Callable[[Queue], Awaitable[T]], timeout: float | None = None) -> T:
        """Call the queue of the running machine. Raises `ConnectionLost`, or `RequestAbandoned` after `timeout`."""
        machine = await self._directory.find()
        with machine.connection() as queue:
            if timeout is None:
                return await call(queue)
            with trio.move_on_after(timeout):
                return await call(queue)
            raise RequestAbandoned

    # submit

    def _new_job(self) -> dict[str, Any]:
        rng = self._rng
        kind = rng.choice(self._observer.plan.kinds)
        key = f"key-{rng.randrange(3)}" if rng.random() < 0.5 else None
        self._submits += 1
        # a key belongs to one payload; now and then a client uses it with another one
        number = 900 + int(key[-1]) if key is not None and rng.random() < 0.93 else self._number * 100 + self._submits
        job: dict[str, Any] = {"handler": kind, "payload": number, "key": key}
        if rng.random() < 0.15:
            job["delay"] = rng.choice((0.1, 2.0))
        if rng.random() < 0.15:
            job["deadline_after"] = job.get("delay", 0.0) + rng.choice((0.5, 3.0, 10.0))
        for seconds, date in (("delay", "due_at"), ("deadline_after", "deadline_at")):
            if seconds in job and rng.random() < self._observer.plan.dates:
                job[date] = job.pop(seconds)
        return job

    def _dated(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job with dates on the clock of the machine in place of their seconds from now."""
        now = self._observer.machine_clock.now()
        dates = {
            name: datetime.fromtimestamp(now + job[name], UTC) for name in ("due_at", "deadline_at") if name in job
        }
        return job | dates

    async def _submit(self) -> None:
        rng, observer = self._rng, self._observer
        job = self._new_job()
        wait = rng.choice((None, None, 0.0, 0.5))
        timeout = rng.choice((None, None, None, 0.0, 0.001, 0.1))
        what = f"{job['handler']} {job['payload']} ({job['key'] or 'no key'})"
        for _ in range(6):
            try:
                self._note(f"submits {what}")
                receipt = await self._request(
                    lambda queue: queue.submit(wait=wait, by=self.name, **self._dated(job)), timeout
                )
            except (ConnectionLost, OutcomeUnknown) as error:
                self._note(f"has no answer for {what}: {type(error).__name__}")
                if isinstance(error, OutcomeUnknown):
                    self._check_unknown(what)
                if isinstance(error, RequestAbandoned) and job["key"] is None:
                    observer.clients.cancelled_submits.add(job["payload"])
                if job["key"] is None:
                    return  # repeating it could create a second job
                timeout = None
            except (QueueFull, QueueClosed, StoreError) as error:
                self._note(f"cannot submit {what}: {type(error).__name__}")
                await trio.sleep(0.3)
            except KeyConflict as error:
                self._check_conflict(job, error.job_id)
                return
            else:
                self._record_receipt(receipt, job)
                if rng.random() < 0.5:
                    await self._result(receipt.job_id)
                return
        observer.note(self.name, f"gives up {what}")

    def _check_unknown(self, what: str) -> None:
        """P4: the outcome is unknown only while appended events are not committed."""
        machine = self._directory.machine
        if machine is not None and (queue := machine.queue) is not None:
            event_log = runtime_of(queue).event_log
            settled = event_log.committed_seq == event_log.projection.seq
            if settled and queue.health().store is None:
                self._observer.report(
                    "P4", f"{self.name} gets OutcomeUnknown for {what} although every event is committed"
                )

    async def _submit_many(self) -> None:
        rng = self._rng
        jobs = [self._new_job() for _ in range(rng.choice((1, 2, 3)))]
        jobs = jobs[: self._observer.plan.settings["buffer"]]
        by_key = {(job["handler"], job["key"]): job for job in jobs if job["key"] is not None}
        if any(by_key.get((job["handler"], job["key"]), job)["payload"] != job["payload"] for job in jobs):
            return
        self._note(f"submits {', '.join(str(job['payload']) for job in jobs)} together")
        try:
            receipts = await self._request(
                lambda queue: queue.submit_many([NewJob(**self._dated(job)) for job in jobs])
            )
        except (ConnectionLost, OutcomeUnknown, QueueFull, QueueClosed, StoreError, KeyConflict) as error:
            self._note(f"cannot submit them: {type(error).__name__}")
            return
        for receipt, job in zip(receipts, jobs, strict=True):
            self._record_receipt(receipt, job)

    def _record_receipt(self, receipt: Receipt, job: dict[str, Any]) -> None:
        observer, record = self._observer, self._observer.clients
        kind, number, key = job["handler"], job["payload"], job["key"]
        observer.numbers.setdefault(receipt.job_id, number)
        self._note(f"has {observer.name(receipt.job_id)}, {receipt.state}, created {receipt.created}")
        name = observer.name(receipt.job_id)
        if key is not None and record.keys.setdefault((kind, key), receipt.job_id) != receipt.job_id:
            observer.report("keys", f"{key} of {kind} belongs to {observer.name(record.keys[kind, key])} and to {name}")
        if receipt.created and receipt.job_id in record.created:
            observer.report("keys", f"{name} was returned as created to two clients")
        if receipt.created:
            record.created.add(receipt.job_id)
        slots = observer.plan.settings["buffer"]
        if not 0 <= receipt.position <= slots + 1:
            observer.report("P9", f"{name} has position {receipt.position} in a channel of {slots} slots")
        record.accepted.setdefault(receipt.job_id, (kind, number, key))

    def _check_conflict(self, job: dict[str, Any], job_id: str) -> None:
        known = self._observer.clients.accepted.get(job_id)
        self._note(f"gets KeyConflict for {job['key']}")
        if known is not None and known[1] == job["payload"] and not self._observer.plan.operators:
            self._observer.report("keys", f"{job['key']} conflicts although its payload is the same")

    # other requests

    def _some_job(self) -> str | None:
        jobs = self._observer.clients.accepted
        return self._rng.choice(list(jobs)) if jobs else None

    async def _result(self, job: str) -> None:
        observer = self._observer
        timeout = self._rng.choice((0.1, 2.0, 30.0))
        try:
            value = await self._request(lambda queue: queue.result(job, in_doubt="raise"), timeout)
        except (JobFailed, JobCancelled, ResultUnavailable) as error:
            result = type(error).__name__
        except (ConnectionLost, QueueClosed, JobInDoubt):
            return
        except JobNotFound:
            self._check_pruned(job)
            return
        else:
            result = str(value)
        self._note(f"gets the result of {observer.name(job)}: {result}")
        observer.clients.results[job] = result

    def _check_pruned(self, job: str) -> None:
        """P4: an accepted job is unknown only if it was pruned."""
        if self._observer.plan.settings["job_retention"] > 100 and job not in self._observer.clients.forgotten:
            self._observer.report("P4", f"{self._observer.name(job)} was accepted and is not known any more")

    async def _get(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            machine = await self._directory.find()
            with machine.connection() as queue:
                await trio.lowlevel.checkpoint()
                snapshot = queue.get(job)
                observer = self._observer
                observer.clients.snapshots.append((job, snapshot.seq, str(snapshot.state), snapshot.attempt_count))
                self._note(f"gets {observer.name(job)}: {snapshot.state}")
        except JobNotFound:
            self._check_pruned(job)
        except ConnectionLost:
            return

    async def _cancel(self) -> None:
        job = self._some_job()
        if job is None:
            return
        observer = self._observer
        observer.clients.cancel_requests.setdefault(job, []).append(observer.clock())
        try:
            answer = await self._request(lambda queue: queue.cancel(job, by=self.name))
        except JobNotFound:
            self._check_pruned(job)
            return
        except (ConnectionLost, InvalidState, OutcomeUnknown, StoreError) as error:
            self._note(f"cannot cancel {observer.name(job)}: {type(error).__name__}")
            return
        self._note(f"cancels {observer.name(job)}: {answer}")
        observer.clients.cancels.setdefault(job, []).append(answer)

    async def _retry(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            insists = self._rng.random() < 0.3
            await self._request(lambda queue: queue.retry(job, even_if_acted=insists, by=self.name))
        except (ConnectionLost, InvalidState, JobNotFound, QueueClosed, OutcomeUnknown, StoreError):
            return
        self._note(f"retries {self._observer.name(job)}")

    async def _resolve(self) -> None:
        job = self._some_job()
        if job is None:
            return
        try:
            await self._request(lambda queue: resolve_truthfully(queue, self._observer, job))
        except (ConnectionLost, InvalidState, JobNotFound, OutcomeUnknown, StoreError):
            return

    async def _pause(self) -> None:
        try:
            await self._request(lambda queue: queue.pause("a person said so", by=self.name))
            self._note("pauses")
            await trio.sleep(self._rng.choice((0.1, 2.0)))
            if self._rng.random() < 0.7:
                await self._request(lambda queue: queue.resume(by=self.name))
                self._note("resumes")
        except (ConnectionLost, OutcomeUnknown, StoreError):
            return


async def resolve_truthfully(queue: Queue, observer: Observer, job: str) -> None:
    """Resolve a job in doubt according to the bookings of the SDK. Raises `InvalidState`, `JobNotFound`."""
    if any(call.job == job for call in observer.inside):
        return
    done = bool(observer.booked.get(job))
    observer.unverified.pop(job, None)
    observer.clients.resolved.setdefault(job, []).append("done" if done else "not_done")
    await queue.resolve(job, "done" if done else "not_done", result="seen by a person" if done else None, by="person")
    observer.note("person", f"resolves {observer.name(job)}: {'done' if done else 'not done'}")


class Follower:
    """Reads events, all of them or a selection, until the end of the schedule; it stalls, disconnects and resumes.

    It resumes behind the last event that it has read, with the same epoch.
    """

    def __init__(self, observer: Observer, directory: MachineDirectory, number: int) -> None:
        self._observer = observer
        self._directory = directory
        self.name = f"follower {number}"
        self._rng = observer.plan.stream(self.name)
        selection = self._rng.choice(("all", "all", "kinds", "states", "job"))
        self.filter: dict[str, Any] = {}
        """The arguments of `Queue.events` that select events; empty for all."""
        if selection == "kinds":
            self.filter = {"kinds": self._rng.sample(_KINDS, 3)}
        elif selection == "states":
            self.filter = {"states": [State.COMPLETED, State.FAILED]}
        self._follows_job = selection == "job"
        self.began: int | None = None
        """The event behind which it began to read."""
        self.position = 0
        """The event up to which it has read."""
        self.received: list[int] = []
        """The numbers of the events that it received."""
        self.gaps: list[tuple[int, int]] = []
        """The ranges of pruned events that it could not receive (after, oldest)."""
        self._epoch = ""
        self.calm = False
        """It stalls and disconnects no more."""

    async def run(self) -> None:
        while True:
            try:
                machine = await self._directory.find()
                with machine.connection() as queue:
                    await self._follow(queue)
            except ConnectionLost:
                pass
            await trio.sleep(0.05)

    async def _follow(self, queue: Queue) -> None:
        observer, rng = self._observer, self._rng
        if self._follows_job and not self.filter:
            if not observer.clients.accepted:
                return
            self.filter = {"jobs": [rng.choice(list(observer.clients.accepted))]}
        if self.began is None:
            self.began = self.position = rng.choice((0, queue.statistics().seq))
            self._epoch = queue.epoch
        if queue.epoch != self._epoch:
            observer.report("P8", "the epoch changed although no event was lost")
            self._epoch = queue.epoch
        if queue.statistics().seq < self.position:
            observer.report(
                "P6", f"{self.name} has read up to {self.position}, and the log ends at {queue.statistics().seq}"
            )
        stream = queue.events(after=self.position, **self.filter)
        events_left = rng.choice((3, 10, 1000))  # until it disconnects
        try:
            while events_left or self.calm:
                events_left -= 1
                self._receive(await stream.__anext__())
                self.position = stream.seq
                if rng.random() < 0.15 and not self.calm:
                    await trio.sleep(rng.choice((0.5, 3.0)))  # stalls
        except StopAsyncIteration:
            self.position = stream.seq
        except Lagged as lagged:
            self._record_gap(lagged)
        except StoreError:
            return

    def _record_gap(self, lagged: Lagged) -> None:
        self._observer.note(self.name, f"lagged behind events {lagged.after + 1} to {lagged.oldest - 1}")
        if self._observer.plan.settings["job_retention"] > 100 and not self._observer.clients.forgotten:
            self._observer.report(
                "P8", f"events {lagged.after + 1} to {lagged.oldest - 1} are missing although none is pruned"
            )
        self.gaps.append((lagged.after, lagged.oldest))
        self.position = lagged.oldest - 1

    def _receive(self, event: ev.Event) -> None:
        observer = self._observer
        if self.received and event.seq <= self.received[-1]:
            observer.report("P8", f"{self.name} receives event {event.seq} after {self.received[-1]}")
        if not self.filter and event.seq != self.position + 1:
            observer.report("P8", f"{self.name} receives event {event.seq} at position {self.position}")
        self.received.append(event.seq)
        body = _encode(as_stored(event))
        if observer.clients.events.setdefault(event.seq, body) != body:
            observer.report("P6", f"event {event.seq} is delivered with two contents")
